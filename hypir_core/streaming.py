"""A picture through a feed-forward engine, box by box: neither the input nor the result is ever whole in memory.

source → tiles → rows of the canvas, as soon as no later tile changes them → resize → colour fix → sharpen → strength →
sink. A band of rows is finished when all the rows that it looks at are there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from .color.blocks import grown, under
from .color.fix import color_fix
from .color.mode import ColorFix
from .color.wavelet import reach_px
from .engines.base import Engine
from .engines.leaving import leaving_when_it_ends_early
from .errors import Cancelled, ConfigError, ShapeError
from .files.sink import Sink
from .files.source import Source
from .finishing import check_luma
from .image.finish import REACH_PX, edge_enhance, sharpen
from .image.resize import resize_band, source_rows
from .reporting import make_report
from .request import Report, Request
from .runtime import Inspect, Runtime
from .tiling.geometry import Box, cells_of
from .tiling.run import run_stage

MAX_SIDE_PX = 1 << 20
"""Of a streamed result; what the file's format allows may be less."""

BAND_PX = 256
"""Rows that are finished at a time."""

LOCAL = (ColorFix.none, ColorFix.wavelet)
"""Colour fixes that look at a few rows only; the others need statistics of the whole picture first."""


@leaving_when_it_ends_early
@torch.no_grad()
def restore_stream(engine: Engine, source: Source, sink: Sink, request: Request, runtime: Runtime) -> Report:
    """Restore a picture from a source into a sink.

    Args:
        engine: one whose spec says that it streams.
        source: 1 channel, or as many as the engine takes; no alpha channel.
        sink: takes rows of the result, [1 c rows W] in [0,1]. It is neither committed nor aborted here.
        request: what is asked for. A colour fix must be `none` or `wavelet`.
        runtime: device, memory, progress, cancellation.

    Returns:
        The report. The result is that of `pipeline.restore`.

    Raises:
        ConfigError: the engine does not stream, or the colour fix needs the whole picture.
        ShapeError: the source has other channels.
        OutOfMemoryError, Cancelled, RangeError: as `pipeline.restore`.
    """
    started = time.perf_counter()
    spec = engine.spec
    mode = spec.color_fix if request.color_fix is None else request.color_fix
    _check(engine, source, request, mode)
    height, width = source.sizes_px
    size_px = request.target.size_for(
        height, width, default_scale=spec.default_scale, max_side_px=MAX_SIDE_PX
    )
    read = _Read(source, spec.in_channels, request.edge_enhance)
    prepared = engine.prepare(read, size_px, request)
    (stage,) = engine.stages(prepared, request)
    reports = []
    if request.strength > 0:
        bands = _Bands(source, sink, runtime.inspect, prepared.content_px, size_px, request, mode)
        _, report = run_stage(stage, prepared.plane, wish=request.tile, runtime=runtime, emit=bands.take)
        bands.finish()
        reports.append(report)
    else:
        mode = ColorFix.none
        for first in range(0, size_px[0], BAND_PX):
            if runtime.should_stop():
                raise Cancelled(f"stopped after {first} of {size_px[0]} rows")
            sink.write(
                first, _input_rows(source, size_px, first, min(first + BAND_PX, size_px[0])).clamp_(0, 1)
            )
    return make_report(
        spec,
        request,
        runtime,
        prepared=prepared,
        stages=reports,
        input_px=source.sizes_px,
        output_px=size_px,
        seconds=time.perf_counter() - started,
        color_fix=mode,
    )


def _check(engine: Engine, source: Source, request: Request, mode: ColorFix) -> None:
    spec = engine.spec
    check_luma(
        edge_enhance=(request.edge_enhance, spec.in_channels), sharpen=(request.sharpen, spec.out_channels)
    )
    if not spec.streams:
        raise ConfigError(
            f"engine {spec.name!r} looks at whole pictures, it cannot stream; choose a smaller size or another engine"
        )
    if mode not in LOCAL:
        raise ConfigError(
            f"a streamed result can have the colour fix {' or '.join(m.value for m in LOCAL)}, got {mode.value}"
        )
    if source.channels not in {1, spec.in_channels} or (
        source.channels == 1 and spec.in_channels not in {1, 3}
    ):
        raise ShapeError(
            f"engine {spec.name!r} takes {spec.in_channels} channels, the picture has {source.channels} (an alpha "
            "channel included); a streamed picture has no alpha channel"
        )
    mixes = request.strength != 1 or mode is not ColorFix.none
    if mixes and spec.in_channels != spec.out_channels:
        raise ConfigError(
            f"engine {spec.name!r} makes {spec.out_channels} channels of {spec.in_channels}: leave out strength and "
            "colour fix, which would mix them"
        )


