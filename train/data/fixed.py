"""Pairs for validation: whole pictures, the same every time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from torch import Tensor

from hypir_core.degrade import degrade
from hypir_core.errors import ConfigError, ImageFileError

from ..config import ValidationConfig
from ..config.checks import raise_all
from .axes import Scale, scales_of
from .batch import Batch
from .cropping import part
from .degrading import PLAIN, colour_problem, plainly_shrunk, recipe_for
from .levels import from_01, to_01
from .measured import Measured
from .opening import open_place
from .pictures import Fit
from .seeds import generator_for
from .source import COLOUR, Channels, Item, Source

KEY = "validation.root"
GIVEN = "given"
"""Stands for the recipe where the low-quality halves are given."""

log = logging.getLogger(__name__)


def read_fixed(
    config: ValidationConfig,
    *,
    scale: Scale,
    grain_px: int,
    least_px: int,
    channels: Channels = COLOUR,
    bounded: bool = True,
    dims: int = 2,
    measured: Measured | None = None,
) -> Mapping[str, tuple[Batch, ...]]:
    """Read the first `count` pictures and degrade them with every recipe, or take their given partners.

    Returns per recipe one batch of one picture each, on the CPU: the middle of the picture, with sides that are
    multiples of `grain_px`, which divides by `scale`, and at most `config.most_px`.

    Raises:
        ConfigError: nothing usable is there; names the key.
    """
    fit = Fit(least_px=least_px, scale=scale)
    source = open_place(
        config.root,
        config.source,
        key=KEY,
        fit=fit,
        channels=channels,
        dims=dims,
        crop_px=_tile(config, least_px, scale, dims),
        at_most=True,
    )
    items = [
        _middle(item, grain_px=grain_px, most_px=config.most_px, scale=scale)
        for item in _first(source, config.count)
    ]
    if config.photons:
        if measured is None:
            raise ConfigError("validation.photons: only the microscope of data.physics can measure; set that")
        return {
            f"photons-{photons:g}": _measured(items, measured, photons, seed=config.seed)
            for photons in config.photons
        }
    if source.paired:
        return {GIVEN: tuple(_given(item) for item in items)}
    return {
        name: _degraded(items, name, seed=config.seed, scale=scale, bounded=bounded)
        for name in config.recipes or ()
    }


def _tile(config: ValidationConfig, least_px: int, scale: Scale, dims: int) -> tuple[int, ...]:
    """Return the tiles of scenes that are measured: `most_px`, or 128 along axes of pictures and 32 of volumes."""
    side = config.most_px or max(least_px, 128 if dims == 2 else 32)
    return tuple(max(1, side // k) * k for k in scales_of(scale, dims))


def _first(source: Source, count: int) -> Iterator[Item]:
    found = 0
    for place in range(len(source)):
        if found == count:
            return
        try:
            item = source.item(place)
        except ImageFileError as err:
            log.warning("%s: skipped %s; the next picture takes its place", KEY, err)
            continue
        found += 1
        yield item
    if not found:
        raise ConfigError(f"{KEY}: none of the {len(source)} pictures of {source.where} can be decoded")


def _degraded(items: list[Item], name: str, *, seed: int, scale: Scale, bounded: bool) -> tuple[Batch, ...]:
    recipe = recipe_for(name)
    pairs = []
    for index, item in enumerate(items):
        hq_01 = to_01(item.hq)[None]
        if name in PLAIN:
            small = plainly_shrunk(name, hq_01, scale)
            lq = to_01(from_01(small, item.hq.dtype)) if bounded else small
            pairs.append(Batch(hq_01, lq, (item.prompt,), _mask(item)))
            continue
        if not isinstance(scale, int):
            raise ConfigError(f"validation.recipes: {name} shrinks both axes alike, got {scale}; use area")
        raise_all([f"validation.recipes: {line}" for line in colour_problem(name, hq_01.shape[1])])
        generator = generator_for(seed, "validation", index)
        done = degrade(hq_01, recipe, generator=generator, scale=scale)
        pairs.append(Batch(done.target_01, done.lq_01, (item.prompt,)))
    return tuple(pairs)


def _measured(items: list[Item], measured: Measured, photons: float, *, seed: int) -> tuple[Batch, ...]:
    pairs = []
    for index, item in enumerate(items):
        hq = to_01(item.hq)
        exposed = measured.expose(hq, generator_for(seed, "validation", index), photons=photons)
        pairs.append(
            Batch(hq[None], exposed.lq[None], (item.prompt,), _mask(item), light=exposed.light[None])
        )
    return tuple(pairs)


def _given(item: Item) -> Batch:
    if item.lq is None:
        raise AssertionError("a paired source gives both halves")
    return Batch(to_01(item.hq)[None], to_01(item.lq)[None], (item.prompt,), _mask(item))


def _mask(item: Item) -> Tensor | None:
    return None if item.valid is None else item.valid[None]


def _middle(item: Item, *, grain_px: int, most_px: int | None, scale: Scale) -> Item:
    whole_px = item.hq.shape[1:]
    factors = scales_of(scale, len(whole_px))
    sides = [
        max(1, min(side, most_px or side) // grain) * grain
        for side, grain in zip(whole_px, _grains(grain_px, factors), strict=True)
    ]
    # The low-quality half is cut at the same place, so it must be one of its pixels.
    starts = [(w - p) // 2 // k * k for w, p, k in zip(whole_px, sides, factors, strict=True)]
    lq = item.lq
    if lq is not None:
        lq = part(lq, *([n // k for n, k in zip(each, factors, strict=True)] for each in (starts, sides)))
    valid = None if item.valid is None else part(item.valid, starts, sides)
    return Item(part(item.hq, starts, sides), lq, item.prompt, valid)


def _grains(grain_px: int, factors: tuple[int, ...]) -> tuple[int, ...]:
    """Return what every side must divide by; an axis that is not enlarged needs nothing where others are."""
    return (grain_px,) * len(factors) if len(set(factors)) == 1 else factors
