"""From a tensor to the small 8-bit picture that a captioning model looks at."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from ..errors import ShapeError
from ..files.encode import to_samples
from ..image.resize import resize


def small_picture(image_01: Tensor, *, longest_side_px: int) -> Image.Image:
    """Return the picture as 8-bit RGB, shrunk so that neither side is longer than `longest_side_px`.

    Args:
        image_01: [1 c h w] in [0,1] (clamped); grey is repeated, a fourth channel (alpha) is dropped.
        longest_side_px: smaller pictures are not enlarged.

    Raises:
        ShapeError: not one picture of 1, 3 or 4 channels.
        RangeError: a value is NaN or infinite.
    """
    if (
        image_01.ndim != 4
        or image_01.shape[0] != 1
        or image_01.shape[1] not in {1, 3, 4}
        or image_01.numel() == 0
    ):
        raise ShapeError(
            f"expected one picture [1 c h w] with 1, 3 or 4 channels, got {list(image_01.shape)}"
        )
    height_px, width_px = image_01.shape[-2:]
    factor = min(1.0, longest_side_px / max(height_px, width_px))
    size_px = (max(1, round(height_px * factor)), max(1, round(width_px * factor)))
    small_01 = resize(image_01[:, :3].detach().float(), size_px)[0]
    return Image.fromarray(to_samples(small_01.expand(3, -1, -1), None, bits=8))
