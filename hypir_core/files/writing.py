"""Write a picture file, whole or not at all, and never over an input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..atomic import atomic_file, explain_os_error
from ..errors import ConfigError, ImageFileError, ShapeError
from .encode import to_samples, write_samples
from .formats import FORMATS, PictureFormat, format_for_output
from .metadata.carried import Extras
from .metadata.carrying import Origin, extras_for
from .picture import Picture


def write_picture(
    path: Path | str,
    color_01: Tensor,
    *,
    alpha_01: Tensor | None = None,
    like: Picture | None = None,
    format_name: str | None = None,
    text: Mapping[str, str] | None = None,
    force: bool = False,
    protect: Iterable[Path | str] = (),
    bits: int | None = None,
    quality: int = 95,
    keep_dates: bool = False,
) -> tuple[str, ...]:
    """Write a picture; the file is either complete or not there (see `atomic_file`).

    Args:
        path: the new file; missing folders are made.
        color_01: [1 1|3 H W] or [1|3 H W], float, any device; clamped to [0,1].
        alpha_01: [1 1 H W], [1 H W] or [H W], of the same size.
        like: the picture this one was made from: its ICC profile, EXIF block, depth and whatever else it carried
            are taken over as far as the format can hold them (`metadata.kept`), and its file is protected.
        format_name: ``png``, ``jpg``, ``webp``, ``tiff`` or ``npy``; by default what the extension names.
        text: goes into PNG text chunks (iTXt), elsewhere into EXIF UserComment; npy holds none (nor ICC or
            EXIF). Read back with `read_text`.
        force: overwrite an existing file.
        protect: files that are never overwritten, `force` or not: the inputs.
        bits: 8, 16 or 32 (float32); by default that of `like`, else 8. Where the format does not have this
            depth it is written at the deepest that it has: JPEG and WebP always hold 8 bits, npy 32.
        quality: 1 to 100, for JPEG (4:4:4) and WebP.
        keep_dates: give the new file the times of `like`'s file.

    Returns:
        What `like` carried and this file does not, one sentence each.

    Raises:
        ImageFileError: the file exists, is protected, has an unsuitable name, cannot hold this picture (size;
            alpha in a JPEG, unless opaque everywhere), or cannot be written (folder, disk full).
        ShapeError: a tensor of another shape.
        RangeError: NaN or infinity.
        ConfigError: `bits` or `quality` is none of the above.
        UnknownNameError: `format_name` is no picture format.
    """
    path = Path(path)
    color_chw, alpha_chw = _checked_planes(color_01, alpha_01)
    channels, height_px, width_px = color_chw.shape
    target = plan_writing(
        path,
        size_hw=(height_px, width_px),
        colors=channels,
        like=like,
        format_name=format_name,
        text=text,
        force=force,
        protect=protect,
        bits=bits,
        quality=quality,
    )
    samples = to_samples(color_chw, alpha_chw, bits=target.bits)
    has_alpha = alpha_chw is not None
    if has_alpha and not target.format.holds_alpha:
        samples = _without_opaque_alpha(path, samples, target.format)
        has_alpha = False
    try:
        with atomic_file(path) as file:
            write_samples(file, samples, target.format.name, has_alpha=has_alpha, extras=target.extras)
    except ImageFileError as err:
        raise ImageFileError(_named_once(path, err)) from err
    if keep_dates and like is not None:
        copy_dates(like.path, path)
    return target.notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is written where, decided before the first pixel."""

    path: Path
    format: PictureFormat
    bits: int
    size_hw: tuple[int, int]
    is_grey: bool
    """It is written with one colour channel."""
    origin: Origin | None
    text: Mapping[str, str]
    quality: int

    @property
    def extras(self) -> Extras:
        """What is written beside the pixels."""
        return _extras(self, self.text)[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the source carried and the new file will not, one sentence each."""
        return _extras(self, self.text)[1]


def plan_writing(
    path: Path,
    *,
    size_hw: tuple[int, int],
    colors: int,
    like: Picture | None,
    format_name: str | None,
    text: Mapping[str, str] | None,
    force: bool,
    protect: Iterable[Path | str],
    bits: int | None,
    quality: int,
) -> Target:
    """Check everything that can be known before the pixels are there; `colors` counts no alpha.

    Raises:
        ImageFileError, ConfigError, UnknownNameError: as `write_picture` does.
    """
    chosen = format_for_output(path, format_name)
    bits = _depth(chosen, bits, like)
    if not 1 <= quality <= 100:
        raise ConfigError(f"quality must be 1 to 100, got {quality}")
    _refuse_overwriting(path, force=force, protect=(*protect, *([like.path] if like else [])))
    height_px, width_px = size_hw
    if chosen.max_side_px and max(size_hw) > chosen.max_side_px:
        raise ImageFileError(
            f"{path}: expected at most {chosen.max_side_px} px on a side for {chosen.name}, "
            f"got {width_px}×{height_px}; use png or tiff"
        )
    origin = None
    if like is not None:
        origin = Origin(
            format=like.format, size_hw=like.size_hw, icc=like.icc, exif=like.exif, carried=like.carried
        )
    return Target(
        path=path,
        format=chosen,
        bits=bits,
        size_hw=size_hw,
        is_grey=colors == 1 and chosen.holds_grey,
        origin=origin,
        text=text or {},
        quality=quality,
    )


def target_extras(target: Target, text: Mapping[str, str]) -> Extras:
    """Return what is written beside the pixels, with these words instead of the planned ones."""
    return _extras(target, text)[0]


def _extras(target: Target, text: Mapping[str, str]) -> tuple[Extras, tuple[str, ...]]:
    return extras_for(
        target.format.name,
        target.origin,
        width_px=target.size_hw[1],
        height_px=target.size_hw[0],
        is_grey=target.is_grey,
        text=text,
        quality=target.quality,
    )


def copy_dates(source: Path, path: Path) -> None:
    """Give `path` the times of last reading and last change of `source`.

    Raises:
        ImageFileError: one of the two is not there, or may not be touched.
    """
    try:
        found = source.stat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    except (OSError, ValueError) as err:
        raise ImageFileError(explain_os_error(path, err)) from err


def _named_once(path: Path, err: ImageFileError) -> str:
    return str(err) if str(path) in str(err) else f"{path}: {err}"


def _depth(chosen: PictureFormat, bits: int | None, like: Picture | None) -> int:
    if bits is None:
        bits = like.bits if like else 8
    if bits not in (8, 16, 32):
        raise ConfigError(f"bits must be 8, 16 or 32, got {bits}")
    return bits if bits in chosen.depths else chosen.depths[-1]


def _checked_planes(color_01: Tensor, alpha_01: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return [C H W] and [1 H W]."""
    color = color_01[0] if color_01.ndim == 4 and color_01.shape[0] == 1 else color_01
    if color.ndim != 3 or color.shape[0] not in (1, 3) or 0 in color.shape or not color.is_floating_point():
        raise ShapeError(
            f"expected float colour [1 1|3 H W] or [1|3 H W], got {color_01.dtype} {list(color_01.shape)}"
        )
    if alpha_01 is None:
        return color, None
    if alpha_01.numel() != color[0].numel() or alpha_01.shape[-2:] != color.shape[-2:]:
        raise ShapeError(
            f"expected alpha [1 1 H W], [1 H W] or [H W] of the colour's size {list(color.shape[-2:])}, "
            f"got {list(alpha_01.shape)}"
        )
    return color, alpha_01.reshape(1, *color.shape[-2:])


def _refuse_overwriting(path: Path, *, force: bool, protect: Iterable[Path | str]) -> None:
    try:
        if not path.exists():
            return
        if path.is_dir():
            raise ImageFileError(f"{path}: expected a file name, got a folder; add a name for the picture")
        for source in protect:
            if Path(source).exists() and os.path.samefile(source, path):  # noqa: PTH121  # both may be links
                raise ImageFileError(
                    f"{path}: expected an output that is not an input, got the input {source}; "
                    "choose another name or folder"
                )
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        raise ImageFileError(explain_os_error(path, err)) from err
    if not force:
        raise ImageFileError(
            f"{path}: expected a new file, but it exists; choose another name or overwrite it with --force"
        )


def _without_opaque_alpha(path: Path, samples_hwc: np.ndarray, chosen: PictureFormat) -> np.ndarray:
    white = np.iinfo(samples_hwc.dtype).max
    if samples_hwc[..., -1].min() < white:
        holding = [entry.name for entry in FORMATS if entry.load().writable and entry.load().holds_alpha]
        raise ImageFileError(
            f"{path}: expected an opaque picture for {chosen.name}, got transparency, which it cannot hold; "
            f"use one of {', '.join(holding)}"
        )
    return np.ascontiguousarray(samples_hwc[..., :-1])
