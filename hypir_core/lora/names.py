"""LoRA key names: the four ways in which people write them, and which modules a one-step LoRA adapts.

Every form is brought to one canonical form: the diffusers path of the module, and the part ``down`` (A),
``up`` (B) or ``alpha``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from torch import Tensor

from ..weights.ldm_names import LDM_ROOTS, UNET_PREFIXES, ldm_names
from ..weights.lora_targets import TARGET_MODULES

WeightShape: TypeAlias = tuple[int, ...]
"""Shape of a module's weight: Linear (out, in), Conv2d (out, in, height, width)."""

OF_VAE = "vae."
"""Begins the names of a VAE's tensors in a file that training here wrote; the VAE's own names follow."""


class LoraForm(str, Enum):
    """How a file writes its keys, shown for module ``a.attn1.to_q``."""

    original = "original"
    """``a.attn1.to_q.lora_A.default.weight`` (PEFT's training names)"""
    diffusers = "diffusers"
    """``unet.a.attn1.to_q.lora_A.weight``"""
    kohya = "kohya"
    """``lora_unet_a_attn1_to_q.lora_down.weight``, read by ComfyUI, A1111, Forge and kohya's tools"""
    comfyui = "comfyui"
    """``a.attn1.processor.to_q.lora_A.weight``"""

    @property
    def keeps_alpha(self) -> bool:
        """Whether readers of this form look for ``.alpha`` tensors."""
        return self in {LoraForm.kohya, LoraForm.comfyui}


@dataclass(frozen=True, slots=True)
class LoraKey:
    """One key, understood."""

    module: str
    """Diffusers path; for an underscore name that no known module has, that name itself."""
    part: str
    """``down``, ``up`` or ``alpha``."""
    form: LoraForm


def adapted_modules(
    modules: Mapping[str, WeightShape], targets: Iterable[str] = TARGET_MODULES
) -> dict[str, WeightShape]:
    """Pick the modules a target list adapts, by PEFT's rule: the name is an entry or ends with ``.entry``."""
    targets = tuple(targets)
    endings = tuple(f".{target}" for target in targets)
    return {name: shape for name, shape in modules.items() if name in targets or name.endswith(endings)}


def adaptable_modules(weights: Mapping[str, Tensor]) -> dict[str, WeightShape]:
    """Return name → shape of every Linear and Conv2d weight (2 or 4 axes) in a UNet's state dict."""
    return {
        name.removesuffix(".weight"): tuple(weight.shape)
        for name, weight in weights.items()
        if name.endswith(".weight") and weight.ndim in {2, 4}
    }


def parse_keys(keys: Iterable[str], modules: Iterable[str] = ()) -> dict[str, LoraKey | None]:
    """Understand LoRA keys; None stands for one that is not a LoRA key.

    Underscore and ldm names are ambiguous on their own and are looked up among `modules`, the UNet's modules.
    """
    aliases = _aliases(list(modules))
    return {key: _parse(key, aliases) for key in keys}


def key_name(module: str, part: str, form: LoraForm) -> str:
    """Write a canonical module and part as a key of `form`."""
    if form is LoraForm.kohya:
        stem = f"{_KOHYA_PREFIX}{module.replace('.', '_')}"
        return f"{stem}.alpha" if part == "alpha" else f"{stem}.lora_{part}.weight"
    if form is LoraForm.comfyui:
        module = _COMFYUI_ATTENTION.sub(r".processor.\1", module)
    stem = f"unet.{module}" if form is LoraForm.diffusers else module
    if part == "alpha":
        return f"{stem}.alpha"
    adapter = ".default" if form is LoraForm.original else ""
    return f"{stem}.lora_{'A' if part == 'down' else 'B'}{adapter}.weight"


_KOHYA_PREFIX = "lora_unet_"
_PREFIXES = ("base_model.model.", *filter(None, UNET_PREFIXES), "unet.")
_COMFYUI_ATTENTION = re.compile(r"\.(to_q|to_k|to_v|to_out)(?:\.0)?$")
_KEY = re.compile(
    r"(?P<stem>.+?)(?:"
    r"\.lora_(?P<letter>[AB])(?P<adapter>\.[^.]+)?\.weight"  # PEFT, diffusers
    r"|[._]lora(?:_|\.|_linear_layer\.)(?P<word>down|up)\.weight"  # kohya, older diffusers
    r"|\.(?P<alpha>alpha))"
)


def _parse(key: str, aliases: Mapping[str, str]) -> LoraKey | None:
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    part = "alpha" if match["alpha"] else match["word"] or ("down" if match["letter"] == "A" else "up")
    stem = match["stem"]
    if stem.startswith(_KOHYA_PREFIX):
        flat = stem.removeprefix(_KOHYA_PREFIX)
        return LoraKey(aliases.get(flat, flat), part, LoraForm.kohya)
    form = LoraForm.original if match["adapter"] else LoraForm.diffusers
    for prefix in _PREFIXES:
        stem = stem.removeprefix(prefix)
    if ".processor." in stem:
        form = LoraForm.comfyui if match["letter"] or match["alpha"] else LoraForm.diffusers
        stem = stem.replace(".processor.", ".")
        stem = f"{stem}.0" if stem.endswith(".to_out") else stem
    if stem.startswith(LDM_ROOTS):
        form, stem = LoraForm.comfyui, aliases.get(stem, stem)
    return LoraKey(stem, part, form)


def _aliases(modules: list[str]) -> dict[str, str]:
    """Return every underscore name and ldm name of the modules, with the module it stands for."""
    aliases = {name.replace(".", "_"): name for name in modules}
    for name, ldm in ldm_names(modules).items():
        aliases |= {ldm: name, ldm.replace(".", "_"): name}
    return aliases
