"""What a training step sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .levels import alike, moved, put, to_01


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs on the training device, float32, [0,1]."""

    hq_01: Tensor
    """Targets [b c h w]."""
    lq_01: Tensor
    """Inputs [b c h/scale w/scale]."""
    prompts: tuple[str, ...] = ()
    """One per pair, empty texts where there is none; () where nobody gave any."""

    def __len__(self) -> int:
        return self.hq_01.shape[0]

    def to(self, device: torch.device) -> Batch:
        """Return the same pairs on `device`."""
        return Batch(self.hq_01.to(device), self.lq_01.to(device), self.prompts)


@dataclass(frozen=True, eq=False)
class Samples:
    """Pairs as they are kept and sent between processes: each half at the depth of its deepest picture."""

    indexes: Tensor
    """int64 [n], on the CPU: which samples of the endless sequence these are."""
    hq: Tensor
    """[n c h w], uint8, uint16 or float32."""
    lq: Tensor
    """[n c h/scale w/scale], uint8, uint16 or float32."""
    prompts: tuple[str, ...]

    def to_batch(self, device: torch.device) -> Batch:
        """Return them as a batch on `device`."""
        hq_01, lq_01 = (to_01(plane.to(device, non_blocking=True)) for plane in (self.hq, self.lq))
        return Batch(hq_01, lq_01, self.prompts)

    def take(self, places: Tensor) -> Samples:
        """Return copies of those at `places`, int64 [m]."""
        on_device = places.to(self.hq.device)
        prompts = tuple(self.prompts[place] for place in places.tolist())
        hq, lq = (moved(half, lambda half: half[on_device]) for half in (self.hq, self.lq))
        return Samples(self.indexes[places], hq, lq, prompts)

    def replaced(self, places: Tensor, fresh: Samples) -> Samples:
        """Put `fresh` at `places`; the tensors are changed in place unless `fresh` is deeper."""
        on_device = places.to(self.hq.device)
        self.indexes[places] = fresh.indexes
        (hq, fresh_hq), (lq, fresh_lq) = alike((self.hq, fresh.hq)), alike((self.lq, fresh.lq))
        put(hq, on_device, fresh_hq)
        put(lq, on_device, fresh_lq)
        prompts = list(self.prompts)
        for place, prompt in zip(places.tolist(), fresh.prompts, strict=True):
            prompts[place] = prompt
        return Samples(self.indexes, hq, lq, tuple(prompts))


def joined(parts: Sequence[Samples]) -> Samples:
    """Return the samples of all parts, one after the other."""
    return Samples(
        torch.cat([part.indexes for part in parts]),
        torch.cat(alike([part.hq for part in parts])),
        torch.cat(alike([part.lq for part in parts])),
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
    )
