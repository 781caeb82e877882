"""`span`: the network of the stock layout, what its files hold, and how it starts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.errors import ConfigError, SpecMismatchError
from hypir_core.models.architectures import (
    build_architecture,
    options_of,
    tensors_for_file,
    tensors_from_file,
)
from hypir_core.weights.spec import GeneratorSpec, spec_to_metadata
from hypir_core.weights.tensors import read_tensors, write_tensors
from tests.parity.opensr_fill import fill_

SMALL = {"features": 8, "scale": 2}


def made(**options) -> nn.Module:
    """Return a network far from its start, so that all of it counts."""
    return fill_(build_architecture("span", options, where="options"), "span").eval()


def stock_of(tensors) -> nn.Module:
    spandrel = pytest.importorskip("spandrel", exc_type=ImportError)
    descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(tensors))
    assert descriptor.architecture.id == "SPAN"
    return descriptor.model.eval()


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(1, 3, 21, 18, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{"features": 8, "scale": 2}, {"features": 6, "scale": 1}, {"scale": 4}])
@torch.no_grad()
def test_the_stock_loader_reads_what_a_file_holds_and_makes_the_same_of_it(picture, options):
    ours = made(**options)
    expected = ours(picture)
    got = stock_of(tensors_for_file("span", ours.state_dict()))(picture)
    torch.testing.assert_close(got, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


@torch.no_grad()
def test_a_file_of_the_stock_layout_with_chains_of_its_own_gives_the_stock_result(picture):
    stock = stock_of(tensors_for_file("span", made(**SMALL).state_dict()))
    generator = torch.Generator().manual_seed(1)
    for parameter in stock.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    ours = build_architecture("span", SMALL, where="options")
    ours.load_state_dict(tensors_from_file("span", stock.state_dict()))
    expected = stock(picture)
    torch.testing.assert_close(ours(picture), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_a_file_gives_back_exactly_the_tensors_it_was_made_of():
    for options in (SMALL, {"features": 4, "in_channels": 1, "scale": (1, 2, 2), "dims": 3}):
        tensors = made(**options).state_dict()
        back = tensors_from_file("span", tensors_for_file("span", tensors))
        assert back.keys() == tensors.keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
        assert tensors_from_file("span", tensors).keys() == tensors.keys()


@torch.no_grad()
def test_a_file_with_its_spec_runs_in_the_engine_and_one_that_lacks_a_part_is_refused(tmp_path, picture):
    net = made(**SMALL)
    spec = GeneratorSpec(
        name="test",
        architecture="span",
        dims=2,
        scale=2,
        in_channels=3,
        out_channels=3,
        options=net.options.own,
        trained_on="nothing",
        trained_with="nothing",
        licence="CC0",
    )
    path = tmp_path / "x.safetensors"
    write_tensors(path, tensors_for_file("span", net.state_dict()), spec_to_metadata(spec))
    engine = load_engine("upscaler", options={"weights": str(path)}, dtype="float32")
    got = restore(engine, picture, Request(target=TargetSize(scale=2)), Runtime()).image_01
    torch.testing.assert_close(got, net(picture).clamp(0, 1), atol=1e-5, rtol=0)
    file = read_tensors(path)
    tensors = {name: tensor for name, tensor in file.tensors.items() if name != "block_3.c2_r.sk.bias"}
    write_tensors(path, tensors, file.metadata)
    with pytest.raises(SpecMismatchError, match=r"block_3\.c2_r"):
        load_engine("upscaler", options={"weights": str(path)}, dtype="float32")


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_before_training_a_parabola_is_enlarged_exactly_and_every_block_gives_something(dims):
    torch.manual_seed(0)
    options = {"features": 48, "in_channels": 2, "scale": (4, 3, 2)[:dims], "dims": dims}
    net = build_architecture("span", options, where="options")
    net.upsampler[0].weight[:, 2:] = 0  # what starts small but not at nothing
    sides = (9, 8, 7)[:dims]

    def paraboloid(cells_of_axis):
        grid = torch.meshgrid(*cells_of_axis, indexing="ij")
        return sum((0.01 * (axis + 1) * g * (g - 3) for axis, g in enumerate(grid)), torch.zeros(()))

    coarse = paraboloid([torch.arange(n).float() for n in sides])
    fine = paraboloid(
        [(torch.arange(n * f) + 0.5) / f - 0.5 for n, f in zip(sides, options["scale"], strict=True)]
    )
    out = net(torch.stack([coarse, 1 - coarse])[None])[0]
    inside = tuple(slice(f, -f) for f in options["scale"])
    torch.testing.assert_close(out[(0, *inside)], fine[inside], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[(1, *inside)], 1 - fine[inside], atol=1e-5, rtol=0)
    x = net.conv_1(torch.rand(1, 2, *sides))
    for block in net.blocks:
        x, _ = block(x)
        assert 0.05 < float(x.square().mean().sqrt()) < 20


def test_sizes_below_one_are_refused():
    with pytest.raises(ConfigError, match=r"features must be 1 or more, got 0"):
        options_of("span", {"features": 0}, where="options")
