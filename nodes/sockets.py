"""What is connected to Restore Image, and what is asked for and not used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..hypir_core.color.mode import ColorFix
from ..hypir_core.request import Request
from ..hypir_core.tiling.plan import TileWish
from .inputs import BUILT_IN, SIZE_DEFAULTS, SizeRule, color_fix_of, default_of, target_of

WORDLESS = {"model": "CONDITIONING brings its own", "upscale_model": "an UPSCALE_MODEL reads no words"}


def problem_with(connected: Collection[str]) -> str | None:
    """Say why these sockets do not go together; None where they do."""
    if "model" not in connected:
        return None
    if "upscale_model" in connected:
        return "connect MODEL or UPSCALE_MODEL, not both"
    if "vae" not in connected:
        return "MODEL needs a VAE too; connect the one of its checkpoint"
    if not {"clip", "conditioning"} & set(connected):
        return "with MODEL, connect either CLIP or CONDITIONING"
    return None


def unused_sockets(connected: Collection[str]) -> tuple[str, ...]:
    """Return a note on the sockets that go together and are not all used."""
    if "model" in connected:
        return (
            ("CLIP is not used: CONDITIONING is connected",)
            if {"clip", "conditioning"} <= set(connected)
            else ()
        )
    idle = [name.upper() for name in ("clip", "conditioning", "vae") if name in connected]
    return (
        (f"{' and '.join(idle)} {'is' if len(idle) == 1 else 'are'} not used without MODEL",) if idle else ()
    )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The values of the widgets that Restore Image and Restore Clip share; some of them may have no effect."""

    size_rule: str
    scale: float
    longest_side_px: int
    megapixels: float
    prompt: str
    strength: float
    color_fix: str
    color_strength: float
    tile_px: int
    overlap_px: int
    built_in: str

    @property
    def numbers(self) -> Mapping[str, float]:
        """Those of the size, by their names."""
        return {name: getattr(self, name) for name in SIZE_DEFAULTS}

    def request(self) -> Request:
        """Return what is asked for."""
        return Request(
            target=target_of(self.size_rule, self.scale, self.longest_side_px, self.megapixels),
            prompt=self.prompt,
            tile=TileWish(tile_px=self.tile_px or None, overlap_px=self.overlap_px or None),
            color_fix=color_fix_of(self.color_fix),
            color_strength=self.color_strength,
            strength=self.strength,
        )


def connected_of(**sockets: Any) -> set[str]:
    """Return the names of the sockets that bring something."""
    return {name for name, value in sockets.items() if value is not None}


def unused_values(asked: Asked, connected: Collection[str], automatic: ColorFix) -> tuple[str, ...]:
    """Return a note on every widget that was set and has no effect; `automatic` is the engine's own colour fix."""
    notes, color_fix = [], color_fix_of(asked.color_fix)
    if asked.prompt.strip() and ("model" not in connected or "conditioning" in connected):
        engine = next((name for name in WORDLESS if name in connected), "")
        why = WORDLESS.get(engine, "the built-in restorer reads no words")
        notes.append(f"the prompt is not used: {why}")
    if asked.built_in != BUILT_IN[0] and {"model", "upscale_model"} & set(connected):
        notes.append("built_in is not used: another model is connected")
    numbers = [f"{name} {value:g}" for name, value in asked.numbers.items() if value != SIZE_DEFAULTS[name]]
    if numbers and asked.size_rule == SizeRule.model.value:
        verb = "is" if len(numbers) == 1 else "are"
        notes.append(f"{' and '.join(numbers)} {verb} not used: size_rule is '{asked.size_rule}'")
    strength_set = asked.color_strength != default_of(Request, "color_strength")
    if strength_set and (color_fix or automatic) is ColorFix.none:
        why = ", which is none for this model" if color_fix is None else ""
        notes.append(f"color_strength is not used: color_fix is '{asked.color_fix}'{why}")
    if asked.strength == 0:
        notes.append("strength is 0: the resized picture comes back")
    return tuple(notes)
