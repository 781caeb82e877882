"""How strong a LoRA is: by what the product B·A of each module is multiplied.

The scale of a module is alpha / rank. Its alpha is looked for in this order; the first place that states one wins:

1. an ``.alpha`` tensor of the module (kohya, ComfyUI, LyCORIS),
2. our own `hypir.spec` in the metadata, which states alpha / rank of all modules,
3. `lora_adapter_metadata` in the metadata (diffusers),
4. ``adapter_config.json`` beside the file (PEFT),
5. `ss_network_dim`, `ss_network_alpha` and, for convolutions larger than 1×1, `conv_dim` and `conv_alpha` of
   `ss_network_args` in the metadata (kohya's trainer).

Where none of them does, alpha = rank, that is scale 1: the published one-step LoRA was trained so and its file does
not say it, and ComfyUI and kohya's tools read such a file so. A note says that this was assumed. A place
that states something which does not fit the tensors is an error, not passed over.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import SpecMismatchError, WeightsError
from ..weights import spec as weights_spec
from ..weights.spec import LoraSpec
from ..weights.tensors import listed
from .adapter_config import AdapterConfig
from .kinds import not_a_plain_lora

_ALPHA_TOLERANCE = 1e-2
"""How far an alpha tensor, perhaps rounded to 16 bits, may lie from the alpha that the spec states."""

_KOHYA_ALPHA, _KOHYA_RANK, _KOHYA_ARGS = "ss_network_alpha", "ss_network_dim", "ss_network_args"
_KOHYA_PER_BLOCK = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas")


@dataclass(frozen=True, kw_only=True, slots=True)
class Strength:
    """Rank and scale of a LoRA's modules."""

    rank: int
    """Of most modules."""
    alpha: float
    """alpha / rank is the scale of every module that `scales` does not name."""
    scales: Mapping[str, float]
    notes: tuple[str, ...]
    """What was assumed."""


@dataclass(frozen=True, slots=True)
class _Statement:
    """What one place states: rank (None: nothing) and alpha of a module."""

    source: str
    of: Callable[[str], tuple[int | None, float]]


def strength_of(
    pairs: Mapping[str, tuple[Tensor, Tensor]],
    alphas: Mapping[str, float],
    *,
    spec: LoraSpec | None,
    adapter: AdapterConfig | None,
    metadata: Mapping[str, str],
    where: str | Path,
) -> Strength:
    """Decide the scale of every module.

    Args:
        pairs: module → (down, up), checked to be low-rank products.
        alphas: module → alpha, from tensors.
        spec: from `hypir.spec`.
        adapter: what PEFT or diffusers state, from the metadata or from beside the file.
        metadata: of the file, for kohya's entries.
        where: names the file in errors.

    Raises:
        SpecMismatchError: a statement does not fit the tensors.
        WeightsError: a statement cannot be read.
    """
    ranks = {module: down.shape[0] for module, (down, _) in pairs.items()}
    if spec is not None:
        _check_spec(spec, ranks, alphas, where)
    statement = None
    if len(alphas) < len(pairs):
        statement = _statement(pairs, spec=spec, adapter=adapter, metadata=metadata, where=where)
    found = dict(alphas)
    notes: tuple[str, ...] = ()
    silent = [module for module in pairs if module not in alphas]
    if statement is not None:
        stated = {module: statement.of(module) for module in silent}
        wrong = [
            f"{module}: {rank} stated, {ranks[module]} found"
            for module, (rank, _) in stated.items()
            if rank not in {None, ranks[module]}
        ]
        if wrong:
            raise SpecMismatchError(
                f"{where}: expected the ranks that are stated by {statement.source}, got another rank in "
                f"{listed(wrong)}; its alpha would mean another strength: use the file as it was trained, or one "
                "with alpha tensors"
            )
        found |= {module: alpha for module, (_, alpha) in stated.items()}
    elif silent:
        some = "" if len(silent) == len(pairs) else f" for {listed(silent)} of {len(pairs)} modules"
        notes = (
            f"the LoRA's alpha is not stated{some}: alpha = rank is assumed (scale 1), as in the published "
            "one-step LoRA",
        )
        found |= {module: float(ranks[module]) for module in silent}
    return _summed_up(ranks, found, spec, notes)


def _summed_up(
    ranks: Mapping[str, int], alphas: Mapping[str, float], spec: LoraSpec | None, notes: tuple[str, ...]
) -> Strength:
    """Find the rank and scale of most modules; the others are named."""
    scale_of = {module: alphas[module] / rank for module, rank in ranks.items()}
    rank = spec.rank if spec else Counter(ranks.values()).most_common(1)[0][0]
    usual = Counter(scale_of.values()).most_common(1)[0][0]
    # Dividing and multiplying again may lose the last bit: where a module states it, alpha is taken as it stands.
    alpha = next(
        (alphas[m] for m, scale in scale_of.items() if scale == usual and ranks[m] == rank), usual * rank
    )
    return Strength(
        rank=rank,
        alpha=alpha,
        scales={module: scale for module, scale in scale_of.items() if scale != alpha / rank},
        notes=notes,
    )


