"""What a report says about a finished scene: holes, values beyond the number format, damaged planes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from ..files.scenes.scene import Scene
from ..tiling.geometry import by
from .walk import StripSink

CLIPPED_SHARE = 0.05
"""More values than this beyond the number format deserve a warning."""

NAMED_PLANES = 8
"""So many planes with holes are named; of more, the first."""


def damaged_planes(sink: StripSink) -> str:
    """Return what was wrong with the planes that could not be read; nothing where all could."""
    found = [f"{why}" for _, why in sink.facts.get("damaged", [])]
    more = f" (and {len(found) - 1} more planes)" if len(found) > 1 else ""
    return found[0] + more if found else ""


def facts_of(scene: Scene, sink: StripSink, cells: int) -> Iterator[str]:
    """Yield what a report says about holes and clipped values."""
    total = prod(sink.grid.sizes)
    groups = len(sink.grid.bands) if sink.order.separate else 1
    if holes := int(sink.facts.get("holes", 0)):
        yield (
            f"{holes // groups // cells} of {prod(scene.grid.sizes)} cells have no data: filled for the network, "
            f"without data in the result{_named(sink)}"
        )
    if beyond := int(sink.facts.get("beyond", 0)):
        share = beyond / (total * len(sink.grid.bands))
        much = " (a warning: choose weights whose range fits the scene)" if share > CLIPPED_SHARE else ""
        yield f"{beyond} values ({share:.2%}) were beyond {sink.grid.dtype} and became its limits{much}"
    sizes = by(sink.grid.sizes)
    if sink.order.separate:
        yield f"each of {scene.channels} channels went through the network for itself, {sizes}"


def _named(sink: StripSink) -> str:
    """Return which planes of a stack have holes, counted from 0 as the file does."""
    outer = sink.grid.axes[: sink.order.loops]
    places = sink.facts.get("hole_planes", [])
    if not outer or not places:
        return ""
    named = [
        " ".join(f"{a} {i}" for a, i in zip(outer, place, strict=True)) for place in places[:NAMED_PLANES]
    ]
    more = f" and {len(places) - len(named)} more" if len(places) > len(named) else ""
    return f" (at {', '.join(named)}{more})"
