"""Ctrl-C and SIGTERM: finish the step, write a checkpoint, stop. A second one stops at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator


@dataclass
class StopRequest:
    """Whether somebody asked this process to stop."""

    asked: bool = False

    def anywhere(self, accelerator: Accelerator) -> bool:
        """Say whether any of the processes was asked; all of them call this at the same step."""
        if accelerator.num_processes == 1:
            return self.asked
        votes: Any = accelerator.reduce(torch.tensor(float(self.asked), device=accelerator.device), "sum")
        return bool(votes > 0)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM inside the block into a request; the next acts as it did before."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(_number: int, _frame: FrameType | None) -> None:
        request.asked = True
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
