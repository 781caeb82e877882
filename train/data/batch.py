"""What a training step sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs on the training device, float32, [0,1]."""

    hq_01: Tensor
    """Targets [b 3 h w]."""
    lq_01: Tensor
    """Inputs [b 3 h/scale w/scale]."""
    prompts: tuple[str, ...] = ()
    """One per pair, empty texts where there is none; () where nobody gave any."""

    def __len__(self) -> int:
        return self.hq_01.shape[0]

    def to(self, device: torch.device) -> Batch:
        """Return the same pairs on `device`."""
        return Batch(self.hq_01.to(device), self.lq_01.to(device), self.prompts)


@dataclass(frozen=True, eq=False)
class Samples:
    """Pairs as they are kept and sent between processes: uint8."""

    indexes: Tensor
    """int64 [n], on the CPU: which samples of the endless sequence these are."""
    hq: Tensor
    """[n 3 h w]"""
    lq: Tensor
    """[n 3 h/scale w/scale]"""
    prompts: tuple[str, ...]

    def to_batch(self, device: torch.device) -> Batch:
        """Return them as a batch on `device`."""
        hq_01, lq_01 = (plane.to(device, non_blocking=True).float() / 255 for plane in (self.hq, self.lq))
        return Batch(hq_01, lq_01, self.prompts)

    def take(self, places: Tensor) -> Samples:
        """Return copies of those at `places`, int64 [m]."""
        on_device = places.to(self.hq.device)
        prompts = tuple(self.prompts[place] for place in places.tolist())
        return Samples(self.indexes[places], self.hq[on_device], self.lq[on_device], prompts)

    def replaced(self, places: Tensor, fresh: Samples) -> Samples:
        """Put `fresh` at `places`; the tensors are changed in place."""
        on_device = places.to(self.hq.device)
        self.indexes[places], self.hq[on_device], self.lq[on_device] = fresh.indexes, fresh.hq, fresh.lq
        prompts = list(self.prompts)
        for place, prompt in zip(places.tolist(), fresh.prompts, strict=True):
            prompts[place] = prompt
        return Samples(self.indexes, self.hq, self.lq, tuple(prompts))


def joined(parts: Sequence[Samples]) -> Samples:
    """Return the samples of all parts, one after the other."""
    return Samples(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("indexes", "hq", "lq")),
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
    )
