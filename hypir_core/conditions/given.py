"""A condition picture that the user made: lines, depth or whatever the ControlNet reads."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..errors import ShapeError
from ..files.picture import to_planes
from ..files.reading import read_picture
from ..image.resize import resize
from .base import ConditionPicture, Make

MOST_STRETCH = 1.01
"""Width to height may differ by this factor without a word."""


def load_given(source: str | Path | Tensor) -> Make:
    """Read a picture now; return what brings it to the wanted size.

    Args:
        source: a picture file, or a tensor [b 1|3 h w] in [0,1].

    Raises:
        ImageFileError: the file cannot be read.
        ShapeError: the tensor is neither grey nor RGB.
    """
    name, given = ("the given picture", source) if isinstance(source, Tensor) else _read(Path(source))
    if given.ndim != 4 or given.shape[1] not in {1, 3}:
        raise ShapeError(f"{name}: expected grey or RGB, [b 1|3 h w], got {tuple(given.shape)}")

    def bring(_picture_01: Tensor, size_px: tuple[int, int]) -> ConditionPicture:
        (h, w), (height, width) = given.shape[-2:], size_px
        stretch = (w / h) / (width / height)
        notes = ()
        if max(stretch, 1 / stretch) > MOST_STRETCH:
            notes = (f"{name}: {w}×{h} px have another shape than the picture, {width}×{height}; stretched",)
        sized = resize(given.float(), size_px).clamp(0, 1)
        return ConditionPicture(picture_01=sized.expand(-1, 3, -1, -1), notes=notes)

    return bring


def _read(path: Path) -> tuple[str, Tensor]:
    return str(path), to_planes(read_picture(path.expanduser()))[0]