def _check_spec(
    spec: LoraSpec, ranks: Mapping[str, int], alphas: Mapping[str, float], where: str | Path
) -> None:
    stated = f"stated by its own {weights_spec.METADATA_KEY}"
    if spec.rank not in ranks.values():
        got = listed(sorted({str(rank) for rank in ranks.values()}))
        raise SpecMismatchError(
            f"{where}: does not fit: expected rank {spec.rank}, {stated}, got {got} in {len(ranks)} modules; "
            "get the file again"
        )
    if alphas and not any(math.isclose(a, spec.alpha, rel_tol=_ALPHA_TOLERANCE) for a in alphas.values()):
        got = listed([f"{value:g}" for value in sorted(set(alphas.values()))])
        raise SpecMismatchError(
            f"{where}: does not fit: expected alpha {spec.alpha:g}, {stated}, got {got} in its alpha tensors; "
            "get the file again"
        )


def _statement(
    pairs: Mapping[str, tuple[Tensor, Tensor]],
    *,
    spec: LoraSpec | None,
    adapter: AdapterConfig | None,
    metadata: Mapping[str, str],
    where: str | Path,
) -> _Statement | None:
    if spec is not None:
        return _Statement(
            weights_spec.METADATA_KEY,
            lambda module: (None, _alpha_by_spec(spec, pairs[module][0].shape[0])),
        )
    if adapter is not None:
        return _Statement(adapter.source, lambda module: (adapter.rank_of(module), adapter.alpha_of(module)))
    if _KOHYA_ALPHA in metadata:
        return _kohya(pairs, metadata, where)
    return None


def _alpha_by_spec(spec: LoraSpec, rank: int) -> float:
    return spec.alpha if rank == spec.rank else spec.alpha / spec.rank * rank


def _kohya(
    pairs: Mapping[str, tuple[Tensor, Tensor]], metadata: Mapping[str, str], where: str | Path
) -> _Statement:
    """Read what kohya's trainer states. Its 1×1 convolutions have the rank and alpha of the Linear layers."""
    args = _kohya_args(metadata, where)
    if _is_true(args.get("rs_lora")):
        raise not_a_plain_lora(where, "rsLoRA", f"rs_lora in {_KOHYA_ARGS}")
    if _is_true(args.get("dora_wd")):
        raise not_a_plain_lora(where, "DoRA", f"dora_wd in {_KOHYA_ARGS}")
    per_block = [name for name in _KOHYA_PER_BLOCK if args.get(name)]
    if per_block:
        raise WeightsError(
            f"{where}: {', '.join(per_block)} in {_KOHYA_ARGS} give every block another strength, and the file "
            "has no alpha tensors; use the file as the trainer wrote it"
        )
    rank = metadata.get(_KOHYA_RANK)
    plain = (
        None if rank is None else int(_number(rank, _KOHYA_RANK, where)),
        _number(metadata[_KOHYA_ALPHA], _KOHYA_ALPHA, where),
    )
    conv = plain
    if args.get("conv_dim") is not None:
        # The trainer's own default for conv_alpha.
        conv = (
            int(_number(args["conv_dim"], "conv_dim", where)),
            _number(args.get("conv_alpha", 1.0), "conv_alpha", where),
        )

    def of(module: str) -> tuple[int | None, float]:
        down = pairs[module][0]
        return conv if down.ndim == 4 and tuple(down.shape[2:]) != (1, 1) else plain

    return _Statement(f"{_KOHYA_RANK} and {_KOHYA_ALPHA}", of)


def _kohya_args(metadata: Mapping[str, str], where: str | Path) -> dict[str, Any]:
    text = metadata.get(_KOHYA_ARGS)
    if text is None:
        return {}
    try:
        args = json.loads(text)
    except ValueError as err:
        raise WeightsError(f"{where}: {_KOHYA_ARGS} is not valid JSON ({err}); get the file again") from err
    return args if isinstance(args, dict) else {}


def _number(value: Any, name: str, where: str | Path) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise WeightsError(
            f"{where}: expected a number in {name}, got {value!r}, and the file has no alpha tensors; its strength "
            "would be a guess: use the file as the trainer wrote it"
        )
    return number


def _is_true(value: Any) -> bool:
    return str(value).lower() in {"true", "1", "1.0"}
