"""UNet names in Stable Diffusion's two packagings: diffusers folders and single-file (ldm) checkpoints.

Both store the same tensors. The ldm layout numbers the blocks of a UNet with L resnets per level straight
through: ``input_blocks.0`` is the first convolution, then every level has L resnets (each with its attention,
if any) and, except for the last level, a downsampler; ``output_blocks`` hold L + 1 resnets per level, the
last one of a level together with the upsampler. The numbers therefore follow from the names alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import WeightsError

LDM_UNET_PREFIX = "model.diffusion_model."
"""What precedes the UNet's names in a full single-file checkpoint."""

LDM_VAE_PREFIX = "first_stage_model."
LDM_TEXT_PREFIX = "cond_stage_model."

UNET_PREFIXES = (LDM_UNET_PREFIX, "diffusion_model.", "")
"""What may precede the UNet's ldm names in a file."""

LDM_ROOTS = ("input_blocks.", "middle_block.", "output_blocks.", "out.", "time_embed.", "label_emb.")
"""How the ldm names of a UNet's parts begin."""

_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_INSIDE_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def ldm_names(diffusers_names: Iterable[str]) -> dict[str, str]:
    """Map diffusers UNet names (modules or tensors) to ldm names, without `LDM_UNET_PREFIX`.

    Raises:
        WeightsError: a name that is not a part of a Stable Diffusion UNet.
    """
    names = list(diffusers_names)
    return _rename(names, _block_names(_structure_of_diffusers(names)), _INSIDE_RESNET, "diffusers")


def diffusers_names(ldm_names: Iterable[str]) -> dict[str, str]:
    """Map ldm UNet names (without `LDM_UNET_PREFIX`) to diffusers names; the inverse of `ldm_names`.

    Raises:
        WeightsError: a name that is not a part of a Stable Diffusion UNet.
    """
    names = list(ldm_names)
    blocks = _block_names(_structure_of_ldm(names))
    inverse = {ldm: diffusers for diffusers, ldm in blocks.items()}
    return _rename(names, inverse, {ldm: diffusers for diffusers, ldm in _INSIDE_RESNET.items()}, "ldm")


def ldm_controlnet_names(diffusers_names: Iterable[str]) -> dict[str, str]:
    """Map diffusers ControlNet names to those of the original release, without ``control_model.``.

    Raises:
        WeightsError: a name that is not a part of a ControlNet of Stable Diffusion.
    """
    names = list(diffusers_names)
    last = max((int(m[1]) for n in names if (m := re.match(rf"{_HINT}blocks\.(\d+)\.", n))), default=-1) + 1
    own: dict[str, str] = {}
    for name in names:
        if m := re.match(rf"{_HINT}(conv_in|conv_out|blocks\.(\d+))\.(.+)", name):
            number = 0 if m[1] == "conv_in" else last + 1 if m[1] == "conv_out" else int(m[2]) + 1
            own[name] = f"input_hint_block.{2 * number}.{m[3]}"
        elif m := re.match(r"controlnet_down_blocks\.(\d+)\.(.+)", name):
            own[name] = f"zero_convs.{m[1]}.0.{m[2]}"
        elif m := re.match(r"controlnet_mid_block\.(.+)", name):
            own[name] = f"middle_block_out.0.{m[1]}"
    return own | ldm_names(name for name in names if name not in own)


_HINT = r"controlnet_cond_embedding\."


def unet_names(names: Iterable[str]) -> dict[str, str] | None:
    """Find a UNet among the tensor names of a file, in any packaging.

    Returns:
        diffusers name → name in the file; None: there is no UNet of Stable Diffusion in it.

    Raises:
        WeightsError: a name below the UNet's prefix that is not a part of it.
    """
    there = list(names)
    if "conv_in.weight" in there:
        return {name: name for name in there}
    prefix = next((p for p in UNET_PREFIXES if f"{p}input_blocks.0.0.weight" in there), None)
    if prefix is None:
        return None
    inside = [name.removeprefix(prefix) for name in there if name.startswith(prefix)]
    if not prefix:
        inside = [name for name in inside if name.startswith(LDM_ROOTS)]
    return {new: prefix + old for old, new in diffusers_names(inside).items()}


@dataclass(frozen=True, slots=True)
class _Structure:
    layers: int
    """Resnets per level on the way down; one more on the way up."""
    levels: int
    up_attention: frozenset[int]
    """Levels, in diffusers' order on the way up, whose resnets have attentions."""


def _structure_of_diffusers(names: list[str]) -> _Structure:
    levels = [int(m[1]) for name in names if (m := re.match(r"(?:down|up)_blocks\.(\d+)\.", name))]
    down = [int(m[1]) for name in names if (m := re.match(r"down_blocks\.\d+\.resnets\.(\d+)\.", name))]
    attention = {int(m[1]) for name in names if (m := re.match(r"up_blocks\.(\d+)\.attentions\.", name))}
    return _Structure(max(down, default=0) + 1, max(levels, default=0) + 1, frozenset(attention))


def _structure_of_ldm(names: list[str]) -> _Structure:
    outputs = [int(m[1]) for name in names if (m := re.match(r"output_blocks\.(\d+)\.", name))]
    downs = [int(m[1]) for name in names if (m := re.match(r"input_blocks\.(\d+)\.0\.op(?:\.|$)", name))]
    per_level = min(downs, default=max(outputs, default=0) + 1)
    attention = {
        int(m[1]) // per_level
        for name in names
        if (
            m := re.match(
                r"output_blocks\.(\d+)\.1\.(?:norm|proj_in|proj_out|transformer_blocks)(?:\.|$)", name
            )
        )
    }
    return _Structure(per_level - 1, (max(outputs, default=0) + per_level) // per_level, frozenset(attention))


def _block_names(structure: _Structure) -> dict[str, str]:
    """Return diffusers block name → ldm block name for every resnet, attention and sampler there can be."""
    names = dict(_OUTER)
    per_level = structure.layers + 1
    for level in range(structure.levels):
        for layer in range(structure.layers):
            block = 1 + level * per_level + layer
            names[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{block}.0"
            names[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{block}.1"
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{(level + 1) * per_level}.0.op"
        for layer in range(per_level):
            block = level * per_level + layer
            names[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{block}.0"
            if level in structure.up_attention:
                names[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{block}.1"
        slot = 2 if level in structure.up_attention else 1
        sampler = f"output_blocks.{level * per_level + structure.layers}.{slot}.conv"
        names[f"up_blocks.{level}.upsamplers.0.conv"] = sampler
    return names


def _rename(
    names: list[str], blocks: dict[str, str], inside_resnet: dict[str, str], layout: str
) -> dict[str, str]:
    out: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        heads = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        block = next((head for head in heads if head in blocks), None)
        if block is None:
            raise WeightsError(
                f"{name}: is not a {layout} name of a Stable Diffusion UNet; check which model this is"
            )
        rest = name[len(block) :]
        if "resnets" in block or "resnets" in blocks[block]:
            rest = _rename_inside(rest, inside_resnet)
        out[name] = blocks[block] + rest
    return out


def _rename_inside(rest: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        if rest == f".{old}" or rest.startswith(f".{old}."):
            return f".{new}{rest[len(old) + 1 :]}"
    return rest
