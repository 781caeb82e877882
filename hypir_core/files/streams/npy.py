"""Write a npy array [H W] or [H W C] row by row."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from ..metadata.carried import Extras
from .stream import Layout


class NpyStream:
    """A growing npy file, C order, float32."""

    def __init__(self, file: BinaryIO, layout: Layout):
        self._file = file
        shape = (layout.height_px, layout.width_px, layout.channels)
        descr = np.lib.format.dtype_to_descr(layout.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

    def rows(self, samples_hwc: np.ndarray) -> None:
        """Append rows [h W C]."""
        self._file.write(np.ascontiguousarray(samples_hwc).data)

    def end(self, extras: Extras) -> None:
        """Add nothing: a npy file ends with its last row."""
