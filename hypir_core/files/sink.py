"""Where the rows of a result go: into memory and then a file, or into the file as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from torch import Tensor

from ..atomic import atomic_file
from ..errors import ImageFileError, ShapeError
from .encode import to_samples
from .picture import Picture
from .row_blocks import row_blocks
from .streams.opening import STREAMED, open_stream
from .streams.stream import Layout
from .writing import Target, copy_dates, plan_writing, target_extras, write_picture


class Sink(Protocol):
    """Takes a picture from top to bottom."""

    notes: tuple[str, ...]
    """What the source carried and the new file does not, one sentence each; complete after `commit`."""
    text: Mapping[str, str]
    """Words that go into the file; may be set until `commit`: a report is complete only after the last row."""

    def write(self, start_row: int, rows: Tensor) -> None:
        """Take rows [1 c r w], float in [0,1], the next ones below those that were written."""
        ...

    def commit(self) -> None:
        """Give the file its name; every row has been written."""
        ...

    def abort(self) -> None:
        """Leave nothing; what was at the path before is untouched. Harmless after `commit`."""
        ...


def open_sink(
    path: Path | str,
    size_hw: tuple[int, int],
    channels: int,
    *,
    has_alpha: bool = False,
    like: Picture | None = None,
    format_name: str | None = None,
    text: Mapping[str, str] | None = None,
    force: bool = False,
    protect: Iterable[Path | str] = (),
    bits: int | None = None,
    quality: int = 95,
    keep_dates: bool = False,
) -> Sink:
    """Begin a picture file: PNG, TIFF and npy are written as rows come, the rest is kept in memory first.

    Nothing bears the name `path` until `commit`; `Sink.text` may be set until then.

    Args:
        path: the new file.
        size_hw: height and width of the result in pixels.
        channels: of the rows, alpha included.
        has_alpha: the last channel is alpha.
        like: as for `write_picture`, like everything that follows.
        format_name: see there.
        text: see there.
        force: see there.
        protect: see there.
        bits: see there.
        quality: see there.
        keep_dates: see there.

    Raises:
        HypirError: whatever `write_picture` raises about names, sizes and settings.
    """
    path = Path(path)
    colors = channels - has_alpha
    if colors not in (1, 3):
        raise ShapeError(f"expected 1 or 3 colour channels for a picture file, got {colors}")
    target = plan_writing(
        path,
        size_hw=size_hw,
        colors=colors,
        like=like,
        format_name=format_name,
        text=text,
        force=force,
        protect=protect,
        bits=bits,
        quality=quality,
    )
    dates = like.path if keep_dates and like is not None else None
    is_streamed = target.format.name in STREAMED and not (has_alpha and not target.format.holds_alpha)
    if is_streamed:
        return StreamSink(target, size_hw, channels, has_alpha=has_alpha, dates_of=dates)
    return MemorySink(
        path,
        size_hw,
        channels,
        has_alpha=has_alpha,
        like=like,
        format_name=format_name,
        text=text,
        force=force,
        protect=protect,
        bits=bits,
        quality=quality,
        keep_dates=keep_dates,
    )


class StreamSink:
    """Writes rows into a hidden file as they come; memory for a few rows is all it takes."""

    def __init__(
        self,
        target: Target,
        size_hw: tuple[int, int],
        channels: int,
        *,
        has_alpha: bool,
        dates_of: Path | None = None,
    ):
        self.notes, self.text = target.notes, target.text
        self._target, self._next_row, self._dates_of = target, 0, dates_of
        self._layout = Layout(
            width_px=size_hw[1],
            height_px=size_hw[0],
            channels=channels,
            has_alpha=has_alpha,
            bits=target.bits,
        )
        self._file = _HiddenFile(target.path)
        with self._file.guarded() as file:
            self._stream = open_stream(file, target.format.name, self._layout, target.extras)

    def write(self, start_row: int, rows: Tensor) -> None:
        """Take rows [1 c r w], float in [0,1], the next ones below those that were written.

        Raises:
            ImageFileError: the disk is full …; the hidden file is gone then.
            ShapeError: other rows were expected.
            RangeError: NaN or infinity.
        """
        rows_chw = _checked_rows(rows, start_row, self._next_row, self._layout)
        colors = self._layout.channels - self._layout.has_alpha
        with self._file.guarded():
            for block in row_blocks((rows_chw.shape[1], self._layout.width_px, self._layout.channels)):
                part = rows_chw[:, block]
                alpha = part[colors:] if self._layout.has_alpha else None
                self._stream.rows(to_samples(part[:colors], alpha, bits=self._layout.bits))
        self._next_row += rows_chw.shape[1]

    def commit(self) -> None:
        """Give the file its name.

        Raises:
            ImageFileError: the disk is full …
            ShapeError: rows are missing; the hidden file is gone then.
        """
        if self._next_row != self._layout.height_px:
            self.abort()
            raise ShapeError(f"expected {self._layout.height_px} rows, got {self._next_row}")
        with self._file.guarded():
            self._stream.end(target_extras(self._target, self.text))
        self._file.finish()
        if self._dates_of is not None:
            copy_dates(self._dates_of, self._target.path)

    def abort(self) -> None:
        """Leave nothing."""
        self._file.drop()


class MemorySink:
    """Keeps the whole picture as float32 and writes it at the end."""

    def __init__(
        self,
        path: Path | str,
        size_hw: tuple[int, int],
        channels: int,
        *,
        has_alpha: bool = False,
        like: Picture | None = None,
        format_name: str | None = None,
        text: Mapping[str, str] | None = None,
        force: bool = False,
        protect: Iterable[Path | str] = (),
        bits: int | None = None,
        quality: int = 95,
        keep_dates: bool = False,
    ):
        self.notes: tuple[str, ...] = ()
        self.text = text or {}
        self._path, self._like, self._format_name = Path(path), like, format_name
        self._force, self._protect, self._keep_dates = force, tuple(protect), keep_dates
        self._bits, self._quality, self._next_row = bits, quality, 0
        self._layout = Layout(
            width_px=size_hw[1], height_px=size_hw[0], channels=channels, has_alpha=has_alpha, bits=32
        )
        self._canvas = torch.empty((channels, *size_hw), dtype=torch.float32)

    def write(self, start_row: int, rows: Tensor) -> None:
        """Take rows [1 c r w], float in [0,1], the next ones below those that were written.

        Raises:
            ShapeError: other rows were expected.
        """
        rows_chw = _checked_rows(rows, start_row, self._next_row, self._layout)
        self._canvas[:, start_row : start_row + rows_chw.shape[1]] = rows_chw
        self._next_row += rows_chw.shape[1]

    def commit(self) -> None:
        """Write the file.

        Raises:
            HypirError: whatever `write_picture` raises; rows are missing.
        """
        if self._next_row != self._layout.height_px:
            raise ShapeError(f"expected {self._layout.height_px} rows, got {self._next_row}")
        colors = self._layout.channels - self._layout.has_alpha
        self.notes = write_picture(
            self._path,
            self._canvas[:colors],
            alpha_01=self._canvas[colors:] if self._layout.has_alpha else None,
            like=self._like,
            format_name=self._format_name,
            text=self.text,
            force=self._force,
            protect=self._protect,
            bits=self._bits,
            quality=self._quality,
            keep_dates=self._keep_dates,
        )

    def abort(self) -> None:
        """Forget the picture."""
        self._canvas = torch.empty(0)


class _Dropped(Exception):  # noqa: N818  # never leaves this file
    """The hidden file is to be removed."""


class _HiddenFile:
    """`atomic_file` for a writer that comes back again and again."""

    def __init__(self, path: Path):
        self._context = atomic_file(path)
        self._file = self._context.__enter__()
        self._is_open = True

    @contextmanager
    def guarded(self) -> Iterator[BinaryIO]:
        """Open a context that gives the file; any exception in it removes the file, and is explained."""
        if not self._is_open:
            raise ImageFileError("expected a sink that is open, got one that was committed or aborted")
        try:
            yield self._file
        except BaseException as err:
            self._close(err)
            raise

    def finish(self) -> None:
        """Close the file and give it its name."""
        self._close(None)

    def drop(self) -> None:
        """Remove the file, if it is still hidden."""
        if self._is_open:
            self._close(_Dropped())

    def _close(self, error: BaseException | None) -> None:
        self._is_open = False
        self._context.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _checked_rows(rows: Tensor, start_row: int, next_row: int, layout: Layout) -> Tensor:
    """Return rows [c r w], or raise ShapeError where they are not the ones that come next."""
    shape = tuple(rows.shape)
    fits = rows.ndim == 4 and shape[:2] == (1, layout.channels) and shape[3] == layout.width_px
    if not fits or not rows.is_floating_point():
        raise ShapeError(
            f"expected float rows [1 {layout.channels} r {layout.width_px}], got {rows.dtype} {list(shape)}"
        )
    if start_row != next_row or start_row + shape[2] > layout.height_px:
        raise ShapeError(
            f"expected rows from {next_row} on, up to {layout.height_px}, got {start_row} to {start_row + shape[2]}"
        )
    return rows[0]
