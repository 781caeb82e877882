"""The one table of what a written picture keeps of what the read one carried.

The writer, the tests and the page ``docs/reference/files.md`` use this table and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

OUTPUTS = ("png", "jpg", "webp", "tiff", "npy")


class Fate(Enum):
    """What happens to a field."""

    kept = "kept"
    """The same bytes, or the same values."""
    converted = "converted"
    """Said in the way of the new format."""
    left_out = "left out"
    """Not there afterwards; `write_picture` says so."""
    refused = "refused"
    """The picture is not read or not written; the error says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Fate of a field, and how or why in a few words."""

    fate: Fate
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Something that a picture file carries besides its colour samples."""

    name: str
    meaning: str
    carried_by: tuple[str, ...]
    """Formats in which it is looked for."""
    outputs: dict[str, Rule]
    """What each written format makes of it."""
    native_to: tuple[str, ...] = ()
    """Formats that hold it in the same form: between two of them it is kept even where `outputs` says converted."""

    def rule(self, source: str, output: str) -> Rule:
        """Return the fate of the field on the way from one format to another."""
        rule = self.outputs[output]
        if rule.fate is Fate.converted and {source, output} <= set(self.native_to):
            return Rule(Fate.kept)
        return rule


_KEPT = Rule(Fate.kept)
_NPY = Rule(Fate.left_out, "a npy file holds samples only")


def _as(words: str) -> Rule:
    return Rule(Fate.converted, words)


def _without(words: str) -> Rule:
    return Rule(Fate.left_out, words)


def _refused(words: str) -> Rule:
    return Rule(Fate.refused, words)


def _all(rule: Rule, *, npy: Rule = _NPY, **others: Rule) -> dict[str, Rule]:
    return {**dict.fromkeys(OUTPUTS, rule), "npy": npy, **others}


FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field(
            name="icc",
            meaning="ICC profile of the colours",
            carried_by=("png", "jpg", "webp", "tiff", "bmp", "avif", "jp2"),
            outputs=_all(_KEPT),
        ),
        Field(
            name="grey icc",
            meaning="ICC profile of a grey picture",
            carried_by=("png", "jpg", "tiff"),
            outputs=_all(_KEPT, webp=_as("an RGB profile with the same tone curve: WebP has no grey")),
        ),
        Field(
            name="cmyk",
            meaning="inks, through their profile if there is one",
            carried_by=("jpg", "tiff"),
            outputs=dict.fromkeys(OUTPUTS, _as("8-bit sRGB; the CMYK profile no longer applies")),
        ),
        Field(
            name="png color",
            meaning="PNG chunks gAMA, cHRM, sRGB, cICP",
            carried_by=("png",),
            outputs=_all(_as("an ICC profile, unless they say sRGB"), png=_KEPT),
        ),
        Field(
            name="exif",
            meaning="EXIF block, maker notes and GPS included",
            carried_by=("png", "jpg", "webp", "tiff", "avif", "jp2"),
            outputs=_all(_KEPT),
        ),
        Field(
            name="raw exif",
            meaning="EXIF as text, as ImageMagick writes it into PNG",
            carried_by=("png",),
            outputs=_all(_as("a real EXIF block")),
        ),
        Field(
            name="orientation",
            meaning="how the pixels are to be turned",
            carried_by=("png", "jpg", "webp", "tiff", "avif"),
            outputs=dict.fromkeys(OUTPUTS, _as("the pixels are turned; the tag says 1")),
        ),
        Field(
            name="thumbnail",
            meaning="small copy of the picture in its EXIF block",
            carried_by=("jpg",),
            outputs=_all(_without("it would show the old picture")),
        ),
        Field(
            name="xmp",
            meaning="XMP packet; its orientation and size are brought up to date",
            carried_by=("png", "jpg", "webp", "tiff", "avif", "jp2", "gif"),
            outputs=_all(_KEPT),
        ),
        Field(
            name="iptc",
            meaning="IPTC-IIM captions and credits",
            carried_by=("png", "jpg", "tiff"),
            outputs=_all(
                _KEPT,
                png=_as("text chunk Raw profile type iptc"),
                webp=_without("WebP has no place for it; its XMP is kept"),
            ),
            native_to=("png",),
        ),
        Field(
            name="comments",
            meaning="comments of JPEG, GIF and JPEG 2000; PNG text Comment",
            carried_by=("png", "jpg", "gif", "jp2"),
            outputs=_all(
                _as("EXIF UserComment, under the key Comment"), jpg=_KEPT, png=_as("text chunk Comment")
            ),
            native_to=("png",),
        ),
        Field(
            name="text",
            meaning="PNG text chunks",
            carried_by=("png",),
            outputs=_all(_as("EXIF UserComment, a JSON object"), png=_KEPT),
        ),
        Field(
            name="density",
            meaning="pixels per inch or centimetre",
            carried_by=("png", "jpg", "tiff", "bmp", "jp2"),
            outputs=_all(
                _KEPT,
                png=_as("whole pixels per metre"),
                jpg=_as("whole pixels per inch or centimetre"),
                webp=_as("EXIF XResolution and YResolution"),
            ),
            native_to=("png", "jpg"),
        ),
        Field(
            name="dates",
            meaning="when the file was changed",
            carried_by=("png", "jpg", "webp", "tiff", "bmp", "npy", "avif", "jp2", "gif", "tga", "ppm"),
            outputs=dict.fromkeys(OUTPUTS, Rule(Fate.kept, "with `keep_dates` (`--keep-dates`)")),
        ),
        Field(
            name="transparency",
            meaning="alpha channel, transparent colour or palette entry",
            carried_by=("png", "webp", "tiff", "npy", "gif", "avif", "jp2", "tga"),
            outputs=_all(
                Rule(Fate.kept, "not premultiplied"),
                npy=Rule(Fate.kept, "not premultiplied"),
                jpg=_refused("JPEG is opaque; an alpha that is opaque everywhere is dropped"),
            ),
        ),
        Field(
            name="16 bit",
            meaning="16 bits per sample",
            carried_by=("png", "tiff", "ppm", "jp2"),
            outputs={
                "png": _KEPT,
                "tiff": _KEPT,
                "npy": _as("float32 in [0,1]"),
                "jpg": _as("8 bit"),
                "webp": _as("8 bit"),
            },
        ),
        Field(
            name="float",
            meaning="floating-point samples in [0,1]",
            carried_by=("tiff", "npy", "ppm"),
            outputs={
                "png": _as("16 bit"),
                "tiff": _KEPT,
                "npy": _KEPT,
                "jpg": _as("8 bit"),
                "webp": _as("8 bit"),
            },
        ),
        Field(
            name="bands",
            meaning="more channels than grey, RGB, CMYK and alpha",
            carried_by=("tiff", "npy"),
            outputs=dict.fromkeys(OUTPUTS, _refused("bands are not restored as a picture, but as a scene")),
        ),
        Field(
            name="stack",
            meaning="slices of one volume or series (ImageJ, OME, tifffile)",
            carried_by=("tiff",),
            outputs=dict.fromkeys(OUTPUTS, _refused("stacks are not restored as a picture, but as a scene")),
        ),
        Field(
            name="pages",
            meaning="pages of a document, frames of an animation",
            carried_by=("tiff", "png", "webp", "gif", "avif"),
            outputs=dict.fromkeys(
                OUTPUTS, _without("one page is read, the first unless named; a note says so")
            ),
        ),
        Field(
            name="coordinates",
            meaning="GeoTIFF tags",
            carried_by=("tiff",),
            outputs=_all(
                _without("only TIFF holds them"), tiff=_as("the scale of a pixel follows the new size")
            ),
        ),
        Field(
            name="credentials",
            meaning="signed content credentials (C2PA)",
            carried_by=("png", "jpg"),
            outputs=_all(_without("the signature is of the old pixels")),
        ),
    )
}


def fate(field: str, source: str, output: str) -> Rule:
    """Return what happens to a field of `FIELDS` between two formats."""
    return FIELDS[field].rule(source, output)


def markdown_table() -> str:
    """Return the table as a page of the documentation shows it."""
    lines = [
        f"| what | read from | {' | '.join(OUTPUTS)} |",
        f"|---|---|{'---|' * len(OUTPUTS)}",
    ]
    for field in FIELDS.values():
        fates = (_shown(field.outputs[output]) for output in OUTPUTS)
        lines.append(f"| {field.meaning} | {', '.join(field.carried_by)} | {' | '.join(fates)} |")
    return "\n".join(lines) + "\n"


def _shown(rule: Rule) -> str:
    return f"{rule.fate.value}: {rule.words}" if rule.words else rule.fate.value
