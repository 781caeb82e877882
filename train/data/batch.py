"""What a training step sees."""

from __future__ import annotations

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

    def __len__(self) -> int:
        return self.hq_01.shape[0]


@dataclass(frozen=True, eq=False)
class Samples:
    """Pairs as they are stored and sent between processes: uint8, on the CPU."""

    indexes: Tensor
    """int64 [n]: which samples of the endless sequence these are."""
    hq: Tensor
    """[n 3 h w]"""
    lq: Tensor
    """[n 3 h/scale w/scale]"""

    def to_batch(self, device: torch.device) -> Batch:
        """Return them as a batch on `device`."""
        return Batch(*(plane.to(device, non_blocking=True).float() / 255 for plane in (self.hq, self.lq)))
