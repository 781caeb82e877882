"""The ranges of one picture: known before, or fitted on all of it before it is cut into tiles."""

from __future__ import annotations

from math import prod
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ...errors import ShapeError
from ...image.histogram import Statistics
from ...image.ranges import AnyRange, Range, RangeConfig, fit, notes_on
from ...tiling.geometry import Box, Readable

BAND_VALUES = 1 << 22
"""Values that are read at a time to fit a range."""

ROWS = 64
"""Of a tile whose values are brought back at a time."""


class Ranges(NamedTuple):
    """Of what the network takes, and of what it gives."""

    taken: AnyRange
    given: AnyRange


def ranges_of(
    image: Readable, taken: RangeConfig, given: RangeConfig | None
) -> tuple[Ranges, tuple[str, ...]]:
    """Return the ranges of a picture and what a report must say of them.

    The picture is read only where its values decide the numbers, or where a range may cut them or was fitted on others.

    Args:
        image: the whole picture.
        taken: the range of what the network takes.
        given: the range of what it gives; None: that of the input, with its numbers.
    """
    back = given or taken
    if not (taken.needs_scene or back.needs_scene):
        fixed = taken.fixed
        may_miss = image.images == 1 and (taken.clip or taken.saved is not None)
        notes = notes_on(fixed, statistics_of(image)) if may_miss else ()
        return Ranges(fixed, fixed if given is None else back.fixed), notes
    statistics = statistics_of(image)
    found = fit(taken, statistics)
    results = found if given is None else fit(given, statistics)
    missed = () if taken.needs_scene else notes_on(found, statistics)
    return Ranges(found, results), tuple(dict.fromkeys((*found.notes, *results.notes, *missed)))


def undone(given: AnyRange, made: Tensor, taken: Tensor) -> Tensor:
    """Return file values of what a network made of `taken`; without gradients in its memory, some rows at a time.

    A range computes in float64: of a whole tile that would take several times the memory of the network's result.
    """
    own = made.untyped_storage().data_ptr() != taken.untyped_storage().data_ptr()
    if not isinstance(given, Range) or torch.is_grad_enabled() or made.dtype != torch.float32 or not own:
        return given.undo(made)
    for rows in made.split(ROWS, 2):
        found = given.undo(rows)
        if found is not rows:
            rows.copy_(found)
    return made


@runtime_checkable
class Measured(Protocol):
    """A readable whose range is fitted on more, or on less, than it shows: all slices of a volume, no holes."""

    def statistics(self) -> Statistics:
        """Return what is known of the values that count."""
        ...


def statistics_of(image: Readable) -> Statistics:
    """Return the statistics of a picture at stride 1, read in bands along its first axis.

    A picture that is a part of something larger brings the statistics of that (`Measured`).

    Raises:
        ShapeError: there are several images; each would need a range of its own.
    """
    if image.images != 1:
        raise ShapeError(f"the range is fitted on one picture, got {image.images} at once; give one by one")
    if isinstance(image, Measured):
        return image.statistics()
    length, *others = image.sizes_px
    rows = max(1, BAND_VALUES // max(1, image.channels * prod(others)))
    found = Statistics()
    for start in range(0, length, rows):
        size = min(rows, length - start)
        found.add(image.crop(Box((start, *[0] * len(others)), (size, *others))))
    return found
