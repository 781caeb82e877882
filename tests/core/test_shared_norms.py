"""Group norms that treat every tile alike, and the sample that they look at first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn

from hypir_core import Runtime, read_picture, to_planes
from hypir_core.models.layers.shared_norms import SharedNorms, _moments_without_copies
from hypir_core.tiling import sample as sampling
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileConfig, TilePlan, TileWish, plan_tiles
from hypir_core.tiling.run import run_stage
from hypir_core.tiling.sample import CropGrid, SampleSize, Sampling, crop_grid, take_sample
from hypir_core.tiling.stage import Stage

EXAMPLES = Path(__file__).parents[2] / "hypir_core" / "examples"


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 1), nn.SiLU(), nn.GroupNorm(2, 8))
    for norm in (net[0], net[3]):
        assert isinstance(norm, nn.GroupNorm)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)
    return net.eval().requires_grad_(False)


def picture(images: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    ramp = torch.linspace(-2, 3, 64).expand(images, 8, 48, 64)
    return ramp * torch.randn(images, 8, 1, 1, generator=generator) + torch.randn(
        images, 8, 48, 64, generator=generator
    )


def equal(crops: int, images: int = 1) -> torch.Tensor:
    return torch.full((crops, images), 1 / crops)


def test_pieces_gathered_together_are_normalised_as_the_whole(net):
    x = picture()
    pieces = torch.cat(x.split(16, dim=-1))
    norms = SharedNorms(net)
    with norms.gathering(equal(4)) as found:
        together = net(pieces)
    torch.testing.assert_close(torch.cat(together.split(1), dim=-1), net(x), atol=2e-5, rtol=1e-5)
    assert set(found) == {net[0], net[3]}
    assert all(moments.is_finite() for passes in found.values() for moments in passes.values())


def test_tiles_are_normalised_by_what_was_found_and_then_by_themselves_again(net):
    x = picture()
    norms = SharedNorms(net)
    with norms.gathering(equal(1)) as found:
        whole = net(x)
    with norms.using(found):
        left, right = net(x[..., :20]), net(x[..., 20:])
    torch.testing.assert_close(torch.cat((left, right), -1), whole, atol=2e-5, rtol=1e-5)
    alone = net(x[..., :20])
    assert not torch.allclose(alone, left, atol=0.1)
    torch.testing.assert_close(alone, nn.Sequential(*net)(x[..., :20]))


def test_every_picture_of_a_batch_has_its_own_statistics(net):
    x = picture(images=3)
    norms = SharedNorms(net)
    pieces = torch.cat(x.split(32, dim=-1))  # [2 crops · 3 images]
    with norms.gathering(equal(2, 3)) as found:
        net(pieces)
    with norms.using(found):
        made = net(pieces)
    for i in range(3):
        whole = torch.cat((made[i], made[3 + i]), -1)
        torch.testing.assert_close(whole[None], net(x[i : i + 1]), atol=2e-5, rtol=1e-5)


def test_shares_weigh_the_crops(net):
    x = picture()
    halves = torch.cat(x.split(32, dim=-1))
    with SharedNorms(net).gathering(torch.tensor([[1.0], [0.0]])) as found:
        net(halves)
    mean = halves[:1].reshape(1, 4, -1).mean(-1)
    torch.testing.assert_close(found[net[0]][None].mean, mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_formats_lose_no_more_than_the_plain_norm(net, dtype):
    x = picture() + 20  # a large mean: statistics and offsets in a short format would be far off
    norm = net[0]
    short = nn.GroupNorm(4, 8).to(dtype).requires_grad_(False)
    short.load_state_dict(norm.state_dict())
    exact = norm(x.to(dtype).float())
    with SharedNorms(norm).gathering(equal(1)) as found:
        norm(x)
    with SharedNorms(short).using({short: found[norm]}):
        made = short(x.to(dtype))
    assert made.dtype == dtype
    allowed = 1.5 * float((short(x.to(dtype)).float() - exact).abs().max()) + 0.02
    assert float((made.float() - exact).abs().max()) < allowed


def test_the_net_is_as_before_even_after_an_error(net):
    x = picture()
    before = net(x)
    with pytest.raises(ZeroDivisionError), SharedNorms(net).gathering(equal(1)):
        _ = 1 / 0
    assert "forward" not in net[0].__dict__
    torch.testing.assert_close(net(x), before)


def test_a_forward_that_somebody_else_put_there_comes_back(net):
    own = net[0].__dict__["forward"] = lambda x: x
    with SharedNorms(net).gathering(equal(1)):
        assert net[0].__dict__["forward"] is not own
    assert net[0].__dict__["forward"] is own


class PatchedInUse(nn.GroupNorm):
    """A layer of a host that adds to its weights while it computes, and keeps them untouched otherwise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return nn.functional.group_norm(x, self.num_groups, self.weight * 3 - 1, self.bias - 2, self.eps)


