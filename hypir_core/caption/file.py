"""Words from a text file beside the picture, as training sets keep them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import CaptionError
from ..progress import ShouldStop, never
from .base import Captioner, one_line

if TYPE_CHECKING:
    from .catalog import FileOptions

_MOST_BYTES = 1 << 16
"""A caption is a sentence; what is longer than this is some other file."""


class FileCaptioner(Captioner):
    """Reads the caption's text file, UTF-8."""

    def __init__(self, options: FileOptions):
        self._path = options.path

    def __call__(
        self, image_01: Tensor, *, source: Path | None = None, should_stop: ShouldStop = never
    ) -> str:
        """Return the file's text as one line.

        Raises:
            CaptionError: there is no such file, it is no text, or no file is known for this picture.
        """
        if self._path is not None:
            return one_line(_text_of(self._path))
        if source is None:
            raise CaptionError(
                "captioner file: this picture comes from no file, so no text file lies beside it; "
                "name one with path=FILE"
            )
        return one_line(_text_of(sidecar(source)))


def sidecar(source: Path) -> Path:
    """Return the place of a picture's caption: photo.txt for photo.jpg."""
    return source.with_suffix(".txt")


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise CaptionError(f"{path}: expected a caption, got more than {_MOST_BYTES >> 10} KiB")
        return data.decode("utf-8-sig")
    except FileNotFoundError as err:
        raise CaptionError(
            f"{path}: expected the caption in this text file, there is none; write it, or make it with "
            "hypir caption --write-sidecar"
        ) from err
    except OSError as err:
        raise CaptionError(f"{path}: the caption cannot be read ({err.strerror or err})") from err
    except UnicodeDecodeError as err:
        raise CaptionError(
            f"{path}: expected text in UTF-8, got byte {err.object[err.start]:#04x}; save it as UTF-8"
        ) from err
