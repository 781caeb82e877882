"""A font of this machine that has the letters of a text.

Pillow's own font has those of English. Others are looked for where the system keeps its fonts, under the names that
Linux, Windows and macOS give them; none is shipped here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONTS = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "segoeui.ttf",
    "Arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "msyh.ttc",
    "msjh.ttc",
    "simsun.ttc",
    "YuGothM.ttc",
    "meiryo.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "ヒラギノ角ゴシック W3.ttc",
    "AppleSDGothicNeo.ttc",
    "NanumGothic.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoNaskhArabic-Regular.ttf",
    "tahoma.ttf",
    "unifont.otf",
)
"""Names of fonts with many letters, Latin, Greek and Cyrillic first."""

ABSENT = "\uffff"
"""Never a letter: fonts draw it as what they draw for letters that they lack."""

LOOK_PX = 16


def font_for(text: str, size_px: int) -> FreeTypeFont:
    """Return a font of `size_px` that has every letter of a text, or else the one that lacks fewest."""
    name, _lacks = _best(text)
    return _opened(name, size_px)


def lacking(text: str) -> str:
    """Return the letters of a text that no font found here has, each once."""
    return _best(text)[1]


def missing_letters(text: str) -> tuple[str, ...]:
    """Return a note on the letters of a text that cannot be drawn here; none where all can."""
    lacks = lacking(text)
    if not lacks:
        return ()
    return (
        f"no font on this machine has the letters {lacks} of the labels, boxes stand for them; install one that has, "
        "for instance Noto Sans CJK",
    )


def _best(text: str) -> tuple[str, str]:
    wanted = "".join(sorted({letter for letter in text if not letter.isspace()}))
    best = ("", wanted)
    for name in _found():
        lacks = _lacks(name, wanted)
        if not lacks:
            return name, ""
        if len(lacks) < len(best[1]) or not best[0]:
            best = (name, lacks)
    return best[0], best[1]


@lru_cache(maxsize=256)
def _lacks(name: str, letters: str) -> str:
    font = _opened(name, LOOK_PX)
    box = drawn(ABSENT, font)
    return "".join(letter for letter in letters if drawn(letter, font) == box)


def drawn(letter: str, font: FreeTypeFont) -> bytes:
    """Return the pixels of one letter: equal where two letters look the same."""
    from PIL import Image, ImageDraw

    paper = Image.new("L", (3 * LOOK_PX, 3 * LOOK_PX))
    ImageDraw.Draw(paper).text((LOOK_PX, LOOK_PX), letter, fill=255, font=font)
    return paper.tobytes()


def _found() -> Iterator[str]:
    """Yield the names of the fonts that are here; the empty name is Pillow's own."""
    yield ""
    for name in FONTS:
        if _is_here(name):
            yield name


@lru_cache(maxsize=256)
def _is_here(name: str) -> bool:
    try:
        _opened(name, LOOK_PX)
    except OSError:  # Pillow's word for a font that it does not find
        return False
    return True


def _opened(name: str, size_px: int) -> FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.truetype(name, size_px) if name else ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
