"""Tiles on their way to a graphics card and back.

From and to page-locked memory, so that the program goes on while the card copies. What comes back is looked at when
the next batch has begun: the CPU blends while the card computes. A stream of their own is not needed: a copy back is
begun when its batch is done, and takes a hundredth of the next one's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def overlaps(device: torch.device) -> bool:
    """Whether a device computes a batch while the CPU goes on; then a batch is blended when the next one has begun."""
    return device.type == "cuda"


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`; to a card it is copied in the order of the card's own work."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class Returning:
    """A tensor on its way."""

    _here: Tensor
    _copied: torch.cuda.Event | None = None

    def arrived(self) -> Tensor:
        """Wait for it and return it."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._here


def returning(tensors: Sequence[Tensor], device: torch.device) -> list[Returning]:
    """Begin to bring tensors to `device`; nothing may change them meanwhile."""
    if device.type != "cpu" or not any(tensor.device.type == "cuda" for tensor in tensors):
        return [Returning(tensor.to(device)) for tensor in tensors]
    found = []
    for tensor in tensors:
        here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        here.copy_(tensor, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(tensor.device))
        found.append(Returning(here, copied))
    return found
