"""Generators: the dims factory, how far they see, and how they run through the feed-forward engine."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypir_core import Request, Runtime, TargetSize, TileWish, load_engine, restore
from hypir_core.errors import ConfigError, ShapeError
from hypir_core.models.architectures import build_architecture, options_of, tensors_for_file
from hypir_core.models.architectures.nd import shuffle, unshuffle
from hypir_core.models.architectures.residual_blocks import ChannelAttentionBlock, LargeKernelAttention
from hypir_core.models.architectures.stochastic import Stochastic, draw_latents
from hypir_core.tiling import sample
from hypir_core.tiling.geometry import Box, Plane
from hypir_core.tiling.run import run_stage
from hypir_core.weights.spec import GeneratorSpec, spec_to_metadata
from hypir_core.weights.tensors import write_tensors
from tests.parity.opensr_fill import fill_


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def made(architecture: str, **options) -> nn.Module:
    """Return a network far from its start, so that all of it counts."""
    return fill_(build_architecture(architecture, options, where="options"), architecture).eval()


def exported(path: Path, architecture: str, net: nn.Module) -> Path:
    """Write a network as training exports it."""
    options: object = net.options
    spec = GeneratorSpec(
        name="test",
        architecture=architecture,
        dims=options.dims,
        scale=options.scale,
        in_channels=options.in_channels,
        out_channels=options.makes,
        options=options.own,
        trained_on="nothing",
        trained_with="nothing",
        licence="CC0",
    )
    write_tensors(path, tensors_for_file(architecture, net.state_dict()), spec_to_metadata(spec))
    return path


@pytest.mark.parametrize(("dims", "scale"), [(2, 4), (2, [2, 3]), (3, 2)])
def test_a_new_compact_interpolates_linearly(dims, scale):
    """Only what passes through counts here: the other features are noise that training makes something of."""
    options = {"features": 8, "blocks": 3, "scale": scale, "dims": dims}
    net = build_architecture("compact", options, where="options")
    with torch.no_grad():
        net.body[-1].weight[:, net.options.in_channels :] = 0
        x = torch.rand(1, 3, *(9, 8, 7)[:dims])
        wanted = F.interpolate(x, scale_factor=net.options.scales, mode=("bilinear", "trilinear")[dims - 2])
        inside = (slice(None), slice(None), *(slice(factor, -factor) for factor in net.options.scales))
        torch.testing.assert_close(net(x)[inside], wanted[inside])


@pytest.mark.parametrize(
    ("dims", "scale", "kept"),
    [(2, 4, (2, 2)), (2, 4, (1, 1)), (2, 4, (4, 4)), (2, (4, 2), (2, 1)), (3, (1, 4, 2), (1, 1, 2))],
)
@pytest.mark.parametrize(("name", "size"), [("compact", {"blocks": 2}), ("span", {})])
def test_a_network_asked_for_less_makes_the_means_of_its_result(name, size, dims, scale, kept):
    net = build_architecture(name, {"dims": dims, "scale": scale, "features": 8, **size}, where="here")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        x = torch.rand(2, 3, *(9, 8, 7)[:dims])
        pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[dims]
        blocks = tuple(s // k for s, k in zip(net.options.scales, kept, strict=True))
        torch.testing.assert_close(net(x, kept), pool(net(x), blocks), rtol=1e-4, atol=1e-5)


def test_a_smaller_result_of_the_built_in_restorer_needs_no_larger_one():
    engine = load_engine("built-in", options={}, device=torch.device("cpu"), dtype="float32")
    x = torch.rand(1, 3, 40, 48)
    largest = []
    handle = engine.net.register_forward_hook(lambda _net, _given, out: largest.append(tuple(out.shape[-2:])))
    for scale in (1, 2):
        wish = Request(target=TargetSize(scale=scale))
        at_once = restore(engine, x, wish, Runtime()).image_01
        assert largest.pop() == (40 * scale, 48 * scale)
        averaged = restore(replace(engine, takes_kept=False), x, wish, Runtime()).image_01
        assert largest.pop() == (160, 192)
        torch.testing.assert_close(at_once, averaged, atol=1e-5, rtol=0)
    handle.remove()


def test_the_features_of_a_new_compact_keep_their_size_through_any_depth():
    net = build_architecture("compact", {"features": 64, "blocks": 16, "scale": 4}, where="options")
    x = torch.rand(2, 3, 24, 24)
    sizes = []
    with torch.no_grad():
        for layer in net.body[:-1]:
            x = layer(x)
            sizes.append(float(x.std()))
    assert max(sizes) < 4 * min(sizes)


def engine_of(path: Path, **options):
    return load_engine("upscaler", options={"weights": str(path), **options}, dtype="float32")


def ran(engine, x: Tensor, *, tile_px: int = 64, overlap_px: int = 32, seed: int = 0) -> Tensor:
    """Return what the engine makes of values at its full factor, in tiles, not cut to [0,1]."""
    sizes = tuple(n * k for n, k in zip(x.shape[2:], engine.scale, strict=True))
    prepared = engine.prepare(Plane(x), sizes, Request(seed=seed))
    (stage,) = engine.stages(prepared, Request(seed=seed))
    wish = TileWish(tile_px=tile_px, overlap_px=overlap_px)
    out, report = run_stage(stage, prepared.plane, wish=wish, runtime=Runtime())
    assert report.redundancy > 1
    return out.data


@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (2, 2, 2), (1, 4, 4), (2, 1, 3)])
def test_convention_channels_go_into_space_as_in_torch_the_slowest_axis_first(factors):
    cells = (2, 3, 4)[: len(factors)]
    x = (
        torch.arange(5 * torch.tensor(factors).prod() * torch.tensor(cells).prod())
        .float()
        .reshape(1, -1, *cells)
    )
    y = shuffle(x, factors)
    assert y.shape == (1, 5, *(n * f for n, f in zip(cells, factors, strict=True)))
    for inside in product(*(range(f) for f in factors)):
        channel = 0
        for index, factor in zip(inside, factors, strict=True):
            channel = channel * factor + index
        there = y[(0, 3, *(slice(i, None, f) for i, f in zip(inside, factors, strict=True)))]
        torch.testing.assert_close(there, x[0, 3 * x.shape[1] // 5 + channel])
    torch.testing.assert_close(unshuffle(y, factors), x)
    if factors == (1, 4, 4):  # within slices, as torch does it for each
        slices = [F.pixel_shuffle(x[:, :, z], 4) for z in range(cells[0])]
        torch.testing.assert_close(y, torch.stack(slices, 2))


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("compact", {"features": 4, "blocks": 2, "scale": 3}),
        ("span", {"features": 4, "scale": 2}),
        ("srresnet", {"channels": 4, "blocks": 1, "head_kernel": 5, "scale": 2}),
        ("residual", {"block": "res", "channels": 4, "blocks": 2, "head_kernel": 5, "scale": 4}),
        ("residual", {"block": "lka", "channels": 4, "blocks": 1, "head_kernel": 3, "scale": 2}),
        ("residual", {"block": "rrdb", "channels": 4, "blocks": 1, "head_kernel": 3, "scale": 2}),
        ("stochastic", {"channels": 4, "blocks": 1, "head_kernel": 3, "body_kernel": 5, "scale": 2}),
        ("esrgan", {"channels": 4, "blocks": 1, "growth": 2, "scale": 2}),
        ("esrgan", {"channels": 2, "blocks": 1, "growth": 2, "scale": (1, 2, 2), "dims": 3}),
    ],
)
def test_a_result_depends_on_the_stated_surroundings_and_not_on_more(architecture, options):
    net = made(architecture, **options, in_channels=1).double()
    radius, dims = net.receptive_radius, options.get("dims", 2)
    width = 2 * radius + 5
    x = torch.zeros(1, 1, *(1, 3)[: dims - 2], 3, width, dtype=torch.double, requires_grad=True)
    y = net(x)
    scale = y.shape[-1] // width
    middle = width // 2 * scale
    y[..., middle : middle + scale].sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().amax(tuple(range(x.ndim - 1))).nonzero().flatten()
    farthest = max(width // 2 - int(reached[0]), int(reached[-1]) - width // 2)
    assert radius - 1 <= farthest <= radius


def test_large_kernels_see_23_cells_and_attention_lies_between_0_and_1():
    net = fill_(LargeKernelAttention(2, 1), "lka").double()
    x = torch.ones(1, 1, 41, 41, dtype=torch.double, requires_grad=True)
    net(x)[0, 0, 20, 20].backward()
    assert x.grad is not None
    assert int((x.grad.abs().sum((0, 1, 2)) > 0).sum()) == 23
    for dims in (2, 3):
        block = fill_(ChannelAttentionBlock(dims, 32, 3, 0.2), "rcab")
        weights = block.se(torch.randn(2, 32, *(4,) * dims)).detach()
        assert weights.shape == (2, 32, *(1,) * dims)
        assert 0 < float(weights.min()) < float(weights.max()) < 1


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("architecture", "options", "sizes"),
    [
        ("residual", {"block": "lka", "channels": 4, "blocks": 1, "head_kernel": 3, "scale": 2}, (61, 45)),
        ("srresnet", {"channels": 4, "blocks": 1, "head_kernel": 5, "scale": 4}, (37, 29)),
        ("esrgan", {"channels": 4, "blocks": 1, "growth": 2, "scale": (1, 2, 2), "dims": 3}, (5, 80, 9)),
        ("compact", {"features": 4, "blocks": 2, "scale": 2, "dims": 3}, (34, 21, 13)),
        ("span", {"features": 6, "scale": 2}, (67, 59)),
        ("rrdb", {"features": 4, "blocks": 1, "growth": 2, "scale": 2, "dims": 3}, (4, 96, 6)),
    ],
)
def test_tiles_of_an_exported_file_are_the_whole(tmp_path, architecture, options, sizes):
    net = made(architecture, **options, in_channels=4)
    engine = engine_of(exported(tmp_path / "x.safetensors", architecture, net))
    x = torch.rand(1, 4, *sizes)
    with torch.no_grad():
        whole = net(x)
    (_, overlaps) = engine.tile.sides(len(sizes))
    out = ran(engine, x, tile_px=overlaps[-1] + 16, overlap_px=overlaps[-1])
    torch.testing.assert_close(out, whole, atol=2e-5, rtol=0)


@pytest.mark.tiny
def test_channel_attention_is_alike_for_all_tiles(tmp_path):
    net = made("residual", block="rcab", channels=32, blocks=1, head_kernel=3, scale=2, in_channels=1)
    engine = engine_of(exported(tmp_path / "x.safetensors", "residual", net))
    ramp = torch.linspace(0, 1, 192)
    x = (0.2 * torch.rand(1, 1, 192, 192) + 0.8 * ramp * ramp.flip(0)[:, None] + ramp).clamp(0, 2)
    with torch.no_grad():
        whole = net(x)
    span = float(whole.max() - whole.min())
    alone, shared = (
        float((ran(one, x, tile_px=128, overlap_px=64) - whole).abs().max()) / span
        for one in (replace(engine, pools=()), engine)
    )
    assert shared < alone / 5
    assert shared < 5e-4
    pool = engine.pools[0]
    assert "forward" not in pool.__dict__  # the network is its own again


class ReadBoxByBox:
    """A picture that is not in memory: boxes are all that can be had of it."""

    def __init__(self, plane: Plane):
        self._plane = plane
        self.strides, self.sizes_px, self.images, self.channels = (
            plane.strides,
            plane.sizes_px,
            plane.images,
            plane.channels,
        )
        self.most_px = 0

    def crop(self, box: Box) -> Tensor:
        self.most_px = max(self.most_px, prod(box.sizes))
        return self._plane.crop(box)


@pytest.mark.tiny
def test_the_sample_of_a_picture_that_is_not_in_memory_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "BAND_PX", 1 << 12)
    net = made("residual", block="rcab", channels=16, blocks=1, head_kernel=3, scale=2, in_channels=1)
    engine = engine_of(exported(tmp_path / "x.safetensors", "residual", net))
    x = torch.rand(1, 1, 190, 70) * torch.linspace(0.2, 1, 190)[:, None]
    prepared = engine.prepare(Plane(x), (380, 140), Request())
    (stage,) = engine.stages(prepared, Request())
    streamed = ReadBoxByBox(prepared.plane)
    wish = TileWish(tile_px=96, overlap_px=32)
    whole, boxes = (
        run_stage(stage, p, wish=wish, runtime=Runtime())[0].data for p in (prepared.plane, streamed)
    )
    torch.testing.assert_close(boxes, whole, atol=0, rtol=0)
    assert streamed.most_px < prod(streamed.sizes_px) / 2


@pytest.mark.parametrize(
    ("architecture", "block"), [("srresnet", None), ("residual", "rcab"), ("stochastic", None)]
)
def test_half_precision_stays_near_float32(tmp_path, architecture, block):
    named = {"block": block} if block else {}
    net = made(architecture, **named, channels=8, blocks=1, head_kernel=3, scale=2, in_channels=2)
    path = exported(tmp_path / "x.safetensors", architecture, net)
    x = torch.rand(1, 2, 60, 50)
    exact = ran(engine_of(path), x)
    half = ran(load_engine("upscaler", options={"weights": str(path)}, dtype="bfloat16"), x)
    assert half.dtype == torch.float32
    assert float((half - exact).abs().max()) < 0.05 * float(exact.max() - exact.min())


@pytest.fixture
def draws(tmp_path) -> Path:
    net = made("stochastic", channels=4, blocks=1, head_kernel=3, noise_dim=5, scale=2, in_channels=2)
    return exported(tmp_path / "draws.safetensors", "stochastic", net)


@pytest.mark.tiny
def test_a_seed_draws_one_picture_whatever_the_tiles(draws):
    net, engine, x = (
        made("stochastic", channels=4, blocks=1, head_kernel=3, noise_dim=5, scale=2, in_channels=2),
        engine_of(draws),
        torch.rand(1, 2, 60, 50),
    )
    for seed in (0, 7):
        with torch.no_grad():
            whole = net(x, draw_latents(5, seed))
        torch.testing.assert_close(ran(engine, x, seed=seed), whole, atol=1e-5, rtol=0)
    first, other = ran(engine, x, seed=0), ran(engine, x, seed=1)
    assert float((first - other).abs().max()) > 0.01
    both = restore(engine, torch.cat([x, x]), Request(seed=3, target=TargetSize(scale=2)), Runtime()).image_01
    torch.testing.assert_close(both[0], both[1])


@pytest.mark.tiny
def test_mean_and_deviation_are_those_of_the_samples(draws):
    net = made("stochastic", channels=4, blocks=1, head_kernel=3, noise_dim=5, scale=2, in_channels=2)
    x = torch.rand(1, 2, 60, 50)
    with torch.no_grad():
        samples = torch.stack([net(x, z[None]) for z in draw_latents(5, 4, count=6)])
    for result, wanted in (("mean", samples.mean(0)), ("deviation", samples.std(0, correction=0))):
        engine = engine_of(draws, result=result, samples=6)
        torch.testing.assert_close(ran(engine, x, seed=4), wanted, atol=1e-5, rtol=0)
        assert engine.spec.settings["result"] == result
        assert not engine.spec.restores_alpha
    assert float(samples.std(0).max()) > 0.01


def test_results_of_many_pictures_need_a_network_that_draws(tmp_path, draws):
    plain = exported(tmp_path / "x.safetensors", "compact", made("compact", features=4, blocks=1))
    with pytest.raises(ConfigError, match="draws nothing, so there is no deviation"):
        engine_of(plain, result="deviation", samples=4)
    with pytest.raises(ConfigError, match="samples must be 2 or more for the mean, got 1"):
        engine_of(draws, result="mean")
    with pytest.raises(ConfigError, match="samples: 3 pictures make a mean or a deviation"):
        engine_of(draws, samples=3)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_rrdb_is_the_network_of_esrgans_files(scale):
    spandrel = pytest.importorskip("spandrel")
    net = made("rrdb", features=8, blocks=1, growth=32, scale=scale)
    theirs = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(net.state_dict()))
    assert (theirs.architecture.name, theirs.scale) == ("ESRGAN", scale)
    x = torch.rand(1, 3, 12, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs.model.eval()(x), atol=0, rtol=0)


def test_latents():
    net = made("stochastic", channels=4, blocks=1, head_kernel=3, noise_dim=5, scale=2, in_channels=2)
    assert isinstance(net, Stochastic)
    x = torch.rand(3, 2, 4, 5)
    torch.testing.assert_close(net(x), net(x, torch.zeros(3, 5)))  # evaluation takes the middle
    with torch.no_grad():
        z = torch.randn(1, 5).expand(3, -1)
        torch.testing.assert_close(net(x, z)[1:2], net(x[1:2], z[:1]))
        drawn = net.train()(x[:1].expand(3, -1, -1, -1))
        assert float((drawn[0] - drawn[1]).abs().max()) > 0  # training draws one for each
    for block in net.body:  # γ = β = 0: the latent has no say
        nn.init.zeros_(block.noise_mlp[2].weight)
        nn.init.zeros_(block.noise_mlp[2].bias)
    torch.testing.assert_close(net(x, torch.ones(3, 5)), net(x, torch.zeros(3, 5)))
    with pytest.raises(ShapeError, match="one latent of 5 numbers for each of 3 pictures, got 3×4"):
        net(x, torch.zeros(3, 4))
    torch.testing.assert_close(draw_latents(4, 9, count=3)[:2], draw_latents(4, 9, count=2))


@pytest.mark.parametrize(
    ("architecture", "options", "said"),
    [
        ("residual", {"res_scales": 0.1}, "unknown key 'res_scales'.*did you mean 'res_scale'"),
        ("residual", {"block": "dense"}, "'standard', 'res', 'rcab', 'rrdb' or 'lka'"),
        ("esrgan", {"scale": 6}, "doubles step by step, so 1, 2, 4, 8 …, got 6×6"),
        ("srresnet", {"scale": (2, 2, 2)}, "scale must be one number or 2, one for each axis, got 3 numbers"),
        ("stochastic", {"noise_dim": 0}, "noise_dim must be 1 or more, got 0"),
        ("residual", {"head_kernel": 8}, "head_kernel must be odd, 1 or more, got 8"),
        ("compact", {"dims": 4}, "dims must be 2 or 3, got 4"),
        ("compact", {"in_channels": 4, "out_channels": 3}, "4 channels cannot become 3; choose another"),
    ],
)
def test_sizes_that_cannot_be_are_refused(architecture, options, said):
    with pytest.raises(ConfigError, match=said):
        options_of(architecture, options, where="generator.options")
