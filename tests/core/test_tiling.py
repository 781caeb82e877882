"""The tiling wall: no seam, no sliver, no swapped tile, whatever the sizes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.errors import Cancelled, ConfigError, OutOfMemoryError, ShapeError
from hypir_core.runtime import Runtime
from hypir_core.tiling.geometry import Box, Plane
from hypir_core.tiling.plan import TileConfig, TileWish, plan_tiles, spread
from hypir_core.tiling.run import run_stage
from hypir_core.tiling.stage import Stage
from hypir_core.tiling.window import Window, axis_weights


def identity_stage(scale: int = 1, grain: int = 1, **more) -> Stage:
    """A stage that repeats every cell: with `scale` 4 it is a ×4 generator."""

    def run(tile, _guides):
        return tile.repeat_interleave(scale, -1).repeat_interleave(scale, -2)

    defaults: dict[str, object] = {"name": "identity", "run": run, "out_channels": 2, "out_strides": 1}
    defaults |= {"grain_px": grain, "bytes_per_px": 8.0, "tile": TileConfig()}
    return Stage(**(defaults | more))  # type: ignore[arg-type]  # a dict of mixed values


def ramp(h: int, w: int) -> torch.Tensor:
    """Every cell its own number, so that a swapped or shifted tile cannot pass."""
    return torch.arange(2 * h * w, dtype=torch.float32).reshape(1, 2, h, w)


@st.composite
def layouts(draw):
    grain = draw(st.sampled_from([1, 2, 4, 8, 64]))
    cells = draw(st.integers(1, 70))
    tile = draw(st.integers(grain, grain * 40))
    overlap = draw(st.integers(0, tile - 1))
    return cells * grain, tile, overlap, grain


@given(layouts())
@settings(max_examples=400, deadline=None)
def test_spread_covers_evenly_with_at_least_the_overlap(layout):
    length, tile_px, overlap_px, grain = layout
    if -(-overlap_px // grain) >= tile_px // grain:
        with pytest.raises(ConfigError, match="leaves nothing"):
            spread(length, tile_px, overlap_px, grain)
        return
    spans = spread(length, tile_px, overlap_px, grain)
    sizes = {size for _, size in spans}
    assert len(sizes) == 1
    size = sizes.pop()
    assert size <= max(tile_px, tile_px * 9 / 8)
    assert all(start % grain == 0 and size % grain == 0 for start, size in spans)
    assert spans[0][0] == 0
    assert spans[-1][0] + size == length
    overlaps = [a + size - b for (a, _), (b, _) in pairwise(spans)]
    assert all(o >= overlap_px for o in overlaps)
    assert not overlaps or max(overlaps) - min(overlaps) <= grain


@pytest.mark.parametrize(("side", "limit"), [(1024, 1.30), (2048, 1.30), (4096, 1.27)])
def test_redundancy_is_far_below_the_originals(side, limit):
    plan = plan_tiles((side, side), TileConfig(tile_px=512, overlap_px=64), grain_px=64)
    assert plan.redundancy <= limit
    assert plan.redundancy == pytest.approx(sum(b.sizes[0] * b.sizes[1] for b in plan.boxes) / side**2)
    assert f"redundancy {plan.redundancy:.2f}" in plan.summary()


def test_a_scale_off_by_rounding_adds_no_tile_row():
    tile = TileConfig(tile_px=512, overlap_px=64)
    assert plan_tiles((round(1024 * 2.00000004), 2048), tile, grain_px=64) == plan_tiles(
        (2048, 2048), tile, grain_px=64
    )


@given(layouts(), st.sampled_from(list(Window)), st.integers(0, 80))
@settings(max_examples=300, deadline=None)
def test_weights_sum_to_one(layout, window, margin):
    length, tile_px, overlap_px, grain = layout
    if -(-overlap_px // grain) >= tile_px // grain:
        return
    spans = spread(length, tile_px, overlap_px, grain)
    total = torch.zeros(length)
    for (start, size), weights in zip(spans, axis_weights(spans, length, window, margin=margin), strict=True):
        assert weights.min() >= 0
        total[start : start + size] += weights
    torch.testing.assert_close(total, torch.ones(length), atol=1e-6, rtol=0)


def test_ramps_are_their_closed_forms_over_the_overlap_only():
    spans = [(0, 10), (6, 10)]
    left, right = axis_weights(spans, 16, Window.linear)
    torch.testing.assert_close(right[:4], torch.tensor([1, 3, 5, 7]) / 8)
    torch.testing.assert_close(left[6:], 1 - right[:4])
    assert (left[:6] == 1).all()
    assert (right[4:] == 1).all()
    hann = axis_weights(spans, 16, Window.hann)[1][:4]
    torch.testing.assert_close(hann, (1 - torch.cos(torch.pi * torch.tensor([1, 3, 5, 7]) / 8)) / 2)


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.integers(0, 39),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from(list(Window)),
    st.integers(1, 5),
    st.integers(0, 30),
)
@settings(max_examples=200, deadline=None)
def test_identity_returns_its_input(h, w, tile, overlap, scale, window, batch, margin):
    if overlap >= tile:
        return
    config = TileWish(tile_px=tile * scale, overlap_px=overlap * scale, window=window)
    image = ramp(h, w)
    out, _ = run_stage(
        identity_stage(scale, grain=scale, margin_px=margin),
        Plane(image, scale),
        wish=config,
        runtime=Runtime(batch_tiles=batch),
    )
    expected = image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    torch.testing.assert_close(out.data, expected, rtol=1e-6, atol=1e-3)


def test_batch_equals_loop_and_images_stay_apart():
    images = torch.cat([ramp(50, 70), -ramp(50, 70)])
    conv = torch.nn.Conv2d(2, 2, 3, padding=1)
    stage = identity_stage(run=lambda tile, _: conv(tile))
    tile = TileWish(tile_px=16, overlap_px=4)
    one, _ = run_stage(stage, Plane(images / 7000), wish=tile, runtime=Runtime(batch_tiles=1))
    many, _ = run_stage(stage, Plane(images / 7000), wish=tile, runtime=Runtime(batch_tiles=7))
    torch.testing.assert_close(one.data, many.data)
    for index in range(2):
        alone, _ = run_stage(stage, Plane(images[index : index + 1] / 7000), wish=tile, runtime=Runtime())
        torch.testing.assert_close(one.data[index : index + 1], alone.data)


def test_a_3x3_stage_equals_untiled_when_the_margin_covers_its_radius():
    conv = torch.nn.Conv2d(2, 2, 3, padding=1)
    image = torch.rand(1, 2, 61, 83)
    tile = TileWish(tile_px=20, overlap_px=6)
    whole = conv(image)
    exact, _ = run_stage(
        identity_stage(run=lambda t, _: conv(t), margin_px=1), Plane(image), wish=tile, runtime=Runtime()
    )
    torch.testing.assert_close(exact.data, whole, atol=1e-6, rtol=0)
    loose, report = run_stage(
        identity_stage(run=lambda t, _: conv(t)), Plane(image), wish=tile, runtime=Runtime()
    )
    differs = (loose.data - whole).abs().amax((0, 1)) > 1e-6
    assert differs.any()
    plan = plan_tiles((61, 83), TileConfig(tile_px=20, overlap_px=6), grain_px=1)
    edges = torch.zeros(61, 83, dtype=torch.bool)
    for box in plan.boxes:
        (y0, x0), (y1, x1) = box.starts, box.ends
        for y in (y0, y1 - 1):
            if 0 < y < 60:
                edges[y, x0:x1] = True
        for x in (x0, x1 - 1):
            if 0 < x < 82:
                edges[y0:y1, x] = True
    assert not (differs & ~edges).any()
    assert report.redundancy == plan.redundancy


def test_guides_are_cropped_with_the_tile():
    guide = ramp(8, 12)
    stage = identity_stage(
        run=lambda tile, guides: tile + guides["noise"].repeat_interleave(4, -1).repeat_interleave(4, -2),
        guides={"noise": Plane(guide, 4)},
        grain_px=4,
    )
    image = torch.zeros(1, 2, 32, 48)
    out, _ = run_stage(
        stage, Plane(image), wish=TileWish(tile_px=16, overlap_px=4), runtime=Runtime(batch_tiles=3)
    )
    torch.testing.assert_close(out.data, guide.repeat_interleave(4, -1).repeat_interleave(4, -2))


def test_a_plane_refuses_a_box_off_its_grid_or_canvas():
    plane = Plane(torch.zeros(1, 1, 4, 4), 8)
    assert plane.crop(Box((8, 16), (16, 8))).shape == (1, 1, 2, 1)
    with pytest.raises(ShapeError, match="grid of 8×8 px"):
        plane.crop(Box((4, 0), (8, 8)))
    with pytest.raises(ShapeError, match="leaves the canvas of 32×32"):
        plane.crop(Box((24, 0), (16, 8)))


@pytest.mark.parametrize(
    ("tile", "overlap", "grain", "message"),
    [(32, 0, 64, "at least 64 px"), (100, 100, 1, "smaller than the tile"), (0, 0, 1, "at least 1 px")],
)
def test_impossible_tiles_are_refused(tile, overlap, grain, message):
    with pytest.raises(ConfigError, match=message):
        plan_tiles((256, 256), TileConfig(tile_px=tile, overlap_px=overlap), grain_px=grain)


class Memory:
    """A stage that runs out of memory above `limit` input pixels per call, as a real allocator would say it."""

    def __init__(self, limit: int):
        self.limit = limit
        self.areas: list[int] = []

    def __call__(self, tile, _guides):
        area = tile.shape[0] * tile.shape[-1] * tile.shape[-2]
        self.areas.append(area)
        if area > self.limit:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {area} bytes")
        return tile


def test_the_ladder_halves_the_batch_then_the_tile_and_says_so():
    memory = Memory(limit=16 * 16)
    image = ramp(64, 64)
    out, report = run_stage(
        identity_stage(run=memory, min_tile_px=8),
        Plane(image),
        wish=TileWish(tile_px=32, overlap_px=4),
        runtime=Runtime(batch_tiles=4),
    )
    torch.testing.assert_close(out.data, image)
    assert report.rungs == ("tiles per batch 4 → 2", "tiles per batch 2 → 1", "tile 32 → 16 px")
    assert report.batch == 1


def test_the_last_rung_raises_with_advice():
    with pytest.raises(
        OutOfMemoryError, match=r"identity: out of memory with one 8 px tile on cpu .*smaller result"
    ):
        run_stage(
            identity_stage(run=Memory(limit=0), min_tile_px=8),
            Plane(ramp(16, 16)),
            wish=TileWish(tile_px=16, overlap_px=0),
            runtime=Runtime(),
        )


def test_a_real_allocator_failure_is_recognised():
    def run(tile, _guides):
        if tile.shape[-1] > 8:
            torch.empty(1 << 60, dtype=torch.uint8)
        return tile

    out, report = run_stage(
        identity_stage(run=run, min_tile_px=8),
        Plane(ramp(16, 16)),
        wish=TileWish(tile_px=16, overlap_px=0),
        runtime=Runtime(),
    )
    assert report.rungs == ("tile 16 → 8 px",)
    torch.testing.assert_close(out.data, ramp(16, 16))


def test_other_errors_are_raised_as_they_are():
    def run(_tile, _guides):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run_stage(
            identity_stage(run=run),
            Plane(ramp(8, 8)),
            wish=TileWish(tile_px=8, overlap_px=0),
            runtime=Runtime(),
        )


def test_progress_shows_the_canvas_filling_and_cancel_stops_within_a_batch():
    seen = []

    def progress(tick):
        seen.append((tick.done, tick.total, float(tick.canvas.count_nonzero())))

    stage, tile = identity_stage(), TileWish(tile_px=8, overlap_px=0)
    run_stage(stage, Plane(ramp(16, 16) + 1), wish=tile, runtime=Runtime(progress=progress, batch_tiles=1))
    assert seen == [(1, 4, 128), (2, 4, 256), (3, 4, 384), (4, 4, 512)]
    seen.clear()
    with pytest.raises(Cancelled, match="after 1 of 4 tiles"):
        run_stage(
            stage,
            Plane(ramp(16, 16)),
            wish=tile,
            runtime=Runtime(progress=progress, batch_tiles=1, should_stop=lambda: len(seen) == 1),
        )


def test_on_a_card_a_batch_is_blended_when_the_next_one_has_begun(monkeypatch):
    monkeypatch.setattr("hypir_core.tiling.run.overlaps", lambda device: True)
    events = []

    def watched(tiles, guides):
        events.append("run")
        return tiles

    stage = replace(identity_stage(), run=watched)
    runtime = Runtime(progress=lambda tick: events.append(tick.done), batch_tiles=1)
    out, _ = run_stage(stage, Plane(ramp(16, 16)), wish=TileWish(tile_px=8, overlap_px=0), runtime=runtime)
    assert events == ["run", "run", 1, "run", 2, "run", 3, 4]
    assert torch.equal(out.data, ramp(16, 16))


def test_the_batch_comes_from_the_memory_budget():
    stage = identity_stage(bytes_per_px=100.0)
    _, report = run_stage(
        stage,
        Plane(ramp(64, 64)),
        wish=TileWish(tile_px=16, overlap_px=0),
        runtime=Runtime(memory_budget_bytes=16 * 16 * 100 * 3),
    )
    assert report.batch == 3


def test_blending_is_float32_whatever_the_stage_returns():
    image = torch.rand(1, 2, 40, 40)
    stage = identity_stage(run=lambda tile, _: tile.bfloat16())
    out, _ = run_stage(stage, Plane(image), wish=TileWish(tile_px=16, overlap_px=8), runtime=Runtime())
    assert out.data.dtype is torch.float32
    torch.testing.assert_close(out.data, image.bfloat16().float(), atol=1e-6, rtol=0)
