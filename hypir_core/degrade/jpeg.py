"""The loss of a JPEG round trip, on tensors, with one quality per picture.

Baseline JPEG (ITU-T T.81, tables K.1 and K.2; JFIF colour), 4:2:0, rounding wherever a common encoder and
decoder round: colour conversion, 2×2 chroma averages, quantised coefficients, decoded samples, and
triangle-filter ("fancy") chroma upsampling. The entropy coding is lossless and therefore left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # torch's own name for it
from torch import Tensor

from ..errors import RangeError, ShapeError


def jpeg_round_trip(image_01: Tensor, quality: int | Sequence[int] | Tensor) -> Tensor:
    """Return what is left of the picture after saving it as JPEG and reading it back.

    Shapes: [b c h w] float32 in [0, 1] with c 1 (grey) or 3 (RGB) and any h and w, in and out; the result
    lies on the 8-bit levels. `quality` is one whole number from 1 to 100, or one per picture.

    Raises:
        ShapeError: another number of channels, or another number of qualities than pictures.
        RangeError: a quality outside 1 to 100.
    """
    b, c, h, w = image_01.shape
    if c not in {1, 3}:
        raise ShapeError(f"JPEG takes 1 (grey) or 3 (RGB) channels, got {c}")
    luma_table, chroma_table = quantisation_tables(_qualities(quality, b)).to(image_01).unbind(1)
    levels = (image_01 * 255).round_().clamp_(0, 255)
    levels = F.pad(levels, (0, -w % 16, 0, -h % 16), mode="replicate")
    if c == 1:
        return _code(levels, luma_table)[..., :h, :w] / 255
    ycc = _to_ycc(levels)
    y = _code(ycc[:, :1], luma_table)[..., :h, :w]
    chroma = _code(_halve(ycc[:, 1:]), chroma_table)[..., : (h + 1) // 2, : (w + 1) // 2]
    return _to_rgb(y, _double(chroma)[..., :h, :w]) / 255


def quantisation_tables(quality: Tensor) -> Tensor:
    """Return the luma and chroma divisors [b 2 64], row by row, for whole qualities [b] from 1 to 100.

    Scaled in whole numbers as encoders do: s = 5000 // q below 50, else 200 − 2q; then (table·s + 50) // 100,
    kept within 1 to 255.
    """
    q = quality.to(torch.int64)
    scale = torch.where(q < 50, 5000 // q, 200 - 2 * q)
    return ((_TABLES * scale[:, None, None] + 50) // 100).clamp(1, 255)


def _qualities(quality: int | Sequence[int] | Tensor, b: int) -> Tensor:
    q = torch.as_tensor(quality, device="cpu").reshape(-1)
    if q.numel() not in {1, b}:
        raise ShapeError(f"expected one JPEG quality or one per picture ({b}), got {q.numel()}")
    if not bool(((q >= 1) & (q <= 100)).all()):
        raise RangeError(f"JPEG quality is a whole number from 1 to 100, got {q.tolist()}")
    return q.expand(b)


def _code(plane: Tensor, table_b64: Tensor) -> Tensor:
    """Transform, quantise and decode planes [b c h w] on 0 to 255, sides multiples of 8; table [b 64]."""
    b, c, h, w = plane.shape
    dct = _DCT.to(plane)
    table = table_b64[:, None, :]
    blocks = plane.view(b, c, h // 8, 8, w // 8, 8).transpose(3, 4).reshape(b, -1, 64)
    # Encoders round halves away from zero, torch.round to even: the nudge decides the exact halves.
    coefficients = ((blocks - 128) @ dct.T).mul_((1 + 1e-6) / table).round_().mul_(table)
    decoded = (coefficients @ dct).add_(128).round_().clamp_(0, 255)
    return decoded.view(b, c, h // 8, w // 8, 8, 8).transpose(3, 4).reshape(b, c, h, w)


def _to_ycc(rgb: Tensor) -> Tensor:
    b, _, h, w = rgb.shape
    matrix = _YCC.to(rgb)
    # A chroma half goes down: encoders add one half less one fixed-point unit.
    offset = rgb.new_tensor([0.5, 128.5 - 2**-16, 128.5 - 2**-16])[:, None]
    return (matrix @ rgb.reshape(b, 3, -1)).add_(offset).floor_().view(b, 3, h, w)


def _halve(chroma: Tensor) -> Tensor:
    """Average 2×2 samples; quarters are rounded with the alternating bias 1, 2 along a row."""
    total = F.avg_pool2d(chroma, 2).mul_(4)
    total[..., 0::2] += 1
    total[..., 1::2] += 2
    return total.mul_(0.25).floor_()


def _double(chroma: Tensor) -> Tensor:
    """Upsample ×2 with weights 9, 3, 3, 1 of 16, rounding halves up in even and down in odd columns."""
    if chroma.shape[-1] <= 2:
        return chroma.repeat_interleave(2, -1).repeat_interleave(2, -2)  # decoders use the plain rule here
    size = (2 * chroma.shape[-2], 2 * chroma.shape[-1])
    doubled = F.interpolate(chroma, size, mode="bilinear")
    doubled[..., 0::2] += 8 / 16
    doubled[..., 1::2] += 7 / 16
    return doubled.floor_()


def _to_rgb(y: Tensor, chroma: Tensor) -> Tensor:
    cb, cr = chroma[:, :1] - 128, chroma[:, 1:] - 128
    red = y + (1.402 * cr + 0.5).floor_()
    green = y + (-0.344136286 * cb - 0.714136286 * cr + 0.5).floor_()
    blue = y + (1.772 * cb + 0.5).floor_()
    return torch.cat((red, green, blue), 1).clamp_(0, 255)


def _dct_matrix() -> Tensor:
    """Return the 64×64 matrix of the orthonormal 8×8 DCT-II (T.81, A.3.3) on flattened blocks."""
    n = torch.arange(8, dtype=torch.float64)
    rows = torch.cos((2 * n + 1) * n[:, None] * math.pi / 16) / 2
    rows[0] /= math.sqrt(2)
    return torch.kron(rows, rows).float()


_DCT = _dct_matrix()

_YCC = torch.tensor(
    [
        [0.299, 0.587, 0.114],
        [-0.168735892, -0.331264108, 0.5],
        [0.5, -0.418687589, -0.081312411],
    ]
)

_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
_TABLES = torch.tensor([_LUMA_TABLE, _CHROMA_TABLE]).view(2, 64)
