"""LoRA files: read in any naming into one canonical form, checked strictly, and written.

Conventions: ``down`` is A, ``up`` is B; the weight change is alpha / rank · B·A. A file without alpha means
alpha = rank, as the published one-step LoRA does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError, SpecMismatchError, WeightsError
from ..weights.spec import METADATA_KEY, LoraSpec, spec_from_metadata, spec_to_metadata
from ..weights.tensors import check_finite, listed, read_tensors, write_original_pth, write_tensors
from .names import TARGET_MODULES, LoraForm, LoraKey, WeightShape, adapted_modules, key_name, parse_keys

# One key of an earlier form decides: outside of attentions, ComfyUI's names look like diffusers'.
_TELLING_FORMS = (LoraForm.comfyui, LoraForm.kohya, LoraForm.original, LoraForm.diffusers)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lora:
    """Low-rank changes of a UNet's weights, by the diffusers path of the module."""

    factors: Mapping[str, tuple[Tensor, Tensor]]
    """Module → (down, up): Linear (rank, in), (out, rank); Conv2d (rank, in, kh, kw), (out, rank, 1, 1)."""
    rank: int
    alpha: float
    spec: LoraSpec | None = None
    """What the file says about itself; None for one that does not say."""
    form: LoraForm | None = None
    """How the file it came from writes its names."""
    path: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return self.alpha / self.rank

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Which modules this LoRA claims to adapt, as endings of their names."""
        return self.spec.target_modules if self.spec else TARGET_MODULES


def read_lora(path: str | Path, modules: Mapping[str, WeightShape] | None = None) -> Lora:
    """Read a LoRA file in any known naming, .safetensors or .pth.

    Args:
        path: the file.
        modules: name → weight shape of the UNet's Linear and Conv2d modules (`adaptable_modules`); the LoRA
            is then checked against them (`check_lora`). Without it only the file itself is checked, and names
            that are ambiguous on their own (kohya's) are refused.

    Raises:
        WeightsError: the file cannot be read, is no LoRA, or holds NaN or infinity.
        SpecMismatchError: it does not fit the UNet, its own spec, or itself; lists what differs.
    """
    file = read_tensors(path)
    lora = lora_from_tensors(file.tensors, file.metadata, modules, where=file.path)
    return replace(lora, path=file.path)


def lora_from_tensors(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    modules: Mapping[str, WeightShape] | None = None,
    *,
    where: str | Path,
) -> Lora:
    """Do what `read_lora` does for named tensors in memory; `where` names them in errors."""
    keys = parse_keys(tensors, modules or ())
    if not any(keys.values()):
        raise WeightsError(
            f"{where}: expected a LoRA, with keys like X.lora_A.weight or lora_unet_X.lora_down.weight; "
            f"got {listed(list(tensors))} other tensors; give a LoRA file"
        )
    if modules is None and any(key and key.form is LoraForm.kohya for key in keys.values()):
        raise WeightsError(
            f"{where}: underscore names can only be resolved with the UNet's modules; give the base model"
        )
    check_finite(tensors, where)
    spec = _spec(metadata, where)
    pairs, alphas = _pair_up(tensors, keys, where)
    rank = _rank(pairs, spec, where)
    lora = Lora(
        factors=pairs,
        rank=rank,
        alpha=_alpha(pairs, alphas, rank, spec, where),
        spec=spec,
        form=next(form for form in _TELLING_FORMS if any(key and key.form is form for key in keys.values())),
    )
    if modules is not None:
        check_lora(lora, modules, where=where)
    return lora


def check_lora(lora: Lora, modules: Mapping[str, WeightShape], *, where: str | Path) -> None:
    """Check that a LoRA adapts exactly the modules it should, with factors that fit their weights.

    Args:
        lora: the LoRA.
        modules: name → weight shape of the UNet's Linear and Conv2d modules, adapted or not.
        where: names the LoRA in errors.

    Raises:
        SpecMismatchError: lists the missing and unexpected modules and the wrong shapes.
    """
    expected = adapted_modules(modules, lora.target_modules)
    missing = [name for name in expected if name not in lora.factors]
    unexpected = [name for name in lora.factors if name not in expected]
    wrong = [
        f"{name}: expected {_text(want)}, got {_text(got)}"
        for name, shape in expected.items()
        if name in lora.factors
        and (want := factor_shapes(shape, lora.rank)) != (got := _shapes(lora.factors[name]))
    ]
    problems = {"missing modules": missing, "unexpected modules": unexpected, "modules of wrong shape": wrong}
    _raise(
        where,
        problems,
        f"expected {len(expected)} modules of rank {lora.rank}; it was made for another base model",
    )


def factor_shapes(weight: WeightShape, rank: int) -> tuple[WeightShape, WeightShape]:
    """Return the shapes of (down, up) for a weight (out, in) or (out, in, height, width)."""
    out, inner, *kernel = weight
    return (rank, inner, *kernel), (out, rank, *(1 for _ in kernel))


def write_lora(path: str | Path, lora: Lora, *, form: LoraForm) -> None:
    """Write a LoRA as safetensors with its spec in the metadata; equal LoRAs give equal bytes.

    A path that ends in ``.pth`` gets the published container instead (a pickled dict of tensors, `original`
    names only, no metadata).

    Raises:
        ConfigError: the ending is neither, or ``.pth`` with other names.
        WeightsError: the file cannot be written.
    """
    path = Path(path)
    tensors, metadata = lora_to_tensors(lora, form)
    if path.suffix == ".safetensors":
        write_tensors(path, tensors, metadata)
    elif path.suffix == ".pth" and form is LoraForm.original:
        write_original_pth(path, tensors)
    else:
        raise ConfigError(
            f"{path}: expected a name ending in .safetensors, or .pth (form original only); got {form.value}"
        )


def lora_to_tensors(lora: Lora, form: LoraForm) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the named tensors and the metadata of a LoRA file of `form`.

    Alpha is written only where it differs from the rank. The forms that have no place for it (`original`,
    `diffusers`) then get it multiplied into ``up``, so that every reader applies the same change.
    """
    if lora.scale != 1 and not form.keeps_alpha:
        folded = {
            name: (down, (up.float() * lora.scale).to(up.dtype)) for name, (down, up) in lora.factors.items()
        }
        lora = replace(lora, factors=folded, alpha=float(lora.rank))
    tensors: dict[str, Tensor] = {}
    for module, (down, up) in lora.factors.items():
        tensors[key_name(module, "down", form)] = down
        tensors[key_name(module, "up", form)] = up
        if lora.scale != 1:
            tensors[key_name(module, "alpha", form)] = torch.tensor(lora.alpha)
    spec = lora.spec and replace(lora.spec, rank=lora.rank, alpha=lora.alpha)
    return tensors, spec_to_metadata(spec) if spec else {}


def _spec(metadata: Mapping[str, str], where: str | Path) -> LoraSpec | None:
    if METADATA_KEY not in metadata:
        return None
    spec = spec_from_metadata(metadata, where)
    if not isinstance(spec, LoraSpec):
        raise SpecMismatchError(
            f"{where}: expected a LoRA, got a {spec.kind} by its own {METADATA_KEY}; give another file"
        )
    return spec


def _pair_up(
    tensors: Mapping[str, Tensor], keys: Mapping[str, LoraKey | None], where: str | Path
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, float]]:
    """Return module → (down, up) and module → alpha."""
    parts: dict[str, dict[str, Tensor]] = {}
    twice: list[str] = []
    for name, key in keys.items():
        if key is not None:
            module = parts.setdefault(key.module, {})
            twice += [name] if key.part in module else []
            module[key.part] = tensors[name]
    halves = {
        f"modules without {part}": [module for module, found in parts.items() if part not in found]
        for part in ("down", "up")
    }
    alphas = {module: found["alpha"] for module, found in parts.items() if "alpha" in found}
    problems = {
        "keys that are not LoRA keys": [name for name, key in keys.items() if key is None],
        "keys given twice": twice,
        **halves,
        "modules whose alpha is not one positive number": [
            module for module, alpha in alphas.items() if alpha.numel() != 1 or alpha.item() <= 0
        ],
    }
    _raise(where, problems, "expected one down and one up factor per module, and alpha at most once")
    pairs = {module: (found["down"], found["up"]) for module, found in parts.items()}
    return pairs, {module: float(alpha) for module, alpha in alphas.items()}


