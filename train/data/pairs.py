"""Training pairs made from nothing but (seed, index): the endless sequence that every process draws from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hypir_core.errors import ConfigError, HypirError, ImageFileError

from ..config import DataConfig, DegradeOn
from .axes import scales_of
from .batch import Samples, all_valid, stacked_light
from .cropping import cut, without_margin
from .degrading import Made, Mixture
from .levels import alike
from .seeds import generator_for, uniform
from .source import Item, Source
from .turns import turn

MOST_UNREADABLE = 20
"""Unusable pictures in a row after which something is wrong with the whole source."""


@dataclass(frozen=True, eq=False)
class Crops:
    """What a background process sends: samples, whose low-quality half may still be to be made."""

    indexes: Tensor
    """int64 [n]"""
    hq: Tensor
    """[n c h w], with the margin where `lq` is None; at the depth of the deepest."""
    lq: Tensor | None
    """[n c h/scale w/scale]; None where all of them are still to be made."""
    prompts: tuple[str, ...]
    valid: Tensor | None
    """bool [n 1 *cells]; None: everywhere."""
    unusable: tuple[str, ...]
    """Pictures that could not be used since the last time: which, and why."""
    light: Tensor | None = None
    """float32 [n 4], as `Item.light`; None: nobody knows."""


@dataclass(frozen=True, eq=False)
class Failed:
    """What a background process sends instead, so that the error arrives as it is."""

    error: HypirError
    unusable: tuple[str, ...]


class PairSequence(Dataset["Crops | Failed"]):
    """Maps a list of indexes to `Crops`; `turns` says which picture each is cut from.

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
            whole = self._whole or self.source.paired
            made = [self.pair(index)[0] if whole else self.crop(index) for index in indexes]
        except HypirError as err:
            return Failed(err, self._report())
        lq = [item.lq for item in made if item.lq is not None]
        return Crops(
            torch.tensor(list(indexes)),
            torch.stack(alike([item.hq for item in made])),
            torch.stack(alike(lq)) if lq else None,
            tuple(item.prompt for item in made),
            _masks(made),
            self._report(),
            stacked_light([item.light for item in made]),
        )

    def pair(self, index: int) -> tuple[Item, str]:
        """Return sample `index` with both halves, and what was done to its low-quality half.

        Raises:
            ConfigError: too many pictures in a row cannot be used.
        """
        item = self.crop(index)
        if item.lq is not None:
            noisy = self.mixture.noisy(item.lq, generator_for(self.seed, "noise", index))
            return replace(item, lq=noisy), "given"
        made = self.degrade(item.hq, index)
        return Item(made.hq, made.lq, item.prompt, item.valid, made.light), made.label

    def crop(self, index: int) -> Item:
        """Return the crop of sample `index` before anything is done to its quality, with margin and prompt."""
        _, item = self.picture(index)
        dropped = uniform(generator_for(self.seed, "prompt", index)) < self.config.prompt_dropout
        generator = generator_for(self.seed, "crop", index)
        cropped = cut(item, self.config, scale=self.mixture.scale, generator=generator)
        return replace(cropped, prompt="" if dropped else item.prompt)

    def degrade(self, hq: Tensor, index: int) -> Made:
        """Make the low-quality half of sample `index` from its crop [c h w], where that is; cut the margin off."""
        made = self.mixture.make(hq, generator_for(self.seed, "degrade", index))
        made = replace(made, lq=self.mixture.noisy(made.lq, generator_for(self.seed, "noise", index)))
        margin_px = self.config.margin_px
        if not margin_px:
            return made
        target = without_margin(made.hq, margin_px)
        least = min(scales_of(self.mixture.scale, hq.ndim - 1))
        return replace(made, hq=target, lq=without_margin(made.lq, margin_px // least))

    def complete(self, crops: Crops, device: torch.device) -> Samples:
        """Return whole samples; a missing low-quality half is made on `device`, one sample at a time."""
        if crops.lq is not None:
            return Samples(crops.indexes, crops.hq, crops.lq, crops.prompts, crops.valid, crops.light)
        pictures = crops.hq.to(device, non_blocking=True)
        made = [self.degrade(hq, index) for hq, index in zip(pictures, crops.indexes.tolist(), strict=True)]
        hq, lq = (torch.stack(alike(halves)) for halves in zip(*((m.hq, m.lq) for m in made), strict=True))
        light = stacked_light([m.light for m in made])
        return Samples(crops.indexes, hq, lq, crops.prompts, crops.valid, light)

    def picture(self, index: int) -> tuple[int, Item]:
        """Return the number in the source, and the picture, that sample `index` is cut from.

        Raises:
            ConfigError: too many pictures in a row cannot be used.
        """
        now = turn(self.source, index, seed=self.seed)
        count = len(now.order)
        for shift in range(min(count, MOST_UNREADABLE)):
            number = now.first + int(now.order[(now.place + shift) % count])
            if (item := self._read(number)) is not None:
                return number, item
        raise ConfigError(
            f"data.root: {min(count, MOST_UNREADABLE)} of {count} pictures of {now.where}, one after "
            f"the other, cannot be used; the first: {self._unusable[now.first + int(now.order[now.place])]}"
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


def _masks(items: Sequence[Item]) -> Tensor | None:
    """Return the masks of all of them [n 1 *cells], or None where none has one."""
    if all(item.valid is None for item in items):
        return None
    return torch.stack(all_valid([item.valid for item in items], [item.hq for item in items], axis=0))


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
