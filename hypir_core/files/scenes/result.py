"""The strips of a result: kept beside the file to be until the last is there, also over a kill.

A strip is appended as it comes, and a journal says under which key how many rows there are; a run with the same key
goes on behind them. The format's own writer is called once, at the end, when nothing can be missing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...atomic import atomic_path, explain_os_error
from ...errors import FileError, ImageFileError, ShapeError
from ...tiling.geometry import Box, by
from .grid import Grid, Placement
from .scene import Scene, stored_of

ROOM = 1.1
"""Free bytes that are asked for, in parts of the result's: of its strips, and once more of the file made of them."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a result is made: pass after pass over the same cells, each from its first row to its last.

    The first `loops` axes are walked one index at a time, the others belong to one pass of the engine; a row is an
    index of the first of these. Where `separate`, every channel has passes of its own.
    """

    loops: int
    separate: bool = False

    def passes(self, grid: Grid) -> int:
        """Return how many passes there are."""
        return prod(grid.sizes[: self.loops]) * (len(grid.bands) if self.separate else 1)

    def rows(self, grid: Grid) -> int:
        """Return the rows of one pass."""
        return grid.sizes[self.loops]

    def channels(self, grid: Grid) -> int:
        """Return the channels of one pass."""
        return 1 if self.separate else len(grid.bands)


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a writer turns into a file: a grid, a place, and the numbers part by part."""

    grid: Grid
    placement: Placement
    source: Scene
    factors: Mapping[str, int]
    order: Order
    places: tuple[int, ...] | None
    """Which channels of the source's file the bands are; None where they are new ones."""
    text: Mapping[str, str]
    target: Path
    """The name that the file will have."""
    strips: Path

    @property
    def planes(self) -> int:
        """How many planes of rows and columns there are, channels not counted."""
        return prod(self.grid.sizes[:-2])

    @property
    def holds_mask(self) -> bool:
        """Whether the file must hold a mask: the numbers alone cannot say where there is no data."""
        return self.source.grid.masked or self.grid.nodata is not None

    def part(self, plane: int, first: int, end: int) -> np.ndarray:
        """Return rows [first, end) of a plane, [c rows columns]."""
        grid, order = self.grid, self.order
        height, width = grid.sizes[-2:]
        of_pass, groups = order.channels(grid), len(grid.bands) // order.channels(grid)
        out = np.empty((groups, of_pass, end - first, width), grid.dtype)
        whole = self.planes * of_pass * height * width
        with self.strips.open("rb") as file:
            for group in range(groups):
                if order.loops == len(grid.sizes) - 2:  # rows lie together: [row c column]
                    at = group * whole + (plane * height + first) * of_pass * width
                    rows = _take(file, at, (end - first, of_pass, width), grid.dtype)
                    out[group] = rows.transpose(1, 0, 2)
                    continue
                for channel in range(of_pass):  # [row of the pass (slice) c y x]
                    inner = prod(grid.sizes[order.loops + 1 : -2])
                    outer, rest = divmod(plane, inner)
                    at = group * whole + ((outer * of_pass + channel) * inner + rest) * height * width
                    out[group, channel] = _take(file, at + first * width, (end - first, width), grid.dtype)
        return out.reshape(-1, end - first, width)

    def valid(self, plane: int, first: int, end: int) -> np.ndarray:
        """Return where rows [first, end) of a plane are data, [rows columns]."""
        *outer, _, _ = self.grid.sizes
        index = np.unravel_index(plane, outer) if outer else ()
        starts = (*map(int, index), first, 0)
        sizes = (*[1] * len(outer), end - first, self.grid.sizes[-1])
        found = valid_cells(self.source, Box(starts, sizes), self.factors)
        return np.ones(sizes[-2:], bool) if found is None else found.reshape(sizes[-2:])