def _rank(pairs: Mapping[str, tuple[Tensor, Tensor]], spec: LoraSpec | None, where: str | Path) -> int:
    """Return the rank that the factors have, all of them the same and the one the spec states."""
    found = Counter(down.shape[0] for down, _ in pairs.values() if down.ndim)
    rank = spec.rank if spec else next((value for value, _ in found.most_common(1)), 0)
    wrong = [
        f"{module}: {_text(_shapes((down, up)))}"
        for module, (down, up) in pairs.items()
        if not _is_product(_shapes((down, up)), rank)
        or not (down.is_floating_point() and up.is_floating_point())
    ]
    source = f"rank {rank}, stated by its own {METADATA_KEY}" if spec else f"rank {rank} in every module"
    _raise(where, {"modules of another rank, shape or number format": wrong}, f"expected {source}")
    return rank


def _alpha(
    pairs: Iterable[str], alphas: Mapping[str, float], rank: int, spec: LoraSpec | None, where: str | Path
) -> float:
    """Return the one alpha: from the file's tensors, else its spec, else the rank."""
    if not alphas:
        return spec.alpha if spec else float(rank)
    values = {alphas.get(module, float(rank)) for module in pairs}
    if len(values) > 1 or (spec and values != {spec.alpha}):
        stated = f"; its {METADATA_KEY} states {spec.alpha:g}" if spec else ""
        got = listed([f"{value:g}" for value in sorted(values)])
        raise SpecMismatchError(
            f"{where}: expected one alpha for all modules, got {got}{stated}; use a LoRA with one alpha"
        )
    return values.pop()


def _is_product(shapes: tuple[WeightShape, WeightShape], rank: int) -> bool:
    """Whether (down, up) are a rank-`rank` factorisation of a Linear or Conv2d weight."""
    down, up = shapes
    if rank < 1 or len(down) != len(up) or len(down) not in {2, 4}:
        return False
    weight = (up[0], *down[1:])
    return shapes == factor_shapes(weight, rank)


def _shapes(pair: tuple[Tensor, Tensor]) -> tuple[WeightShape, WeightShape]:
    return tuple(pair[0].shape), tuple(pair[1].shape)


def _text(shapes: tuple[WeightShape, WeightShape]) -> str:
    return " and ".join("×".join(map(str, shape)) or "a single number" for shape in shapes)


def _raise(where: str | Path, problems: Mapping[str, list[str]], expected: str) -> None:
    found = [f"{kind}: {listed(names)}" for kind, names in problems.items() if names]
    if found:
        raise SpecMismatchError(f"{where}: does not fit: {'; '.join(found)}; {expected}")
