"""The tiling wall over axes and channels: lines, pictures and volumes of 1 to 13 channels, with a scale per axis."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.errors import Cancelled, ConfigError, OutOfMemoryError, ShapeError
from hypir_core.runtime import Runtime
from hypir_core.tiling.choose import lay_tiles
from hypir_core.tiling.geometry import Box, Plane
from hypir_core.tiling.memory import Ladder
from hypir_core.tiling.plan import TileConfig, TileWish, plan_tiles, wished
from hypir_core.tiling.readable import Enlarged, enlarged
from hypir_core.tiling.run import run_stage
from hypir_core.tiling.sample import CropGrid, SampleSize, Sampling, crop_grid, take_sample
from hypir_core.tiling.stage import Stage
from hypir_core.tiling.window import Window

CHANNELS = (1, 2, 3, 4, 13)
MOST = {1: 90, 2: 40, 3: 16}
"""Longest side by the number of axes, so that every case has about as many cells."""


def repeat(x: torch.Tensor, scale: tuple[int, ...]) -> torch.Tensor:
    for axis, factor in enumerate(scale, 2):
        x = x.repeat_interleave(factor, axis)
    return x


def numbered(images: int, channels: int, sizes: tuple[int, ...]) -> torch.Tensor:
    """Every cell its own number, so that a swapped or shifted tile cannot pass."""
    shape = (images, channels, *sizes)
    return torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)


def repeating(channels: int, scale: tuple[int, ...], **more) -> Stage:
    fields: dict[str, object] = {
        "name": "repeat",
        "run": lambda tile, _guides: repeat(tile, scale),
        "out_channels": channels,
        "out_strides": 1,
        "grain_px": scale,
        "bytes_per_px": 8.0,
        "tile": TileConfig(),
        "min_tile_px": 1,
    }
    return Stage(**(fields | more))  # type: ignore[arg-type]


@st.composite
def cases(draw):
    axes = draw(st.sampled_from([1, 2, 3]))
    sizes = tuple(draw(st.integers(1, MOST[axes])) for _ in range(axes))
    scale = tuple(draw(st.sampled_from([1, 2, 3, 4])) for _ in range(axes))
    tiles = tuple(draw(st.integers(2, 12)) for _ in range(axes))
    overlaps = tuple(draw(st.integers(0, tile - 1)) for tile in tiles)
    return sizes, scale, tiles, overlaps


@given(
    cases(),
    st.sampled_from(CHANNELS),
    st.integers(1, 3),
    st.sampled_from(list(Window)),
    st.integers(1, 5),
    st.integers(0, 3),
)
@settings(max_examples=250, deadline=None)
def test_identity_returns_its_input(case, channels, images, window, batch, margin):
    sizes, scale, tiles, overlaps = case
    x = numbered(images, channels, sizes)
    wish = TileWish(
        tile_px=tuple(tile * s for tile, s in zip(tiles, scale, strict=True)),
        overlap_px=tuple(overlap * s for overlap, s in zip(overlaps, scale, strict=True)),
        window=window,
    )
    out, report = run_stage(
        repeating(channels, scale, margin_px=margin),
        Plane(x, scale),
        wish=wish,
        runtime=Runtime(batch_tiles=batch),
    )
    torch.testing.assert_close(out.data, repeat(x, scale), rtol=1e-6, atol=1e-3)
    assert out.strides == (1,) * len(sizes)
    assert report.redundancy >= 1


@given(cases(), st.sampled_from(CHANNELS), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_what_is_streamed_is_what_is_kept(case, channels, batch):
    """Rows come in order, each once, and are those of the canvas in memory; the source may be read box by box."""
    sizes, scale, tiles, overlaps = case
    x = numbered(1, channels, sizes)
    wish = TileWish(
        tile_px=tuple(tile * s for tile, s in zip(tiles, scale, strict=True)),
        overlap_px=tuple(overlap * s for overlap, s in zip(overlaps, scale, strict=True)),
    )
    stage, runtime = repeating(channels, scale), Runtime(batch_tiles=batch)
    kept, _ = run_stage(stage, Plane(x, scale), wish=wish, runtime=runtime)
    rows: list[torch.Tensor] = []

    def emit(first: int, part: torch.Tensor) -> None:
        assert first == sum(piece.shape[2] for piece in rows)
        rows.append(part.clone())

    lazy = Enlarged(Plane(x), scale, sizes)
    run_stage(stage, lazy, wish=wish, runtime=runtime, emit=emit)
    assert torch.equal(torch.cat(rows, 2), kept.data)


def test_a_strip_is_as_high_as_a_tile_and_no_higher():
    x = numbered(1, 3, (400, 60))
    heights = []
    run_stage(
        repeating(3, (1, 1)),
        Plane(x),
        wish=TileWish(tile_px=20, overlap_px=4),
        runtime=Runtime(progress=lambda tick: heights.append(tick.canvas.shape[2])),
        emit=lambda _first, _rows: None,
    )
    assert max(heights) <= 20 * 9 // 8


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_tiled_equals_untiled_when_the_margin_covers_the_radius(channels, axes):
    conv = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[axes](
        channels, channels + 1, 3, padding=1
    )
    x = torch.rand(2, channels, *[MOST[axes] + i for i in range(axes)])
    stage = repeating(channels + 1, (1,) * axes, run=lambda tile, _: conv(tile), margin_px=1)
    out, report = run_stage(
        stage, Plane(x), wish=TileWish(tile_px=9, overlap_px=4), runtime=Runtime(batch_tiles=3)
    )
    assert "1" not in report.tiles.split(" ")[0].split("×")
    torch.testing.assert_close(out.data, conv(x), atol=2e-6, rtol=0)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_guides_of_one_image_serve_all(axes):
    """Three images in two tiles beside a guide of one: once a size error."""
    sizes = (12,) * axes
    guide = numbered(1, 2, tuple(size // 4 for size in sizes))
    stage = repeating(
        2,
        (1,) * axes,
        run=lambda tile, guides: tile + repeat(guides["noise"], (4,) * axes),
        guides={"noise": lambda: Plane(guide, 4)},
        grain_px=4,
    )
    out, _ = run_stage(
        stage,
        Plane(torch.zeros(3, 2, *sizes)),
        wish=TileWish(tile_px=8, overlap_px=4),
        runtime=Runtime(batch_tiles=2),
    )
    torch.testing.assert_close(out.data, repeat(guide, (4,) * axes).expand(3, -1, *sizes))


def test_images_are_a_rung_of_the_ladder():
    """Ten images never ran in less than one forward, whatever the budget."""
    seen = []

    def run(tile, _guides):
        seen.append(len(tile))
        return tile

    x = torch.rand(10, 3, 32, 32)
    stage = repeating(3, (1, 1), run=run, bytes_per_px=100.0)
    budget = 16 * 16 * 100 * 3
    out, report = run_stage(
        stage,
        Plane(x),
        wish=TileWish(tile_px=16, overlap_px=0),
        runtime=Runtime(memory_budget_bytes=budget),
    )
    assert set(seen) == {3, 1}
    assert (report.batch, report.images) == (1, 3)
    torch.testing.assert_close(out.data, x)


def test_images_are_halved_after_the_tiles_and_before_the_tile():
    def run(tile, _guides):
        if tile.numel() > 2 * 2 * 8 * 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tile

    x, ladder = torch.rand(4, 2, 16, 16), Ladder()
    stage = repeating(2, (1, 1), run=run, work="step")
    wish, runtime = TileWish(tile_px=8, overlap_px=0), Runtime(batch_tiles=2)
    out, report = run_stage(stage, Plane(x), wish=wish, runtime=runtime, ladder=ladder)
    torch.testing.assert_close(out.data, x)
    assert report.rungs == ("tiles per batch 2 → 1", "images per batch 4 → 2")
    _, again = run_stage(stage, Plane(x), wish=wish, runtime=runtime, ladder=ladder)
    assert again.rungs == ()  # what one step learnt, the next knows
    assert again.images == 2


def test_what_a_sample_shows_belongs_to_the_images_at_hand():
    """Images that are run one after the other are each treated by their own sample."""
    shifts = torch.tensor([0.0, 5.0, -3.0])
    x = torch.rand(3, 1, 24, 24) + shifts[:, None, None, None]
    mean = {}

    class Look:
        def __call__(self, crops, _guides, sample):
            images = sample.shares.shape[1]
            mean["now"] = crops.unflatten(0, (-1, images)).mean((0, 2, 3, 4))
            import contextlib

            return contextlib.nullcontext

    def centred(tile, _guides):
        return tile - mean["now"].repeat(len(tile) // len(mean["now"]))[:, None, None, None]

    stage = repeating(
        1,
        (1, 1),
        run=centred,
        bytes_per_px=100.0,
        sampling=Sampling(look=Look(), size=SampleSize(crop_px=8, of_tile=1.0)),
    )
    for budget in (1, 1 << 30):
        out, report = run_stage(
            stage,
            Plane(x),
            wish=TileWish(tile_px=12, overlap_px=0),
            runtime=Runtime(memory_budget_bytes=budget),
        )
        assert report.images == (1 if budget == 1 else 3)
        assert out.data.mean((1, 2, 3)).abs().max() < 0.2


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_sample_has_a_crop_in_every_part(axes, channels):
    sizes = {1: (512,), 2: (128, 96), 3: (32, 48, 40)}[axes]
    plan = plan_tiles(sizes, TileConfig(tile_px=min(sizes) // 2, overlap_px=4), grain_px=4)
    grid = crop_grid(plan, SampleSize(crop_px=8, of_tile=0.8))
    plane = Plane(torch.rand(2, channels, *sizes))
    sample = take_sample(plane, grid)
    assert len(sample.boxes) == grid.count == math.prod(grid.counts)
    assert sample.shares.shape == (grid.count, 2)
    torch.testing.assert_close(sample.shares.sum(0), torch.ones(2))
    assert all(plane.crop(box).shape == (2, channels, *(8,) * axes) for box in sample.boxes)
    parts = {
        tuple(int((at + 4) * n / size) for at, n, size in zip(box.starts, grid.counts, sizes, strict=True))
        for box in sample.boxes
    }
    assert len(parts) == grid.count


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_shares_bring_the_sample_nearer_to_the_whole(axes):
    sizes = {1: (960,), 2: (96, 80), 3: (32, 32, 48)}[axes]
    coarse = torch.rand(
        1, 2, *[max(2, size // 8) for size in sizes], generator=torch.Generator().manual_seed(axes)
    )
    plane = Plane(repeat(coarse, tuple(size // c for size, c in zip(sizes, coarse.shape[2:], strict=True))))
    sample = take_sample(plane, CropGrid(counts=(4,) * axes, side_px=8))
    means = torch.stack([plane.crop(box).flatten(2).mean(2)[0] for box in sample.boxes])
    true = plane.data.flatten(2).mean(2)[0]
    off, plain = (sample.shares * means).sum(0) - true, means.mean(0) - true
    assert off.abs().max() <= plain.abs().max() + 1e-6


@given(st.integers(64, 2048), st.integers(0, 63), st.one_of(st.none(), st.integers(16, 4096)), st.booleans())
def test_the_one_rule_of_an_overlap_that_nobody_names(side, overlap, asked, half):
    own = TileConfig(tile_px=side, overlap_px=side // 2 if half else min(overlap, side - 1))
    tile = wished(TileWish(tile_px=asked), own, axes=2)
    assert isinstance(tile.tile_px, int)
    assert isinstance(tile.overlap_px, int)
    assert isinstance(own.overlap_px, int)
    assert tile.tile_px == (side if asked is None else asked)
    assert tile.overlap_px <= own.overlap_px
    assert tile.overlap_px < tile.tile_px
    if tile.tile_px >= side:
        assert tile.overlap_px == own.overlap_px
    if half and tile.tile_px < side:
        assert tile.overlap_px >= tile.tile_px // 4


def test_a_wish_per_axis():
    stage = repeating(1, (1, 4, 4))
    wish = TileWish(tile_px=(4, 16, 32), overlap_px=(1, 4, 8))
    layout = lay_tiles(stage, (12, 64, 64), wish=wish, runtime=Runtime(batch_tiles=1))
    assert layout.plan.counts == (4, 5, 2)
    assert layout.plan.summary().startswith("4×5×2 tiles of 4×16×36 px")
    with pytest.raises(ShapeError, match="for each of 3 axes"):
        lay_tiles(stage, (12, 64, 64), wish=TileWish(tile_px=(40, 160)), runtime=Runtime())
    with pytest.raises(ConfigError, match="smaller than the tile"):
        TileWish(tile_px=(8, 8), overlap_px=(4, 8))


def test_boxes_keep_to_the_planes_axes():
    plane = Plane(torch.zeros(1, 13, 4, 8, 8), (1, 4, 4))
    assert plane.sizes_px == (4, 32, 32)
    assert plane.crop(Box((1, 4, 8), (2, 8, 4))).shape == (1, 13, 2, 2, 1)
    with pytest.raises(ShapeError, match="grid of 1×4×4 px"):
        plane.crop(Box((1, 2, 8), (2, 8, 4)))
    with pytest.raises(ShapeError, match="has 2 axes, the canvas has 3"):
        plane.crop(Box((0, 0), (4, 4)))


@given(cases(), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_padding_repeats_the_last_cell_whether_in_memory_or_read(case, pad):
    sizes, scale, _, _ = case
    x = numbered(1, 2, sizes)
    padded = tuple(size + (pad if axis % 2 == 0 else 0) for axis, size in enumerate(sizes))
    in_memory, read = enlarged(Plane(x), scale, padded), Enlarged(Plane(x), scale, padded)
    assert in_memory.sizes_px == read.sizes_px
    whole = Box((0,) * len(sizes), read.sizes_px)
    assert torch.equal(in_memory.crop(whole), read.crop(whole))
    last = tuple(size - s for size, s in zip(read.sizes_px, scale, strict=True))
    corner = read.crop(Box(last, scale))
    assert torch.equal(corner.flatten(), x[(..., *[-1] * len(sizes))].flatten())


def test_a_stream_cannot_begin_anew_and_says_so():
    calls = []

    def run(tile, _guides):
        calls.append(tile.shape)
        if len(calls) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tile

    with pytest.raises(OutOfMemoryError, match="smaller result or smaller tiles"):
        run_stage(
            repeating(1, (1, 1), run=run),
            Plane(torch.rand(1, 1, 64, 16)),
            wish=TileWish(tile_px=8, overlap_px=0),
            runtime=Runtime(batch_tiles=1),
            emit=lambda _first, _rows: None,
        )


def test_a_network_of_other_channels_gets_a_sentence():
    """3 → 1 bands were broadcast in silence."""
    stage = repeating(3, (1, 1), run=lambda tile, _: tile[:, :1])
    with pytest.raises(ShapeError, match="expected 3 channels from the network, got 1"):
        run_stage(stage, Plane(torch.rand(1, 3, 8, 8)), runtime=Runtime())


def test_gradients_may_be_computed_inside_a_stage():
    def downhill(tile, _guides):
        with torch.enable_grad():
            x = tile.detach().requires_grad_()
            (slope,) = torch.autograd.grad(x.square().sum(), x)
        return tile - 0.25 * slope

    x = torch.rand(1, 2, 20, 20)
    out, _ = run_stage(
        repeating(2, (1, 1), run=downhill),
        Plane(x),
        wish=TileWish(tile_px=8, overlap_px=2),
        runtime=Runtime(),
    )
    torch.testing.assert_close(out.data, x / 2)


def test_what_follows_the_tiles_sees_the_whole_canvas():
    """A mean over the canvas, taken after the last tile: no tile could know it."""
    x = torch.rand(2, 3, 30, 40)
    stage = repeating(
        3,
        (1, 1),
        after=lambda before, out: Plane(out.data - before.data.mean((2, 3), keepdim=True), out.strides),
    )
    out, _ = run_stage(stage, Plane(x), wish=TileWish(tile_px=8, overlap_px=2), runtime=Runtime())
    torch.testing.assert_close(out.data, x - x.mean((2, 3), keepdim=True))


def test_a_dark_field_raises_no_false_notes():
    """Nothing but a little noise near black, made smooth: once six tiles were called nearly constant."""
    dark = 0.002 + 0.002 * torch.rand(1, 1, 48, 48)
    stage = repeating(1, (1, 1), run=lambda tile, _: torch.full_like(tile, 0.003))
    _, report = run_stage(stage, Plane(dark), wish=TileWish(tile_px=16, overlap_px=4), runtime=Runtime())
    assert report.bad_tiles == ()


def test_cancel_stops_a_stream_too():
    with pytest.raises(Cancelled):
        run_stage(
            repeating(1, (1, 1)),
            Plane(torch.rand(1, 1, 16, 16)),
            runtime=Runtime(should_stop=lambda: True),
            emit=lambda _first, _rows: None,
        )