class _Read:
    """A source as what tiles are cut from, its edges enhanced; grey stands for three equal channels."""

    def __init__(self, source: Source, channels: int, edges: float):
        self._source, self._edges = source, edges
        self.strides: tuple[int, ...] = (1, 1)
        self.sizes_px: tuple[int, ...] = tuple(source.sizes_px)
        self.images, self.channels = 1, channels

    def crop(self, box: Box) -> Tensor:
        """Read the pixels under `box`, [1 c h w]."""
        cells_of(box, self)
        return self._enhanced(box).expand(-1, self.channels, -1, -1)

    def _enhanced(self, box: Box) -> Tensor:
        if self._edges == 0:
            return self._source.read(box)
        around = grown(box, REACH_PX, self.sizes_px)
        inside = Box(tuple(a - b for a, b in zip(box.starts, around.starts, strict=True)), box.sizes)
        return under(edge_enhance(self._source.read(around), self._edges), inside)


class _Bands:
    """Gathers rows of the canvas, and finishes bands of the result."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        inspect: Inspect,
        content_px: Sequence[int],
        size_px: tuple[int, int],
        request: Request,
        mode: ColorFix,
    ):
        self._source, self._sink, self._size_px, self._mode = source, sink, size_px, mode
        self._inspect = inspect
        self._content_px = (content_px[0], content_px[1])
        self._strength, self._color_strength = request.strength, request.color_strength
        self._fixed = mode is not ColorFix.none and request.color_strength > 0
        self._sharpen = request.sharpen
        self._halo = reach_px() * self._fixed + REACH_PX * (self._sharpen > 0)
        self._rows = torch.zeros(1, 1, 0, 0)
        self._top = self._next = 0

    def take(self, first: int, rows: Tensor) -> None:
        """Take rows of the canvas and finish the bands that they complete."""
        h, w = self._content_px
        rows = rows[:, :, : max(0, h - first), :w]
        if rows.shape[2] == 0:
            return
        if self._source.channels == 1 and rows.shape[1] == 3:
            rows = rows.mean(1, keepdim=True)
        self._rows = torch.cat([self._rows, rows], 2) if self._rows.shape[2] else rows.clone()
        while (end := self._complete()) is not None:
            started = time.perf_counter()
            band = self._band(self._next, end)
            self._inspect(f"rows {self._next} to {end}", band, time.perf_counter() - started)
            self._sink.write(self._next, band)
            self._next = end
            self._forget()

    def finish(self) -> None:
        """Check that every row was written."""
        if self._next != self._size_px[0]:
            raise AssertionError(f"{self._next} of {self._size_px[0]} rows were written")

    def _needed(self, first: int, end: int) -> tuple[int, int]:
        """Return the rows of the canvas that rows [first, end) of the result look at."""
        height = self._size_px[0]
        seen = (max(0, first - self._halo), min(height, end + self._halo))
        return source_rows(self._content_px[0], height, seen)

    def _complete(self) -> int | None:
        """Return the end of the next band, if all it looks at is there."""
        height = self._size_px[0]
        end = min(self._next + BAND_PX, height)
        there = self._top + self._rows.shape[2]
        return end if self._next < height and self._needed(self._next, end)[1] <= there else None

    def _forget(self) -> None:
        """Drop rows that no later band looks at."""
        height = self._size_px[0]
        if self._next >= height:
            return
        first = self._needed(self._next, min(self._next + BAND_PX, height))[0]
        if first > self._top:
            self._rows = self._rows[:, :, first - self._top :].clone()
            self._top = first

    def _band(self, first: int, end: int) -> Tensor:
        height = self._size_px[0]
        top, bottom = max(0, first - self._halo), min(height, end + self._halo)
        inner = slice(first - top, end - top)
        band = resize_band(self._canvas, self._content_px, self._size_px, (top, bottom))
        if self._fixed:
            before = self._input(top, bottom)
            band = color_fix(band, before, mode=self._mode, strength=self._color_strength)
        band = sharpen(band.clamp(0, 1), self._sharpen)[:, :, inner]
        if self._strength != 1:
            old = self._input(first, end).clamp_(0, 1)
            band = old.lerp(band, self._strength)
        return band

    def _canvas(self, first: int, end: int) -> Tensor:
        return self._rows[:, :, first - self._top : end - self._top]

    def _input(self, first: int, end: int) -> Tensor:
        """Return rows of the input at the result's size."""
        return _input_rows(self._source, self._size_px, first, end)


def _input_rows(source: Source, size_px: tuple[int, int], first: int, end: int) -> Tensor:
    """Return rows of the input at the result's size."""
    height, width = source.sizes_px

    def read(low: int, high: int) -> Tensor:
        return source.read(Box((low, 0), (high - low, width)))

    return resize_band(read, (height, width), size_px, (first, end))
