"""Pairs for validation: whole pictures, the same every time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from hypir_core.degrade import degrade
from hypir_core.errors import ConfigError, ImageFileError

from ..config import ValidationConfig
from ..config.checks import raise_all
from .batch import Batch
from .degrading import CLEAN, colour_problem, recipe_for, shrunk
from .levels import from_01, to_01
from .opening import open_place
from .pictures import Fit
from .seeds import generator_for
from .source import COLOUR, Channels, Item, Source

KEY = "validation.root"
GIVEN = "given"
"""Stands for the recipe where the low-quality halves are given."""

log = logging.getLogger(__name__)


def read_fixed(
    config: ValidationConfig, *, scale: int, grain_px: int, least_px: int, channels: Channels = COLOUR
) -> Mapping[str, tuple[Batch, ...]]:
    """Read the first `count` pictures and degrade them with every recipe, or take their given partners.

    Returns per recipe one batch of one picture each, on the CPU: the middle of the picture, with sides that are
    multiples of `grain_px`, which divides by `scale`, and at most `config.most_px`.

    Raises:
        ConfigError: nothing usable is there; names the key.
    """
    fit = Fit(least_px=least_px, scale=scale)
    source = open_place(config.root, config.source, key=KEY, fit=fit, channels=channels)
    items = [
        _middle(item, grain_px=grain_px, most_px=config.most_px, scale=scale)
        for item in _first(source, config.count)
    ]
    if source.paired:
        return {GIVEN: tuple(_given(item) for item in items)}
    return {name: _degraded(items, name, seed=config.seed, scale=scale) for name in config.recipes or ()}


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


def _degraded(items: list[Item], name: str, *, seed: int, scale: int) -> tuple[Batch, ...]:
    recipe = recipe_for(name)
    pairs = []
    for index, item in enumerate(items):
        hq_01 = to_01(item.hq)[None]
        if name == CLEAN:
            lq = from_01(shrunk(hq_01, scale), item.hq.dtype)
            pairs.append(Batch(hq_01, to_01(lq), (item.prompt,)))
            continue
        raise_all([f"validation.recipes: {line}" for line in colour_problem(name, hq_01.shape[1])])
        generator = generator_for(seed, "validation", index)
        done = degrade(hq_01, recipe, generator=generator, scale=scale)
        pairs.append(Batch(done.target_01, done.lq_01, (item.prompt,)))
    return tuple(pairs)


def _given(item: Item) -> Batch:
    if item.lq is None:
        raise AssertionError("a paired source gives both halves")
    return Batch(to_01(item.hq)[None], to_01(item.lq)[None], (item.prompt,))


def _middle(item: Item, *, grain_px: int, most_px: int | None, scale: int) -> Item:
    whole_px = item.hq.shape[-2:]
    height, width = (max(1, min(side, most_px or side) // grain_px) * grain_px for side in whole_px)
    # The low-quality half is cut at the same place, so it must be one of its pixels.
    top, left = ((w - p) // 2 // scale * scale for w, p in zip(whole_px, (height, width), strict=True))
    lq = item.lq
    if lq is not None:
        lq = lq[:, top // scale : (top + height) // scale, left // scale : (left + width) // scale]
    return Item(item.hq[:, top : top + height, left : left + width], lq, item.prompt)
