"""Between a clip's stored colours and RGB in [0,1]: matrix and range as the file says, primaries and curve untouched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

HD_ROWS = 576
"""A clip that names no matrix is taken for BT.709 above so many rows, otherwise for BT.601, as players do."""

FULL = 2
"""Number of the colour range from 0 to the largest value, in FFmpeg (AVCOL_RANGE_JPEG)."""

_LIMITED = 1
_BT709, _BT601, _UNSAID, _RGB = 1, 6, 2, 0
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""A matrix's number in files (ISO/IEC 23091-2) → in FFmpeg's scaler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Colors:
    """How a clip's numbers are colours; numbers of ISO/IEC 23091-2, 2 for unsaid."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool

    @property
    def scaler_matrix(self) -> int:
        """The matrix as FFmpeg's scaler calls it."""
        return _MATRICES.get(self.matrix, _MATRICES[_BT709])

    @property
    def range(self) -> int:
        """The range as FFmpeg calls it."""
        return FULL if self.full_range else _LIMITED


def colors_of(frame: Any) -> Colors:
    """Return the colours of a decoded frame; what it leaves open is settled, so that the result says it."""
    said = int(frame.colorspace)
    rgb = said == _RGB or frame.format.is_rgb
    matrix = said if said in _MATRICES else _BT709 if rgb or frame.height > HD_ROWS else _BT601
    return Colors(
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        matrix=matrix,
        full_range=not rgb and (int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")),
    )


def bits_of(frame: Any) -> int:
    """Return the bits per sample of a decoded frame."""
    return max(part.bits for part in frame.format.components)


def has_alpha(frame: Any) -> bool:
    """Say whether a frame's format has an alpha channel."""
    return any(part.is_alpha for part in frame.format.components)


def to_image(frame: Any, colors: Colors, *, turns: int) -> Tensor:
    """Return a decoded frame as [1 3 h w] float32 in [0,1], upright.

    Args:
        frame: from PyAV.
        colors: how its numbers are colours.
        turns: quarter turns, counter-clockwise, that make it upright.
    """
    deep = bits_of(frame) > 8
    rgb = frame.reformat(
        format="rgb48le" if deep else "rgb24",
        src_colorspace=colors.scaler_matrix,
        src_color_range=FULL if frame.format.is_rgb else colors.range,
        dst_color_range=FULL,
    )
    pixels = torch.from_numpy(rgb.to_ndarray().astype("float32"))
    image = (pixels / (65535 if deep else 255)).movedim(-1, 0)[None]
    return torch.rot90(image, turns, (-2, -1)) if turns else image


def to_frame(image_01: Tensor, colors: Colors, *, pixels: str, deep: bool) -> Any:
    """Return [1 3 H W] in [0,1] as a frame for an encoder.

    Args:
        image_01: on any device; of even sides where `pixels` needs them.
        colors: how its numbers become colours.
        pixels: FFmpeg's name of the pixels.
        deep: whether they have more than 8 bits.
    """
    import av

    values = (
        image_01[0].clamp(0, 1).mul(65535 if deep else 255).round().movedim(0, -1).cpu().contiguous().numpy()
    )
    frame = av.VideoFrame.from_ndarray(
        values.astype("uint16" if deep else "uint8"), format="rgb48le" if deep else "rgb24"
    )
    return frame.reformat(
        format=pixels,
        src_color_range=FULL,
        dst_colorspace=colors.scaler_matrix,
        dst_color_range=colors.range,
    )
