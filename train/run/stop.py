"""Ctrl-C and SIGTERM: finish the step, write a checkpoint, stop. A second one stops at once."""

from __future__ import annotations

import os
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
    launcher: int | None = None
    """Process that started this one to do its work; without it there is nobody left who waits for the result."""

    def anywhere(self, accelerator: Accelerator) -> bool:
        """Say whether any of the processes was asked; all of them call this at the same step."""
        if self.launcher is not None and os.getppid() != self.launcher:
            self.asked = True
        if accelerator.num_processes == 1:
            return self.asked
        votes: Any = accelerator.reduce(torch.tensor(float(self.asked), device=accelerator.device), "sum")
        return bool(votes > 0)


def find_launcher() -> int | None:
    """Return the parent if it is ``accelerate launch``, which dies of SIGTERM without passing it on.

    Any other parent, a shell for instance, may end before the training does.
    """
    import psutil  # a requirement of accelerate

    try:
        parent = psutil.Process(os.getppid())
        return parent.pid if any("accelerate" in word for word in parent.cmdline()) else None
    except psutil.Error:
        return None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM inside the block into a request; the next acts as it did before.

    So does SIGHUP, of a terminal that is closed, unless it is ignored (nohup), and the end of the launcher.
    """
    request = StopRequest(launcher=find_launcher())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        before[hangup] = signal.SIG_DFL

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
