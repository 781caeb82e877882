"""What the row-by-row writers have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..metadata.carried import Extras


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the samples of a picture lie in its file."""

    width_px: int
    height_px: int
    channels: int
    """With alpha, which is the last one."""
    has_alpha: bool
    bits: int
    """8 and 16: unsigned integers; 32: float."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the samples in memory."""
        return np.dtype({8: np.uint8, 16: np.uint16, 32: np.float32}[self.bits])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of samples."""
        return self.width_px * self.channels * self.dtype.itemsize

    @property
    def total_bytes(self) -> int:
        """Bytes of all samples."""
        return self.row_bytes * self.height_px


class Stream(Protocol):
    """A file that takes its rows one block after another."""

    def rows(self, samples_hwc: np.ndarray) -> None:
        """Append rows [h W C] of the layout's type."""
        ...

    def end(self, extras: Extras) -> None:
        """Write what follows the last row; `extras` differs from the first ones in its text only."""
        ...
