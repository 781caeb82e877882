"""Training pairs made from nothing but (seed, index): the endless sequence that every process draws from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hypir_core.errors import ConfigError, HypirError, ImageFileError

from ..config import DataConfig, DegradeOn
from .batch import Samples
from .cropping import cut
from .degrading import Made, Mixture
from .seeds import generator_for, uniform
from .source import Item, Source

MOST_UNREADABLE = 20
"""Unusable pictures in a row after which something is wrong with the whole source."""


@dataclass(frozen=True, eq=False)
class Crops:
    """What a background process sends: samples, whose low-quality half may still be to be made."""

    indexes: Tensor
    """int64 [n]"""
    hq: Tensor
    """uint8 [n 3 h w]"""
    lq: Tensor | None
    """uint8 [n 3 h/scale w/scale]"""
    prompts: tuple[str, ...]
    unusable: tuple[str, ...]
    """Pictures that could not be used since the last time: which, and why."""


@dataclass(frozen=True, eq=False)
class Failed:
    """What a background process sends instead, so that the error arrives as it is."""

    error: HypirError
    unusable: tuple[str, ...]


class PairSequence(Dataset["Crops | Failed"]):
    """Maps a list of indexes to `Crops`. Every epoch of len(source) indexes shows every picture once.

    A picture that cannot be used leaves its turn to the next one of that epoch, and is reported.
    """

    def __init__(self, source: Source, config: DataConfig, mixture: Mixture, *, seed: int):
        self.source, self.config, self.mixture, self.seed = source, config, mixture, seed
        self._whole = config.degrade_on is DegradeOn.worker
        self._cache: dict[int, Item] = {}
        self._cache_left = config.cache_mb * 2**20
        self._unusable: dict[int, str] = {}
        self._to_report: list[str] = []

    def __getitem__(self, indexes: Sequence[int]) -> Crops | Failed:  # pyright: ignore[reportIncompatibleMethodOverride]  # DataLoader with batch_size=None passes the sampler's item
        try:
            made = [self.pair(index)[0] if self._whole else self.crop(index) for index in indexes]
        except HypirError as err:
            return Failed(err, self._report())
        lq = [item.lq for item in made if item.lq is not None]
        return Crops(
            torch.tensor(list(indexes)),
            torch.stack([item.hq for item in made]),
            torch.stack(lq) if lq else None,
            tuple(item.prompt for item in made),
            self._report(),
        )

    def pair(self, index: int) -> tuple[Item, str]:
        """Return sample `index`, uint8 with both halves, and what was done to its low-quality half.

        Raises:
            ConfigError: too many pictures in a row cannot be used.
        """
        item = self.crop(index)
        if item.lq is not None:
            return item, "given"
        made = self.degrade(item.hq, index)
        return Item(made.hq, made.lq, item.prompt), made.label

    def crop(self, index: int) -> Item:
        """Return the crop of sample `index` before anything is done to its quality, with its prompt."""
        _, item = self.picture(index)
        dropped = uniform(generator_for(self.seed, "prompt", index)) < self.config.prompt_dropout
        generator = generator_for(self.seed, "crop", index)
        cropped = cut(item, self.config, scale=self.mixture.scale, generator=generator)
        return Item(cropped.hq, cropped.lq, "" if dropped else item.prompt)

    def degrade(self, hq: Tensor, index: int) -> Made:
        """Make the low-quality half of sample `index` from its crop, uint8 [3 h w], where that is."""
        return self.mixture.make(hq, generator_for(self.seed, "degrade", index))

    def complete(self, crops: Crops, device: torch.device) -> Samples:
        """Return whole samples; a missing low-quality half is made on `device`, one sample at a time."""
        if crops.lq is not None:
            return Samples(crops.indexes, crops.hq, crops.lq, crops.prompts)
        pictures = crops.hq.to(device, non_blocking=True)
        made = [self.degrade(hq, index) for hq, index in zip(pictures, crops.indexes.tolist(), strict=True)]
        hq, lq = torch.stack([each.hq for each in made]), torch.stack([each.lq for each in made])
        return Samples(crops.indexes, hq, lq, crops.prompts)

    def picture(self, index: int) -> tuple[int, Item]:
        """Return the number in the source, and the picture, that sample `index` is cut from.

        Raises:
            ConfigError: too many pictures in a row cannot be used.
        """
        count = len(self.source)
        epoch, place = divmod(index, count)
        order = _epoch_order(count, self.seed, epoch)
        for shift in range(min(count, MOST_UNREADABLE)):
            number = int(order[(place + shift) % count])
            if (item := self._read(number)) is not None:
                return number, item
        raise ConfigError(
            f"data.root: {min(count, MOST_UNREADABLE)} of {count} pictures of {self.source.where}, one after "
            f"the other, cannot be used; the first: {self._unusable[int(order[place])]}"
        )

    def _read(self, number: int) -> Item | None:
        if number in self._cache:
            return self._cache[number]
        if number in self._unusable:
            return None
        try:
            item = self.source.item(number)
        except ImageFileError as err:
            self._unusable[number] = str(err)
            self._to_report.append(str(err))
            return None
        size_bytes = item.hq.nbytes + (item.lq.nbytes if item.lq is not None else 0)
        if size_bytes <= self._cache_left:
            self._cache[number] = item
            self._cache_left -= size_bytes
        return item

    def _report(self) -> tuple[str, ...]:
        """Return what became unusable since the last call."""
        report, self._to_report = tuple(self._to_report), []
        return report


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


@lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=generator_for(seed, "epoch", epoch))
