"""Widgets that several nodes share; their defaults are those of the core's dataclasses."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

from ..hypir_core.color.mode import ColorFix
from ..hypir_core.image.size import MAX_SCALE, MAX_SIDE_PX, TargetSize
from ..hypir_core.request import Request
from .host.schema import advanced, io

AUTO = "automatic"

CATEGORY = "image/upscaling"


class SizeRule(str, Enum):
    """What decides the size of the result."""

    model = "as the model enlarges"
    scale = "scale"
    longest_side = "longest side"
    shortest_side = "shortest side"
    megapixels = "megapixels"


SIZE_DEFAULTS = {"scale": 2.0, "longest_side_px": 2048, "megapixels": 4.0}

BUILT_IN: tuple[str, ...] = ("built-in", "built-in-sharp")
"""The restorers inside the plugin; the first is the usual one."""


def default_of(cls: type, name: str) -> Any:
    """Return the default of a dataclass field."""
    return next(field.default for field in dataclasses.fields(cls) if field.name == name)


def size_inputs() -> list[Any]:
    """Return the rule of the result's size and its three numbers; `web/onestep.js` shows the one in use."""
    return [
        io.Combo.Input(
            "size_rule",
            options=SizeRule,
            default=SizeRule.model,
            tooltip="What decides the size of the result; its number stands below. 'as the model enlarges' is ×4 "
            "for most models.",
        ),
        io.Float.Input(
            "scale",
            default=SIZE_DEFAULTS["scale"],
            min=1.0,
            max=MAX_SCALE,
            step=0.05,
            tooltip="Factor on both sides, 1 to 8. Used when size_rule is 'scale'.",
        ),
        io.Int.Input(
            "longest_side_px",
            display_name="side (px)",
            default=SIZE_DEFAULTS["longest_side_px"],
            min=64,
            max=MAX_SIDE_PX,
            step=8,
            tooltip="Length of that side of the result in pixels. Used when size_rule is 'longest side' or 'shortest "
            "side'.",
        ),
        io.Float.Input(
            "megapixels",
            default=SIZE_DEFAULTS["megapixels"],
            min=0.1,
            max=256.0,
            step=0.1,
            tooltip="Area of the result in million pixels. Used when size_rule is 'megapixels'.",
        ),
    ]


def target_of(size_rule: str, scale: float, longest_side_px: int, megapixels: float) -> TargetSize:
    """Return what the four widgets of `size_inputs` ask for."""
    rule = SizeRule(size_rule)
    return TargetSize(
        scale=scale if rule is SizeRule.scale else None,
        longest_side_px=longest_side_px if rule is SizeRule.longest_side else None,
        shortest_side_px=longest_side_px if rule is SizeRule.shortest_side else None,
        megapixels=megapixels if rule is SizeRule.megapixels else None,
    )


def tile_inputs() -> list[Any]:
    """Return tile side and overlap."""
    return [
        advanced(
            io.Int.Input(
                "tile_px",
                default=0,
                min=0,
                max=4096,
                step=64,
                tooltip="Side of a tile in pixels of the result. 0 takes what suits the model. Smaller needs "
                "less memory and more time; if memory runs out, it is halved by itself.",
            )
        ),
        advanced(
            io.Int.Input(
                "overlap_px",
                default=0,
                min=0,
                max=1024,
                step=8,
                tooltip="Least overlap of neighbouring tiles in pixels of the result. 0 takes what suits the model.",
            )
        ),
    ]


def color_fix_inputs(*, default: str) -> list[Any]:
    """Return mode and strength of the colour fix; `default` may be AUTO."""
    modes = [mode.value for mode in ColorFix]
    automatic = [AUTO] if default == AUTO else []
    return [
        io.Combo.Input(
            "color_fix",
            options=[*automatic, *modes],
            default=default,
            tooltip="What is taken from the reference. wavelet: tone and colour of large areas. adain: mean and "
            "spread of each channel. lab: colour without lightness. histogram: the distribution of each channel. "
            "none: nothing.",
        ),
        io.Float.Input(
            "color_strength",
            default=default_of(Request, "color_strength"),
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="0 leaves the colours as they are, 1 is the full colour fix.",
        ),
    ]


def color_fix_of(name: str) -> ColorFix | None:
    """Return the mode of a name; None for AUTO."""
    return None if name == AUTO else ColorFix(name)


def words_and_strength() -> list[Any]:
    """Return the prompt, and how much of the result is taken."""
    return [
        io.String.Input(
            "prompt",
            default=default_of(Request, "prompt"),
            multiline=True,
            tooltip="What the picture shows, for MODEL with CLIP. Empty is a good choice; words about "
            "quality make it worse.",
        ),
        io.Float.Input(
            "strength",
            default=default_of(Request, "strength"),
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="0 gives the resized picture back, 1 the restored one.",
        ),
    ]


def model_inputs() -> list[Any]:
    """Return the sockets that choose an engine, and which one works where nothing is connected."""
    return [
        io.UpscaleModel.Input(
            "upscale_model", optional=True, tooltip="A super-resolution model to use instead."
        ),
        io.Model.Input(
            "model", optional=True, tooltip="SD 2.1-base with Load HYPIR LoRA: one diffusion step."
        ),
        io.Clip.Input("clip", optional=True, tooltip="Reads the prompt. Connect this or conditioning."),
        io.Conditioning.Input("conditioning", optional=True, tooltip="A ready prompt, instead of CLIP."),
        io.Vae.Input("vae", optional=True, tooltip="The model's VAE."),
        # Saved workflows hold widgets by their order: a new one is the last.
        advanced(
            io.Combo.Input(
                "built_in",
                options=list(BUILT_IN),
                default=BUILT_IN[0],
                optional=True,
                tooltip="Which restorer works where no model is connected. built-in is faithful; "
                "built-in-sharp is crisper, for pictures that are small rather than ruined.",
            )
        ),
    ]
