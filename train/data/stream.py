"""The stream of batches of one process: background workers, a pool, and a position that is a few numbers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch.utils.data import DataLoader

from ..config import DataConfig
from .batch import Batch, Samples, joined
from .pairs import Crops, Failed, IndexBlocks, PairSequence
from .seeds import generator_for


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a stream stands. The pool is a list of indexes: every sample can be made again."""

    batches: int = 0
    """Batches given out."""
    fresh: int = 0
    """Own indexes used up."""
    pool: tuple[int, ...] = ()


class PairStream:
    """Endless batches; a stream made at the position of another one goes on exactly as that one would.

    With a pool of P samples and reuse r, the first batches pass through and fill the pool. Then a batch is
    the first b places of a new random order of the pool, and the first b/r of those are replaced by fresh
    ones, so that a sample is used r times on average. Only indexes move; nothing is shuffled in memory.

    `report` is given every picture that turns out to be unusable: one line each, which and why.
    """

    def __init__(
        self,
        sequence: PairSequence,
        config: DataConfig,
        *,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
        position: Position | None = None,
        report: Callable[[Sequence[str]], None],
    ):
        self._sequence, self._report = sequence, report
        self._config, self._device, self._rank, self._seed = config, device, rank, sequence.seed
        self._fresh_per_batch = config.batch_size // config.pool.reuse
        self._capacity = -(-config.pool.size // config.batch_size) * config.batch_size
        self.position = position or Position()
        blocks = IndexBlocks(
            self.position.pool,
            start=self.position.fresh,
            block=self._fresh_per_batch,
            batch=config.batch_size,
            rank=rank,
            processes=processes,
        )
        loader = DataLoader(
            sequence,
            batch_size=None,
            sampler=cast("torch.utils.data.Sampler[list[int]]", blocks),
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_main_process,
        )
        self._crops: Iterator[Crops | Failed] = iter(loader)
        self._pool = self._take(len(self.position.pool)) if self.position.pool else None

    def __next__(self) -> Batch:
        """Return the next batch on the device."""
        b = self._config.batch_size
        if not self._capacity:
            samples = self._take(b)
            self._advance(fresh=b)
        elif self._pool is None or len(self._pool.indexes) < self._capacity:
            samples = self._take(b)
            self._pool = joined([self._pool, samples]) if self._pool else samples
            self._advance(fresh=b)
        else:
            samples = self._draw_from(self._pool)
        return samples.to_batch(self._device)

    def _draw_from(self, pool: Samples) -> Samples:
        generator = generator_for(self._seed, "pool", self._rank, self.position.batches)
        places = torch.randperm(self._capacity, generator=generator)[: self._config.batch_size]
        drawn = pool.take(places)
        fresh = self._take(self._fresh_per_batch)
        self._pool = pool.replaced(places[: self._fresh_per_batch], fresh)
        self._advance(fresh=self._fresh_per_batch)
        return drawn

    def _take(self, count: int) -> Samples:
        return joined([self._next_samples() for _ in range(count // self._fresh_per_batch)])

    def _next_samples(self) -> Samples:
        crops = next(self._crops)
        if crops.unusable:
            self._report(crops.unusable)
        if isinstance(crops, Failed):
            raise crops.error
        return self._sequence.complete(crops, self._device)

    def _advance(self, *, fresh: int) -> None:
        self.position = Position(
            batches=self.position.batches + 1,
            fresh=self.position.fresh + fresh,
            pool=tuple(self._pool.indexes.tolist()) if self._pool else (),
        )


def _leave_signals_to_the_main_process(_worker: int) -> None:
    """Let the main process end the workers: Ctrl-C and a scheduler's SIGTERM reach every process of a job.

    A second SIGTERM does end a worker; that is how torch gets rid of one that is stuck.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
