"""The one list of picture formats: names, extensions, what each can hold, how content is recognised."""

from __future__ import annotations

import re
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
    PictureFormat(name="gif", extensions=(".gif",), writable=False),
    PictureFormat(name="avif", extensions=(".avif", ".avifs"), writable=False),
    PictureFormat(name="jp2", extensions=(".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"), writable=False),
    PictureFormat(name="tga", extensions=(".tga", ".vda", ".icb", ".vst"), writable=False),
    PictureFormat(name="ppm", extensions=(".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), writable=False),
):
    FORMATS.add(_entry.name, _entry)

READABLE = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, TGA, PPM or npy"

_HEIC = "HEIC: its decoder is not installed with Pillow; convert it to JPEG, PNG or AVIF"
_JXL = "JPEG XL: Pillow has no decoder for it; convert it to PNG"
_RAW = "a camera's raw file: develop it first (darktable, RawTherapee, Lightroom) and give the TIFF or JPEG"
_LAYERED = "a file of layers: export it as PNG or TIFF"
_VECTOR = "a drawing or a document: export it as PNG"
_VIDEO = "a video: export its frames as PNG, or name the file itself to `hypir restore`"
_LIGHT = "scene light beyond white: convert it to a 16-bit TIFF or PNG"
CLIP_ENDINGS = (
    *(
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".m2v",
        ".wmv",
        ".asf",
        ".mts",
        ".m2ts",
    ),
    *(".3gp", ".ogv", ".flv", ".mxf", ".vob", ".dv", ".divx"),
)
"""Endings of clips, which are no pictures (`clips.formats`)."""

KNOWN_UNREADABLE: dict[str, str] = {
    ending: reason
    for reason, endings in (
        (_HEIC, ".heic .heif .hif .heics .heifs"),
        (_JXL, ".jxl"),
        (
            _RAW,
            ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .ori "
            ".pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f",
        ),
        (_LAYERED, ".psd .psb .xcf .kra .ora .afphoto .clip"),
        (_VECTOR, ".pdf .ps .eps .ai .svg .svgz .djvu"),
        (_VIDEO, " ".join(CLIP_ENDINGS)),
        (_LIGHT, ".exr .hdr"),
        ("an icon of several sizes: export the largest as PNG", ".ico .icns .cur"),
        ("a texture: export it as PNG", ".dds .ktx .ktx2"),
        (
            "an old format that is not read: convert it to PNG",
            ".pcx .sgi .rgb .ras .sun .xbm .xpm .pict .iff",
        ),
    )
    for ending in endings.split()
}
"""Endings of pictures that are known and cannot be read, and why: one sentence without a full stop."""

HEAD_BYTES = 64
"""So many bytes of a file tell its format."""

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
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
)
_STRANGERS = (
    (0, b"%PDF", "a PDF", _VECTOR),
    (0, b"%!PS", "PostScript", _VECTOR),
    (0, b"\xff\x0a", "a JPEG XL", _JXL),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL", _JXL),
    (8, b"CR\2", "a Canon raw file", _RAW),
    (0, b"FUJIFILMCCD-RAW", "a Fujifilm raw file", _RAW),
    (0, b"IIRO", "an Olympus raw file", _RAW),
    (0, b"IIRS", "an Olympus raw file", _RAW),
    (0, b"MMOR", "an Olympus raw file", _RAW),
    (0, b"IIU\0", "a Panasonic raw file", _RAW),
    (0, b"\0MRM", "a Minolta raw file", _RAW),
    (0, b"FOVb", "a Sigma raw file", _RAW),
    (0, b"8BPS", "a Photoshop file", _LAYERED),
    (0, b"gimp xcf", "a GIMP file", _LAYERED),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR file", _LIGHT),
    (0, b"#?RADIANCE", "a Radiance HDR file", _LIGHT),
    (0, b"#?RGBE", "a Radiance HDR file", _LIGHT),
    (0, b"DDS ", "a DDS texture", "export it as PNG"),
    (0, b"\0\0\1\0", "an icon", "export its largest size as PNG"),
    (0, b"icns", "an icon", "export its largest size as PNG"),
    (0, b"<svg", "an SVG drawing", _VECTOR),
)
_CLIPS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\0\0\1\xba",  # MPEG program stream
    b"\0\0\1\xb3",  # MPEG video
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"FLV\1",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
)
_CHECK = "check the file or convert it"
_BRANDS = (
    (b"heic heix heim heis hevc hevx mif1 msf1 heif", "a HEIC picture", _HEIC),
    (b"crx ", "a Canon raw file", _RAW),
)
"""Major brands of files in boxes (ISO/IEC 14496-12)."""


