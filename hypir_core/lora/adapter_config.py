"""What PEFT and diffusers write about an adapter: rank and alpha, of all modules or of some.

Two places hold the same fields. diffusers writes them as JSON into the file's metadata
(`lora_adapter_metadata`), where they may be preceded by the network's name (``unet.r``). PEFT writes
``adapter_config.json`` beside ``adapter_model.safetensors``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..weights.file_names import is_weight_file
from .kinds import not_a_plain_lora

METADATA_KEY = "lora_adapter_metadata"
CONFIG_FILE = "adapter_config.json"
WEIGHT_STEM = "adapter_model"
"""Name of the weight file that belongs to a `CONFIG_FILE`, without its ending."""

_CHANGED_BASE = ("pissa", "olora", "corda", "loftq")
"""Ways to start a LoRA that change the weights of the base model as well; PEFT can convert them to a plain one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """Rank and alpha as PEFT states them."""

    source: str
    """Where it is stated, for messages."""
    rank: int | None
    """None: not stated."""
    alpha: float
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Ranks of some modules, by a regular expression for the end of their names."""
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    """Endings of the modules that it adapts; empty where it does not list them."""

    def rank_of(self, module: str) -> int | None:
        """Return the stated rank of a module."""
        return _by_pattern(self.rank_pattern, module, self.rank)

    def alpha_of(self, module: str) -> float:
        """Return the stated alpha of a module."""
        return _by_pattern(self.alpha_pattern, module, self.alpha)


def adapter_in_metadata(metadata: Mapping[str, str], where: str | Path) -> AdapterConfig | None:
    """Read a file's `lora_adapter_metadata`; None: it has none, or none about a UNet.

    Raises:
        WeightsError: it cannot be read, or states no alpha.
        SpecMismatchError: it describes another kind of adapter.
    """
    if METADATA_KEY not in metadata:
        return None
    data = _json_object(metadata[METADATA_KEY], f"{where}: {METADATA_KEY}")
    unet = {name.removeprefix("unet."): value for name, value in data.items() if name.startswith("unet.")}
    plain = {name: value for name, value in data.items() if "." not in name}
    if not (unet or plain):
        return None
    return _adapter(unet or plain, METADATA_KEY, where)


def adapter_beside(path: Path) -> AdapterConfig | None:
    """Read the `adapter_config.json` that belongs to a weight file; None: there is none.

    It belongs to ``adapter_model.*``, and in a folder without that file to the only weight file.

    Raises:
        WeightsError: it cannot be read, states no alpha, or may belong to several files.
        SpecMismatchError: it describes another kind of adapter.
    """
    file = path.with_name(CONFIG_FILE)
    if not file.is_file():
        return None
    if path.stem != WEIGHT_STEM:
        others = [p for p in file.parent.iterdir() if p.name != path.name and is_weight_file(p)]
        if any(other.stem == WEIGHT_STEM for other in others):
            return None
        if others:
            raise WeightsError(
                f"{path}: cannot tell whether {CONFIG_FILE} in its folder describes it or {others[0].name}; "
                f"put the LoRA and its {CONFIG_FILE} into a folder of their own"
            )
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as err:
        raise WeightsError(f"{file}: cannot be read ({err}); get the file again") from err
    return _adapter(_json_object(text, str(file)), f"{CONFIG_FILE} beside it", path)


def _adapter(data: Mapping[str, Any], source: str, where: str | Path) -> AdapterConfig:
    kind = str(data.get("peft_type") or "LORA").rpartition(".")[2].upper()
    if kind != "LORA":
        raise not_a_plain_lora(where, f"an adapter of the kind {kind}", f"peft_type in {source}")
    for name, meaning in (("use_dora", "DoRA"), ("use_rslora", "rsLoRA"), ("use_qalora", "QA-LoRA")):
        if data.get(name):
            raise not_a_plain_lora(where, meaning, f"{name} in {source}")
    start = str(data.get("init_lora_weights", "")).lower()
    if start.startswith(_CHANGED_BASE):
        raise not_a_plain_lora(
            where, f"{start}, which also changes the base model", f"init_lora_weights in {source}"
        )
    rank, alpha = data.get("r"), data.get("lora_alpha")
    ranks, alphas = data.get("rank_pattern") or {}, data.get("alpha_pattern") or {}
    targets = data.get("target_modules")
    wrong = [
        f"{name} = {value!r}"
        for name, value, good in (
            ("r", rank, rank is None or _is_rank(rank)),
            ("lora_alpha", alpha, _is_positive(alpha)),
            ("rank_pattern", ranks, _is_pattern(ranks) and all(map(_is_rank, ranks.values()))),
            ("alpha_pattern", alphas, _is_pattern(alphas) and all(map(_is_positive, alphas.values()))),
        )
        if not good
    ]
    if wrong:
        raise WeightsError(
            f"{where}: expected rank and alpha in {source}, got {', '.join(wrong)}; without them the LoRA's "
            "strength would be a guess: get the file again, or use another one"
        )
    return AdapterConfig(
        source=source,
        rank=rank,
        alpha=float(alpha or 0),
        rank_pattern=ranks,
        alpha_pattern=alphas,
        targets=tuple(map(str, targets)) if isinstance(targets, list) else (),
    )


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """Return what the first pattern that fits a module states: PEFT's rule."""
    return next(
        (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)),
        default,
    )


def _is_pattern(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    try:
        for key in value:
            re.compile(key)
    except (re.error, TypeError):
        return False
    return True


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as err:
        raise WeightsError(f"{where}: not valid JSON ({err}); get the file again") from err
    if not isinstance(data, dict):
        raise WeightsError(f"{where}: expected a JSON object, got {type(data).__name__}; get the file again")
    return data
