"""The one list of picture formats: names, extensions, what each can hold, how content is recognised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageFileError
from ..registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFormat:
    """What one file format can hold."""

    name: str
    extensions: tuple[str, ...]
    """Lower case, with the dot; the first is the one that is written."""
    writable: bool = True
    holds_alpha: bool = True
    holds_grey: bool = True
    """Without, a grey picture is written as RGB."""
    depths: tuple[int, ...] = (8,)
    """Bits per sample that can be written, ascending; 32 means float32."""
    max_side_px: int | None = None
    """Longest side that the format can describe; None where no picture reaches the limit."""


FORMATS: Registry[PictureFormat] = Registry("picture format")
for _entry in (
    PictureFormat(name="png", extensions=(".png",), depths=(8, 16)),
    PictureFormat(
        name="jpg", extensions=(".jpg", ".jpeg", ".jpe", ".jfif"), holds_alpha=False, max_side_px=65500
    ),
    PictureFormat(name="webp", extensions=(".webp",), holds_grey=False, max_side_px=16383),
    PictureFormat(name="tiff", extensions=(".tif", ".tiff"), depths=(8, 16, 32)),
    PictureFormat(name="npy", extensions=(".npy",), depths=(32,)),
    PictureFormat(name="bmp", extensions=(".bmp", ".dib"), writable=False),
):
    FORMATS.add(_entry.name, _entry)

READABLE = "PNG, JPEG, WebP, TIFF, BMP or npy"

_BY_EXTENSION = {ending: entry.name for entry in FORMATS for ending in entry.load().extensions}

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
    (b"\x93NUMPY", "npy"),
)
_STRANGERS = (
    (0, b"GIF8", "a GIF"),
    (0, b"%PDF", "a PDF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyp", "a HEIC picture or a video"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
)


def is_picture_path(path: Path) -> bool:
    """Say whether the extension is one that `read_picture` can read (upper or lower case)."""
    return path.suffix.lower() in _BY_EXTENSION


def output_extension(source: Path, *, format_name: str | None = None) -> str:
    """Return the extension, with the dot, of the picture made from `source`.

    With `format_name` it is that format's first extension; otherwise the source's own extension where that
    can be written, else ``.png`` (a BMP becomes a PNG).

    Raises:
        UnknownNameError: `format_name` is no picture format.
        ImageFileError: `format_name` can be read but not written.
    """
    if format_name is not None:
        return writable_format(format_name).extensions[0]
    name = _BY_EXTENSION.get(source.suffix.lower())
    if name is not None and FORMATS.get(name).writable:
        return source.suffix.lower()
    return ".png"


def writable_format(name: str) -> PictureFormat:
    """Return the format called `name`.

    Raises:
        UnknownNameError: no such format.
        ImageFileError: it can be read but not written.
    """
    chosen = FORMATS.get(name)
    if not chosen.writable:
        raise ImageFileError(
            f"expected a format that can be written ({', '.join(writable_names())}), got {name!r}; use png"
        )
    return chosen


def format_for_output(path: Path, format_name: str | None) -> PictureFormat:
    """Return the format to write at `path`: `format_name`, or else the one that the extension names.

    Raises:
        UnknownNameError: `format_name` is no picture format.
        ImageFileError: the extension is unknown, cannot be written, or belongs to another format.
    """
    named_by_path = _BY_EXTENSION.get(path.suffix.lower())
    if format_name is None:
        if named_by_path is None:
            raise ImageFileError(
                f"{path}: expected a name that ends in one of {', '.join(_writable_extensions())}, "
                f"got {path.suffix or 'no extension'!r}; rename the output or name the format"
            )
        format_name = named_by_path
    chosen = writable_format(format_name)
    if named_by_path not in (None, chosen.name):
        raise ImageFileError(
            f"{path}: expected a name that ends in {chosen.extensions[0]} for the format {chosen.name}, "
            f"got {path.suffix!r}; change the name or the format"
        )
    return chosen


def recognise(head: bytes) -> str | None:
    """Name the format whose signature the first bytes of a file (32 are enough) carry, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return None


def likeness(head: bytes) -> str:
    """Describe, for a message, the first bytes of a file that is not a readable picture."""
    for offset, signature, words in _STRANGERS:
        if head[offset:].startswith(signature):
            return words
    start = head[:16]
    if start.isascii() and start.decode("ascii").replace("\n", " ").replace("\r", " ").isprintable():
        return f"text that starts with {start.decode('ascii')!r}"
    return f"unknown content that starts with the bytes {start[:8].hex(' ')}"


def writable_names() -> tuple[str, ...]:
    """Return the names of the formats that can be written."""
    return tuple(entry.name for entry in FORMATS if entry.load().writable)


def _writable_extensions() -> list[str]:
    return [ending for ending, name in _BY_EXTENSION.items() if FORMATS.get(name).writable]