SIDECAR_OF_MACOS = "._"
"""How the files begin that macOS lays beside others on foreign disks: they are called as pictures, and are none."""


def ending_of(name: str) -> str:
    """Return what `Path(name).suffix` is for a file's name without its folder, in a tenth of the time."""
    dot = name.rfind(".")
    return name[dot:] if 0 < dot < len(name) - 1 else ""


def is_picture_name(name: str) -> bool:
    """Say the same as `is_picture_path` of a file's name without its folder."""
    return ending_of(name).lower() in _BY_EXTENSION and not name.startswith(SIDECAR_OF_MACOS)


def is_picture_path(path: Path) -> bool:
    """Say whether a file is called as a picture that `read_picture` can read: by its ending, upper or lower case."""
    return is_picture_name(path.name)


def unreadable_reason(path: Path) -> str | None:
    """Return why a picture of this extension cannot be read, one sentence; None for any other file.

    For whoever walks a folder and names what is passed over. The content decides in the end: `read_picture`.
    """
    return None if path.name.startswith(SIDECAR_OF_MACOS) else KNOWN_UNREADABLE.get(path.suffix.lower())


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
    """Name the format whose signature the first `HEAD_BYTES` of a file carry, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:12] in (b"ftypavif", b"ftypavis") or (
        head[4:12] in (b"ftypmif1", b"ftypmsf1") and b"avi" in head[12:]
    ):
        return "avif"
    if head[8:11] == b"CR\2":  # Canon's raw files begin as TIFF does
        return None
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if re.match(rb"P[1-6fF][\s#]", head):
        return "ppm"
    return "tga" if _is_targa(head) else None


def likeness(head: bytes) -> tuple[str, str]:
    """Describe, for a message, the first bytes of a file that is not a readable picture: what it is, what to do."""
    for offset, signature, words, reason in _STRANGERS:
        if head[offset:].startswith(signature):
            return words, _advice(reason)
    if head[4:8] == b"ftyp":
        for brands, words, reason in _BRANDS:
            if head[8:12] in [brands[at : at + 4] for at in range(0, len(brands), 5)]:
                return words, _advice(reason)
    if is_clip_head(head):
        return "a video", _advice(_VIDEO)
    start = head[:16]
    if start.isascii() and start.decode("ascii").replace("\n", " ").replace("\r", " ").isprintable():
        return f"text that starts with {start.decode('ascii')!r}", _CHECK
    return f"unknown content that starts with the bytes {start[:8].hex(' ')}", _CHECK


def is_clip_head(head: bytes) -> bool:
    """Say whether the first `HEAD_BYTES` of a file are those of a clip (or of sound in the same kind of file)."""
    if head[4:8] == b"ftyp":
        pictures = [*b" ".join(brands for brands, _, _ in _BRANDS).split(), b"avif", b"avis"]
        return head[8:12].rstrip() not in pictures
    if head[:4] == b"RIFF":
        return head[8:12] == b"AVI "
    return head.startswith(_CLIPS) or head[4:8] in (b"moov", b"mdat", b"wide")


def _advice(reason: str) -> str:
    """Return the part of a reason that says what to do."""
    return reason.partition(": ")[2] or reason


def _is_targa(head: bytes) -> bool:
    """Say whether a file without a signature starts as a Truevision TGA does (TGA 2.0, section C.2)."""
    if len(head) < 18:
        return False
    palette, kind, depth, descriptor = head[1], head[2], head[16], head[17]
    has_palette = kind in (1, 9)
    plausible = kind in (1, 2, 3, 9, 10, 11) and depth in (8, 15, 16, 24, 32) and not descriptor & 0xC0
    sizes = any(head[12:14]) and any(head[14:16])
    return plausible and sizes and palette == has_palette and (has_palette or not any(head[3:8]))


def writable_names() -> tuple[str, ...]:
    """Return the names of the formats that can be written."""
    return tuple(entry.name for entry in FORMATS if entry.load().writable)


def _writable_extensions() -> list[str]:
    return [ending for ending, name in _BY_EXTENSION.items() if FORMATS.get(name).writable]
