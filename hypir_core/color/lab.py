"""The chroma colour fix: coarse colour from the reference, lightness and fine colour from the content.

Works in CIE 1976 L*a*b* (CIE 15:2004, section 8.2.1) of sRGB pictures (IEC 61966-2-1), white point D65.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeError
from .wavelet import LEVELS, low_frequencies, require_same_shape

XYZ_FROM_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""Linear sRGB to CIE XYZ, primaries and D65 white of IEC 61966-2-1; a row's sum is the white point."""

KNEE = 6 / 29
"""Where the cube root of L*a*b* becomes a straight line (CIE 15:2004, eq. 8.6)."""


def lab_color_fix(content_01: Tensor, reference_01: Tensor, *, levels: int = LEVELS) -> Tensor:
    """Give `content_01` the low frequencies of a* and b* of `reference_01`; its L* stays.

    ``ab(content) + low(ab(reference) - ab(content))`` with the low-pass of the wavelet fix. Unlike that fix
    it keeps the light of the restored picture: a faded or hazy reference does not fade the result again.

    Shapes: both [b 3 h w] sRGB of the same size; returns [b 3 h w], float32, not clamped. A picture of one
    channel has no colour and comes back as it is.

    Raises:
        ShapeError: the two sizes differ, or the pictures have neither 1 nor 3 channels.
    """
    require_same_shape(content_01, reference_01)
    if content_01.shape[1] == 1:
        return content_01.float()
    lab = rgb_to_lab(content_01)
    shift = rgb_to_lab(reference_01)[:, 1:] - lab[:, 1:]
    return lab_to_rgb(torch.cat((lab[:, :1], lab[:, 1:] + low_frequencies(shift, levels)), dim=1))


def rgb_to_lab(rgb_01: Tensor) -> Tensor:
    """Convert sRGB to L*a*b*.

    Shapes: [b 3 h w] → [b 3 h w], float32: L* 0…100, a* and b* about −100…100. Greys have a* = b* = 0.
    Values outside [0,1] are carried on, so that `lab_to_rgb` gives them back.

    Raises:
        ShapeError: not three channels.
    """
    _require_rgb(rgb_01)
    encoded = rgb_01.float()
    curve = ((encoded.clamp(min=0.04045) + 0.055) / 1.055).pow(2.4)
    linear = torch.where(encoded <= 0.04045, encoded / 12.92, curve)
    white = [sum(row) for row in XYZ_FROM_RGB]
    x, y, z = _apply_matrix(
        [[m / w for m in row] for row, w in zip(XYZ_FROM_RGB, white, strict=True)], linear
    )
    fx, fy, fz = (_lab_curve(t) for t in (x, y, z))
    return torch.cat((116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)), dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert L*a*b* to sRGB, the inverse of `rgb_to_lab`.

    Shapes: [b 3 h w] → [b 3 h w], float32, not clamped: colours outside sRGB leave [0,1].

    Raises:
        ShapeError: not three channels.
    """
    _require_rgb(lab)
    lightness, a, b = lab.float().split(1, dim=1)
    fy = (lightness + 16) / 116
    t = torch.cat((fy + a / 500, fy, fy - b / 200), dim=1)
    xyz = torch.where(t > KNEE, t.pow(3), 3 * KNEE**2 * (t - 4 / 29))
    matrix = torch.tensor(XYZ_FROM_RGB, dtype=torch.float64)
    rgb_from_xyz = (torch.linalg.inv(matrix) * matrix.sum(dim=1)).tolist()
    linear = torch.cat(_apply_matrix(rgb_from_xyz, xyz), dim=1)
    curve = 1.055 * linear.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, curve)


def _lab_curve(t: Tensor) -> Tensor:
    return torch.where(t > KNEE**3, t.clamp(min=KNEE**3).pow(1 / 3), t / (3 * KNEE**2) + 4 / 29)


def _apply_matrix(matrix: list[list[float]], image_b3hw: Tensor) -> list[Tensor]:
    """Multiply every pixel; sums instead of a matmul, which a caller's TF32 setting would cut to 10 bits."""
    r, g, b = image_b3hw.split(1, dim=1)
    return [row[0] * r + row[1] * g + row[2] * b for row in matrix]


def _require_rgb(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3:
        raise ShapeError(
            f"L*a*b* needs colour pictures [b 3 h w], got {list(image.shape)}; "
            "use the colour fix wavelet or adain for other channel counts"
        )
