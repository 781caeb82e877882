"""Pictures for the page: small ones to look at, and the mask that somebody painted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import HypirError
from ..files.picture import Picture, to_planes
from ..files.reading import read_picture
from ..files.writing import write_picture
from ..image.preview import PREVIEW_PX
from ..image.resize import resize
from ..image.size import MAX_SIDE_PX
from .uploads import size_of

SHOWN_PX = 1600
"""Longest side of a picture on the page; the file that is downloaded has all of it."""

QUALITY = 92

PAINT_ALPHA = 0.6
"""Opacity of the brush: so much paint means all of it, and only the brush's soft edge is less."""

DIM = 0.5
"""Brightness of what is not made yet."""


def show(path: Path, target: Path) -> Path:
    """Write a small copy of a picture that every browser can show; returns its path.

    Raises:
        ImageFileError: the picture cannot be read.
    """
    picture = read_picture(path)
    return _write(_fitted(_color(picture), _shown_px(picture.size_hw)), picture, target)


def show_pair(before: Path, after: Path, folder: Path) -> tuple[Path, Path] | None:
    """Write small copies of equal size of a picture and of its result, for the slider.

    Returns:
        Their paths; None where the result is too large to be opened at once.

    Raises:
        ImageFileError: one of them cannot be read.
    """
    if max(size_of(after)) > MAX_SIDE_PX:
        return None
    result, original = read_picture(after), read_picture(before)
    size_px = _shown_px(result.size_hw)
    return (
        _write(_fitted(_color(original), size_px), original, folder / "before.jpg"),
        _write(_fitted(_color(result), size_px), result, folder / "after.jpg"),
    )


def write_mask(layers: Sequence[np.ndarray], size_px: tuple[int, int], target: Path) -> Path | None:
    """Write what was painted as a mask: white where there is paint, black elsewhere.

    Args:
        layers: [h w 4] uint8, of any size: what was painted over the picture, clear where it was not.
        size_px: height and width of the picture.
        target: the new file.

    Returns:
        Its path; None where nothing was painted.
    """
    painted = [torch.from_numpy(layer[..., 3].astype(np.float32) / 255) for layer in layers]
    painted = [layer for layer in painted if bool(layer.any())]
    if not painted:
        return None
    whole = (torch.stack(painted).amax(0) / PAINT_ALPHA).clamp(0, 1)[None, None]
    write_picture(target, resize(whole, size_px).clamp(0, 1))
    return target


def backdrop_of(path: Path) -> Tensor | None:
    """Return a picture, small and dim, to stand where its result has nothing yet: [1 1|3 h w] in [0,1].

    None where it cannot be read: the run says why.
    """
    try:
        picture = read_picture(path)
    except HypirError:
        return None
    return DIM * _fitted(_color(picture), _shown_px(picture.size_hw, PREVIEW_PX))


def _color(picture: Picture) -> Tensor:
    return to_planes(picture)[0]


def _shown_px(size_px: tuple[int, int], longest_px: int = SHOWN_PX) -> tuple[int, int]:
    shrink = min(1.0, longest_px / max(size_px))
    return max(1, round(size_px[0] * shrink)), max(1, round(size_px[1] * shrink))


def _fitted(image_01: Tensor, size_px: tuple[int, int]) -> Tensor:
    return (
        image_01 if tuple(image_01.shape[-2:]) == size_px else resize(image_01.float(), size_px).clamp(0, 1)
    )


def _write(image_01: Tensor, like: Picture, target: Path) -> Path:
    pixels = image_01[0].expand(3, -1, -1).mul(255).round().byte().permute(1, 2, 0).numpy()
    profile = like.icc if image_01.shape[1] == 3 else None  # that of a grey picture says nothing of colours
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, "JPEG", quality=QUALITY, icc_profile=profile)
    return target