@pytest.mark.parametrize("affine", [True, False])
def test_a_layer_says_itself_what_its_scale_and_offset_are(net, affine):
    """The kind: weights that are patched, cast or quantised on their way through the layer's forward."""
    x = picture()
    patched, plain = PatchedInUse(4, 8), nn.GroupNorm(4, 8, affine=affine).requires_grad_(False)
    patched.load_state_dict(net[0].state_dict())
    for norm in (patched.requires_grad_(False), plain):
        whole = norm(x)
        shared = SharedNorms(norm)
        with shared.gathering(equal(4)) as found:
            together = torch.cat(norm(torch.cat(x.split(16, dim=-1))).split(1), dim=-1)
        with shared.using(found):
            tile = norm(x[..., :20])
        torch.testing.assert_close(together, whole, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(tile, whole[..., :20], atol=2e-5, rtol=1e-5)


def test_every_pass_over_a_tile_has_its_own_statistics(net):
    x = picture()
    norms = SharedNorms(net)
    seen = {"left": x, "right": x * 5 - 2}
    whole = {name: net(map_) for name, map_ in seen.items()}
    with norms.gathering(equal(1)) as found:
        for name, map_ in seen.items():
            with norms.of_pass(name):
                net(map_)
    with norms.using(found):
        for name, map_ in seen.items():
            with norms.of_pass(name):
                torch.testing.assert_close(net(map_[..., :20]), whole[name][..., :20], atol=2e-5, rtol=1e-5)
        alone = net(x[..., :20])  # a pass that no sample was seen in: the tile's own statistics
    torch.testing.assert_close(alone, net(x[..., :20]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last, "transposed"])
def test_moments_are_those_of_the_numbers_in_every_format_and_layout(dtype, layout):
    x = (picture(images=3) + 3).to(dtype)
    x = x.transpose(2, 3) if layout == "transposed" else x.to(memory_format=layout)
    with SharedNorms(norm := nn.GroupNorm(4, 8).to(dtype).requires_grad_(False)).gathering(
        equal(1, 3)
    ) as found:
        norm(x)
    var, mean = torch.var_mean(x.double().reshape(3, 4, -1), dim=-1, correction=0)
    torch.testing.assert_close(found[norm][None].mean.double(), mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[norm][None].var.double(), var, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_way_of_accelerators_gives_the_same_moments(dtype, layout):
    """Reductions that run on every device; here on the CPU, on features whose mean is ten deviations from 0."""
    x = (picture(images=3) + 30).to(dtype).to(memory_format=layout)
    var, mean = torch.var_mean(x.double().reshape(3, 4, -1), dim=-1, correction=0)
    found_mean, found_var = _moments_without_copies(x, 4)
    torch.testing.assert_close(found_mean.double(), mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_var.double(), var, atol=1e-4, rtol=2e-3)
    assert found_mean.dtype == found_var.dtype == torch.float32
    assert float(_moments_without_copies(torch.full_like(x, 3.0), 4)[1].max()) < 1e-4


def test_a_constant_group_has_no_variance():
    norm = nn.GroupNorm(2, 4).requires_grad_(False)
    with SharedNorms(norm).gathering(equal(1)) as found:
        made = norm(torch.full((1, 4, 8, 8), 3.0))
    assert float(found[norm][None].var.abs().max()) < 1e-5
    assert float(made.abs().max()) < 1e-3


def plan(height: int, width: int, tile: int) -> TilePlan:
    return plan_tiles((height, width), TileConfig(tile_px=tile, overlap_px=32), grain_px=8)


@pytest.mark.parametrize(("height", "width", "tile"), [(1024, 1024, 576), (2048, 512, 512), (640, 1344, 300)])
@pytest.mark.parametrize("stride_px", [1, 8])
@pytest.mark.parametrize("of_tile", [0.3, 0.5, 1.2])
def test_a_sample_has_a_crop_in_every_part_and_the_size_asked_for(height, width, tile, stride_px, of_tile):
    tiles = plan(height, width, tile)
    grid = crop_grid(tiles, SampleSize(crop_px=96, of_tile=of_tile))
    plane = Plane(torch.rand(1, 2, height // stride_px, width // stride_px), stride_px)
    boxes = take_sample(plane, grid).boxes
    assert len(boxes) == grid.count
    share = sum(prod(b.sizes) for b in boxes) / tiles.tile_area_px
    assert 0.65 * of_tile < share < (1.4 * of_tile if tile > 400 else 1.6)
    assert grid.count >= 9
    assert all(min(b.starts) >= 0 and b.ends <= (height, width) and b.ends[1] <= width for b in boxes)
    assert all(b.sizes == (96, 96) and not any(at % 24 for at in b.starts) for b in boxes)
    sizes = (height, width)
    parts = {
        tuple(int((at + 48) * n / size) for at, n, size in zip(b.starts, grid.counts, sizes, strict=True))
        for b in boxes
    }
    assert len(parts) == grid.count


@pytest.mark.parametrize("tile", [64, 72, 120])
def test_crops_of_small_tiles_are_no_larger_than_they(tile):
    tiles = plan(512, 512, tile)
    grid = crop_grid(tiles, SampleSize(crop_px=128, of_tile=0.5))
    sample = take_sample(Plane(torch.rand(1, 4, 64, 64), 8), grid)
    assert all(len({*b.sizes}) == 1 and b.sizes <= tiles.tile_sizes_px for b in sample.boxes)
    assert all(side % 8 == 0 for b in sample.boxes for side in b.sizes)
    assert sample.shares.shape == (len(sample.boxes), 1)


def test_the_most_typical_crop_stands_for_a_part():
    """A small bright thing in a dark part: the crop shows as much of it as the part has."""
    x = torch.zeros(1, 1, 128, 128)
    x[..., 40:56, 40:56] = 1  # 1/16 of the upper left part, all of it within one of the crops
    sample = take_sample(Plane(x), CropGrid(counts=(2, 2), side_px=32))
    seen = [float(Plane(x).crop(box).mean()) for box in sample.boxes]
    assert 0 < seen[0] <= 0.25
    assert seen[1:] == [0, 0, 0]


def test_shares_bring_the_sample_nearer_to_the_whole():
    photo, _ = to_planes(read_picture(EXAMPLES / "astronaut.jpg"))
    plane = Plane(photo[..., :504, :504])
    sample = take_sample(plane, CropGrid(counts=(4, 4), side_px=64))
    assert sample.shares.shape == (16, 1)
    assert bool((sample.shares > 0).all())
    assert float(sample.shares.sum()) == pytest.approx(1, abs=1e-6)
    means = torch.stack([plane.crop(b).mean((2, 3))[0] for b in sample.boxes])
    true = plane.data.mean((2, 3))[0]
    assert (sample.shares * means).sum(0).sub(true).abs().max() < 0.8 * means.mean(0).sub(true).abs().max()


def test_shares_of_a_constant_picture_are_equal():
    plane = Plane(torch.full((2, 3, 64, 64), 0.3))
    sample = take_sample(plane, CropGrid(counts=(2, 2), side_px=16))
    torch.testing.assert_close(sample.shares, equal(4, 2))


def test_features_do_not_depend_on_the_bands(monkeypatch):
    plane, grid = Plane(torch.rand(2, 3, 200, 168)), CropGrid(counts=(3, 2), side_px=32)
    at_once = take_sample(plane, grid)
    monkeypatch.setattr(sampling, "BAND_PX", 3000)
    in_bands = take_sample(plane, grid)
    assert in_bands.boxes == at_once.boxes
    torch.testing.assert_close(in_bands.shares, at_once.shares)


def test_a_stage_with_one_tile_takes_no_sample():
    def refuse(*_):
        raise AssertionError("looked")

    def stage(tile_px: int) -> Stage:
        return Stage(
            name="copy",
            run=lambda tile, _: tile,
            out_channels=3,
            out_strides=1,
            grain_px=8,
            bytes_per_px=1,
            tile=TileConfig(tile_px=tile_px, overlap_px=8),
            min_tile_px=8,
            sampling=Sampling(look=refuse, size=SampleSize(crop_px=16, of_tile=0.5)),
        )

    plane = Plane(torch.rand(1, 3, 64, 64))
    run_stage(stage(64), plane, wish=TileWish(), runtime=Runtime())
    with pytest.raises(AssertionError, match="looked"):
        run_stage(stage(40), plane, wish=TileWish(), runtime=Runtime())


@pytest.mark.parametrize(
    ("tile_px", "order"), [(40, ["look", "tidy", *["tile"] * 4, "tidy"]), (64, ["tile"])]
)
def test_memory_is_tidied_between_the_sample_and_the_tiles_and_after_them(tile_px, order):
    seen: list[str] = []

    def run(tile: torch.Tensor, _guides: object) -> torch.Tensor:
        seen.append("tile")
        return tile

    def look(*_: object) -> Callable[[], contextlib.AbstractContextManager[None]]:
        seen.append("look")
        return contextlib.nullcontext

    stage = Stage(
        name="copy", run=run, out_channels=3, out_strides=1, grain_px=8, bytes_per_px=1,
        tile=TileConfig(tile_px=tile_px, overlap_px=8),
        sampling=Sampling(look=look, size=SampleSize(crop_px=16, of_tile=0.5)),
    )  # fmt: skip
    runtime = Runtime(batch_tiles=1, tidy=lambda: seen.append("tidy"))
    run_stage(stage, Plane(torch.rand(1, 3, 64, 64)), wish=TileWish(), runtime=runtime)
    assert seen == order