def valid_cells(scene: Scene, box: Box, factors: Mapping[str, int]) -> np.ndarray | None:
    """Return where cells of a result are data: where the cell of the scene that they lie in is; None for everywhere."""
    if not scene.grid.may_have_holes:
        return None
    steps = [factors[axis] for axis in scene.grid.axes]
    starts = [start // k for start, k in zip(box.starts, steps, strict=True)]
    ends = [-(-end // k) for end, k in zip(box.ends, steps, strict=True)]
    around = Box(tuple(starts), tuple(e - s for s, e in zip(starts, ends, strict=True)))
    valid = scene.block(around).valid
    if valid is None:
        return None
    for axis, (k, start, low, size) in enumerate(zip(steps, box.starts, starts, box.sizes, strict=True)):
        at = np.arange(start - low * k, start - low * k + size) // k
        valid = valid.take(at, axis)
    return valid


def _take(file: Any, at: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    file.seek(at * dtype.itemsize)
    return np.fromfile(file, dtype, prod(shape)).reshape(shape)


Writer = Callable[[Path, Result], None]


@dataclass(kw_only=True, eq=False)
class SceneSink:
    """Takes a result from the first row of the first pass to the last of the last; a `Sink`."""

    path: Path
    grid: Grid
    placement: Placement
    source: Scene
    factors: Mapping[str, int]
    order: Order
    writer: Writer
    places: tuple[int, ...] | None = None
    key: str = ""
    """Hash of all that the result depends on; strips of a run with another key are of no use. Empty: never resumed."""
    notes: tuple[str, ...] = ()
    text: Mapping[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """What a resumed run must know of the first: its tiles, how many cells had no data …; saved with every strip."""
    done_rows: int = 0
    """Rows that are there, of all passes."""

    def __post_init__(self) -> None:
        stem = f".{self.path.name[:40]}.{self.key[:16] or 'new'}"
        self._strips, self._journal = (
            self.path.with_name(f"{stem}.{ending}") for ending in ("strips", "journal")
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._resume()
        except OSError as err:
            raise ImageFileError(explain_os_error(self.path, err)) from err
        self._check_room()

    @property
    def total_rows(self) -> int:
        """Rows of all passes."""
        return self.order.passes(self.grid) * self.order.rows(self.grid)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """[c *others] of one row."""
        return (self.order.channels(self.grid), *self.grid.sizes[self.order.loops + 1 :])

    def write(self, start_row: int, rows: Tensor, valid: np.ndarray | None = None) -> None:
        """Take rows [1 c r *others] of file values, the next ones below those that were written.

        Args:
            start_row: counted over all passes.
            rows: float32.
            valid: [r *others], false where the result has no data.

        Raises:
            ShapeError: other rows were expected.
            FileError: the disk is full …; nothing is left then. It is not the error of an input that cannot be read,
                after which other planes go on.
        """
        channels, *others = self.row_shape
        if rows.shape[:2] != (1, channels) or list(rows.shape[3:]) != others or start_row != self.done_rows:
            raise ShapeError(
                f"expected rows [1 {channels} r {by(others)}] from {self.done_rows} on, got {list(rows.shape)} from "
                f"{start_row} on"
            )
        values = rows[0].cpu().numpy()
        stored, beyond = stored_of(values, self.grid)
        if valid is not None:
            stored[:, ~valid] = self._hole()
            self.facts["holes"] = self.facts.get("holes", 0) + int((~valid).sum())
        self.facts["beyond"] = self.facts.get("beyond", 0) + beyond
        try:
            with self._strips.open("r+b" if self.done_rows else "wb") as file:
                file.seek(self.done_rows * prod(self.row_shape) * self.grid.dtype.itemsize)
                # not `tofile`, which writes through a file of C's own and passes over a disk that is full at its end
                file.write(np.ascontiguousarray(stored.swapaxes(0, 1)).data)
            self.done_rows += rows.shape[2]
            if self.key:
                self._say()
        except OSError as err:
            self.abort()
            raise FileError(explain_os_error(self.path, err)) from err

    def commit(self) -> None:
        """Write the file from the strips and give it its name.

        Raises:
            ShapeError: rows are missing.
            ImageFileError: the disk is full …; nothing is left then.
        """
        if self.done_rows != self.total_rows:
            self.abort()
            raise ShapeError(f"expected {self.total_rows} rows, got {self.done_rows}")
        try:
            with atomic_path(self.path) as hidden:
                self.writer(hidden, self._result())
        finally:
            self.abort()

    @property
    def planes(self) -> int:
        """How many planes of rows and columns there are, channels not counted."""
        return self._result().planes

    def part(self, plane: int, first: int, end: int) -> np.ndarray:
        """Return rows [first, end) of a plane whose passes are done, [c rows columns], as stored."""
        return self._result().part(plane, first, end)

    def _result(self) -> Result:
        return Result(
            grid=self.grid,
            placement=self.placement,
            source=self.source,
            factors=self.factors,
            order=self.order,
            places=self.places,
            text=self.text,
            target=self.path,
            strips=self._strips,
        )

    def abort(self) -> None:
        """Leave nothing."""
        for path in (self._strips, self._journal):
            path.unlink(missing_ok=True)

    def _hole(self) -> Any:
        if self.grid.nodata is not None:
            return self.grid.nodata
        return np.nan if self.grid.dtype.kind == "f" else 0

    def _say(self) -> None:
        said = {"key": self.key, "rows": self.done_rows, "facts": self.facts}
        fresh = self._journal.with_name(self._journal.name + "-new")
        fresh.write_text(json.dumps(said), encoding="utf-8")
        os.replace(fresh, self._journal)  # noqa: PTH105

    def _resume(self) -> None:
        if not self.key or not self._journal.exists():
            return
        try:
            said = json.loads(self._journal.read_text(encoding="utf-8"))
            rows, facts = int(said["rows"]), dict(said["facts"])
        except (ValueError, KeyError, TypeError):
            return  # a journal that cannot be read is none: the work begins anew
        there = self._strips.stat().st_size if self._strips.exists() else 0
        if said.get("key") == self.key and there >= rows * prod(self.row_shape) * self.grid.dtype.itemsize:
            self.done_rows, self.facts = rows, facts

    def _sweep(self) -> None:
        """Remove the strips of runs that were killed and had another key."""
        head = f".{self.path.name[:40]}."
        mine = {self._strips.name, self._journal.name} if self.key else set()
        for entry in os.scandir(self.path.parent):
            is_strip = entry.name.startswith(head) and entry.name.endswith(
                (".strips", ".journal", ".journal-new")
            )
            if is_strip and entry.name not in mine:
                Path(entry.path).unlink(missing_ok=True)

    def _check_room(self) -> None:
        needed = int(ROOM * 2 * self.grid.bytes)
        free = shutil.disk_usage(self.path.parent).free
        if needed > free + self.done_rows * prod(self.row_shape) * self.grid.dtype.itemsize:
            raise ImageFileError(
                f"{self.path}: expected room for the result and its strips, {needed / 1e9:.2f} GB, got "
                f"{free / 1e9:.2f} GB on the disk; free some space or choose another folder"
            )
