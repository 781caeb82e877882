"""Training pairs made from nothing but (seed, index): the endless sequence that every process draws from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hypir_core.errors import ConfigError, ImageFileError
from hypir_core.image.resize import resize

from ..config import Crop, DataConfig
from .batch import Samples
from .degrading import Mixture
from .folder import Folder, read_rgb
from .seeds import below, generator_for, uniform

MOST_UNREADABLE = 20
"""Undecodable pictures in a row after which something is wrong with the whole folder."""

log = logging.getLogger(__name__)


class PairSequence(Dataset[Samples]):
    """Maps a list of indexes to `Samples`. Every epoch of len(folder) indexes shows every picture once."""

    def __init__(self, folder: Folder, config: DataConfig, mixture: Mixture, *, seed: int):
        self.folder, self.config, self.mixture, self.seed = folder, config, mixture, seed
        self._cache: dict[Path, Tensor] = {}
        self._cache_left = config.cache_mb * 2**20
        self._unreadable: set[Path] = set()

    def __getitem__(self, indexes: Sequence[int]) -> Samples:  # pyright: ignore[reportIncompatibleMethodOverride]  # DataLoader with batch_size=None passes the sampler's item
        pairs = [self.pair(index) for index in indexes]
        return Samples(
            torch.tensor(list(indexes)),
            torch.stack([hq for hq, _ in pairs]),
            torch.stack([lq for _, lq in pairs]),
        )

    def pair(self, index: int) -> tuple[Tensor, Tensor]:
        """Return sample `index` as (high quality [3 h w], low quality [3 h/scale w/scale]), uint8."""
        generator = generator_for(self.seed, "crop", index)
        hq_01 = _flip(self._crop(self._picture(index), generator), self.config, generator)
        target_01, lq_01 = self.mixture.make(hq_01[None], generator_for(self.seed, "degrade", index))
        return _to_uint8(target_01[0]), _to_uint8(lq_01[0])

    def _picture(self, index: int) -> Tensor:
        """Return the picture of this index; one that cannot be decoded is reported, and the next is taken."""
        files = self.folder.files
        epoch, place = divmod(index, len(files))
        order = _epoch_order(len(files), self.seed, epoch)
        for shift in range(min(len(files), MOST_UNREADABLE)):
            path = files[int(order[(place + shift) % len(files)])]
            if path in self._cache:
                return self._cache[path]
            try:
                picture = read_rgb(path)
            except ImageFileError as err:
                if path not in self._unreadable:
                    self._unreadable.add(path)
                    log.warning("data.root: skipped %s; the next picture takes its turn", err)
                continue
            if picture.nbytes <= self._cache_left:
                self._cache[path] = picture
                self._cache_left -= picture.nbytes
            return picture
        raise ConfigError(
            f"data.root: {MOST_UNREADABLE} pictures in a row cannot be decoded; check {self.folder.root}"
        )

    def _crop(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        side = self.config.crop_px
        if self.config.crop is Crop.none:
            return picture.float() / 255
        low, high = self.config.shrink
        factor = uniform(generator, low, high) if uniform(generator) < self.config.shrink_prob else 1.0
        window = min(round(side / factor), *picture.shape[-2:])
        free_h, free_w = picture.shape[-2] - window, picture.shape[-1] - window
        if self.config.crop is Crop.center:
            top, left = free_h // 2, free_w // 2
        else:
            top, left = below(generator, free_h + 1), below(generator, free_w + 1)
        cut_01 = picture[None, :, top : top + window, left : left + window].float() / 255
        return resize(cut_01, (side, side))[0].mul(255).round().clamp(0, 255).div(255)


class IndexBlocks:
    """Endless blocks of `block` consecutive own indexes, mapped to this process's share of the sequence.

    With b samples per process and batch, own index n is (n // b)·(b·processes) + rank·b + n mod b of the
    sequence: without a pool, k processes together see the batches of one process with k times the batch.
    """

    def __init__(
        self, first: Sequence[int], *, start: int, block: int, batch: int, rank: int, processes: int
    ):
        self.first, self.start, self.block = tuple(first), start, block
        self.batch, self.rank, self.processes = batch, rank, processes

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indexes in `first` (already of the sequence), then the own ones from `start` on."""
        for at in range(0, len(self.first), self.block):
            yield list(self.first[at : at + self.block])
        own = self.start
        while True:
            yield [self._share(n) for n in range(own, own + self.block)]
            own += self.block

    def _share(self, n: int) -> int:
        blocks, place = divmod(n, self.batch)
        return (blocks * self.processes + self.rank) * self.batch + place


def _flip(image: Tensor, config: DataConfig, generator: torch.Generator) -> Tensor:
    if config.hflip and uniform(generator) < 0.5:
        image = image.flip(-1)
    if config.rot90:
        if uniform(generator) < 0.5:
            image = image.flip(-2)
        if uniform(generator) < 0.5:
            image = image.transpose(-1, -2)
    return image.contiguous()


def _to_uint8(image_01: Tensor) -> Tensor:
    return image_01.clamp(0, 1).mul(255).round().to(torch.uint8)


@lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, "epoch", epoch))
