"""Tiles of rasters, volumes and stacks, read where they lie: a worker holds a tile, never a scene."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch

from hypir_core.errors import ConfigError, HypirError, ImageFileError
from hypir_core.files.scenes.axes import Wanted
from hypir_core.files.scenes.scene import Scene
from hypir_core.image.holes import fill_holes
from hypir_core.tiling.geometry import Box

from ..config import SourceConfig
from .axes import Scale, scales_of
from .endings import printable
from .mixed import Mixed
from .scene_listing import usable_scenes
from .scene_opening import open_any
from .source import Channels, Item, Source, Weights
from .usable import nothing_usable, report_skipped

HOLE_DEPTH = 16
"""Cells without data are filled from cells at most so far away; deeper ones become 0."""


@dataclass(frozen=True)
class Tile:
    """A box of one scene, in high-quality cells."""

    scene: int
    starts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SceneTiles:
    """The tiles of all scenes of a place, one scene after the other. Files are opened where a tile is read."""

    where: str
    paths: tuple[Path, ...]
    partners: tuple[Path, ...]
    """Of the same length, or empty."""
    tiles: tuple[Tile, ...]
    tile_px: tuple[int, ...]
    scales: tuple[int, ...]
    config: SourceConfig
    channels: Channels
    skipped: tuple[str, ...]
    bands: tuple[str, ...]
    """Names of the channels of the low-quality halves, if all scenes name theirs alike."""
    hash: str
    """SHA-256 over names, sizes and where the tiles lie."""
    _open: dict[Path, Scene] = field(default_factory=dict, init=False, repr=False)

    @property
    def left_out(self) -> int:
        """How many scenes were left out at the start."""
        return len(self.skipped)

    @property
    def paired(self) -> bool:
        """Whether every scene has its partner."""
        return bool(self.partners)

    @property
    def weights(self) -> Weights | None:
        """Have none: every tile is drawn alike."""
        return None

    def __len__(self) -> int:
        return len(self.tiles)

    def __getstate__(self) -> dict[str, object]:
        # A worker opens its own files: GDAL and HDF5 do not survive a fork or a pickle.
        return {**self.__dict__, "_open": {}}

    def name(self, index: int) -> str:
        """Return the scene and where in it the tile begins."""
        tile = self.tiles[index]
        return f"{printable(self.paths[tile.scene].name)} at {', '.join(map(str, tile.starts))}"

    def item(self, index: int) -> Item:
        """Read one tile, and that of its partner; cells without data are filled and marked.

        Raises:
            ImageFileError: the file is damaged there, or too little of the tile has data; begins with its name.
        """
        tile = self.tiles[index]
        try:
            hq, valid = self._read(self.paths[tile.scene], tile.starts, self.tile_px, self.channels.hq)
            share = float(valid.float().mean())
            if share < self.config.least_valid:
                raise ImageFileError(
                    f"has data in {100 * share:.0f} % of its cells (data.source.least_valid)"
                )
            lq = None
            if self.partners:
                starts, sizes = (
                    tuple(n // k for n, k in zip(each, self.scales, strict=True))
                    for each in (tile.starts, self.tile_px)
                )
                lq, _ = self._read(self.partners[tile.scene], starts, sizes, self.channels.lq)
        except (HypirError, OSError) as err:
            raise ImageFileError(f"{self.name(index)}: {err}") from err
        return Item(hq, lq, valid=None if bool(valid.all()) else valid)

    def _read(
        self, path: Path, starts: Sequence[int], sizes: Sequence[int], channels: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scene = self._open.get(path)
        if scene is None:
            wanted = Wanted(
                bands=self.config.bands,
                axes=self.config.axes,
                dataset=self.config.array,
                dims=len(sizes),
                channels=channels,
            )
            scene = self._open[path] = open_any(path, wanted)
            weakref.finalize(self, scene.close)
        box = Box(tuple(starts), tuple(sizes))
        block, values = scene.block(box), scene.read(box)
        valid = torch.isfinite(values[0]).all(0)
        if block.valid is not None:
            valid &= torch.from_numpy(np.ascontiguousarray(block.valid))
        return fill_holes(values, valid, HOLE_DEPTH)[0].contiguous(), valid[None]


def open_scenes(
    root: Path,
    config: SourceConfig,
    *,
    key: str,
    crop_px: int | tuple[int, ...],
    scale: Scale,
    channels: Channels,
    dims: int,
    at_most: bool = False,
) -> SceneTiles:
    """List the scenes at `root`, a file or a folder of such, and cut them into tiles; headers are read, no values.

    With `lq_root` every scene needs a partner there, of the same relative name but for the ending. With `at_most` the
    tiles become as small as the smallest scene.

    Raises:
        ConfigError: nothing usable is there, the tiles do not go with the scale, or rasters are of two resolutions;
            names the key.
    """
    scales = scales_of(scale, dims)
    found, skipped = usable_scenes(root, config, key=key, channels=channels, scales=scales)
    sides = config.tile_px if config.tile_px is not None else crop_px
    tile_px = scales_of(sides, dims)
    if at_most and config.tile_px is None and found:
        smallest = [min(each) for each in zip(*(scene.sizes for scene in found), strict=True)]
        tile_px = tuple(min(t, n) // k * k for t, n, k in zip(tile_px, smallest, scales, strict=True))
    stride_px = scales_of(config.stride_px if config.stride_px is not None else tile_px, dims)
    for name, lengths in (("tile_px", tile_px), ("stride_px", stride_px)):
        if any(side % k or side < 1 for side, k in zip(lengths, scales, strict=True)):
            raise ConfigError(
                f"{key.removesuffix('root')}source.{name}: {list(lengths)} must divide by the scale {list(scales)}"
            )
    usable = [scene for scene in found if all(n >= t for n, t in zip(scene.sizes, tile_px, strict=True))]
    skipped += [
        f"{scene.shown}: has {list(scene.sizes)} cells, fewer than a tile of {list(tile_px)} (source.tile_px, crop_px)"
        for scene in found
        if scene not in usable
    ]
    report_skipped(skipped, len(usable) + len(skipped), key=key)
    if not usable:
        raise nothing_usable(key, f"{printable(str(root))} holds no usable scene", skipped)
    tiles: list[Tile] = []
    digest = hashlib.sha256(f"{tile_px} {stride_px} {config.bands}".encode())
    for number, scene in enumerate(usable):
        places = [_places(*each) for each in zip(scene.sizes, tile_px, stride_px, scales, strict=True)]
        tiles += [Tile(number, starts) for starts in product(*places)]
        digest.update(f"\0{scene.shown}\0{scene.sizes}".encode("utf-8", "backslashreplace"))
    return SceneTiles(
        where=printable(str(root)),
        paths=tuple(scene.path for scene in usable),
        partners=tuple(scene.partner for scene in usable if scene.partner is not None),
        tiles=tuple(tiles),
        tile_px=tile_px,
        scales=scales,
        config=config,
        channels=channels,
        skipped=tuple(skipped),
        bands=_shared(scene.bands for scene in usable),
        hash=digest.hexdigest(),
    )


def bands_of(source: Source) -> tuple[str, ...]:
    """Return the names of the channels of what a generator takes, if all scenes of a source name theirs alike."""
    parts = [part.source for part in source.parts] if isinstance(source, Mixed) else [source]
    return _shared(part.bands if isinstance(part, SceneTiles) else () for part in parts)


def _shared(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    different = set(names)
    return different.pop() if len(different) == 1 else ()


def _places(length: int, side: int, step: int, grain: int) -> list[int]:
    """Return where tiles begin, at multiples of `grain`; the last one ends with the scene, or as near as that allows."""
    last = (length - side) // grain * grain
    return sorted({*range(0, last + 1, step), last})
