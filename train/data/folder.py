"""A folder of pictures as a source of high-quality images."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from hypir_core.errors import ConfigError, ImageFileError

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folder:
    """The usable pictures of a folder, sorted by name."""

    root: Path
    files: tuple[Path, ...]
    skipped: tuple[str, ...]
    """One line for every picture that is left out: which, and why."""
    hash: str
    """SHA-256 over the relative names and byte sizes of `files`."""


def open_folder(root: Path, *, key: str, least_px: int, exact: bool = False) -> Folder:
    """List the pictures under `root` whose header can be read and whose sides are at least `least_px`.

    With `exact` both sides must be `least_px`. Others are reported and left out. `key` names the setting.

    Raises:
        ConfigError: there is no such folder, or no usable picture in it.
    """
    if not root.is_dir():
        raise ConfigError(f"{key}: {root} is not a folder; set {key}=FOLDER to one with pictures")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    problems = {path: _problem(path, least_px, exact=exact) for path in found}
    files = tuple(path for path in found if not problems[path])
    skipped = tuple(f"{path.relative_to(root)}: {reason}" for path, reason in problems.items() if reason)
    for line in skipped:
        log.warning("%s: skipped %s", key, line)
    if not files:
        why = f"; the first of {len(skipped)} that were skipped: {skipped[0]}" if skipped else ""
        raise ConfigError(f"{key}: {root} holds no usable picture ({', '.join(sorted(ENDINGS))}){why}")
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n".encode())
    return Folder(root, files, skipped, digest.hexdigest())


def read_rgb(path: Path) -> Tensor:
    """Decode a picture to uint8 [3 h w], upright by its EXIF orientation.

    Raises:
        ImageFileError: it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        raise ImageFileError(f"{path}: cannot be decoded ({err})") from err
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()


def _problem(path: Path, least_px: int, *, exact: bool) -> str:
    try:
        with Image.open(path) as image:
            width, height = image.size
    except UnidentifiedImageError:
        return "is not a picture"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as err:
        return f"cannot be read ({err})"
    if exact and (width, height) != (least_px, least_px):
        return f"is {width}×{height} px, but data.crop=none needs exactly {least_px}×{least_px}"
    if min(width, height) < least_px:
        return f"is {width}×{height} px, smaller than {least_px} px"
    return ""
