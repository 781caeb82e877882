"""The U-Net: sizes, what a timestep does, every parameter learns and is saved, attention does not follow the size."""

from __future__ import annotations

import pytest
import torch

from hypir_core.errors import ConfigError
from hypir_core.models.architectures import build_architecture, options_of
from hypir_core.models.architectures.unet import mirrored

TINY = {"channels": (8, 16), "layers": 1, "groups": 4}


def unet(name: str = "unet", **more):
    torch.manual_seed(0)
    return build_architecture(name, {**TINY, "in_channels": 3, "out_channels": 1, **more}, where="test")


@pytest.mark.parametrize("sizes", [(1, 1), (5, 9), (16, 8)])
@pytest.mark.parametrize("fold", [1, 2])
def test_any_size_comes_back(sizes, fold):
    net = unet(fold=fold)
    x = torch.randn(2, 3, *sizes)
    assert net(x, torch.tensor([3.0, 900.0])).shape == (2, 1, *sizes)


def test_padding_is_the_mirror_and_changes_nothing_inside_the_grain():
    net = unet(fold=2).eval()
    x = torch.randn(1, 3, 6, 9)
    by_hand = mirrored(mirrored(x, -2, 2), -1, 3)
    assert torch.equal(by_hand[0, 0, 0, 9:], x[0, 0, 0, [7, 6, 5]])
    assert torch.allclose(net(x, 7.0), net(by_hand, 7.0)[..., :6, :9], atol=1e-6)


def test_the_timestep_counts_and_is_each_image_s_own():
    net = unet().eval()
    x = torch.randn(1, 3, 8, 8).expand(2, -1, -1, -1)
    early, late = net(x, torch.tensor([10.0, 900.0]))
    assert not torch.allclose(early, late, atol=1e-3)
    assert torch.allclose(net(x[:1], 900.0)[0], late, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"attention": (1,), "middle_attention": True, "head_channels": 4}])
def test_a_saved_net_gives_the_same_and_every_parameter_learns(more):
    net, other = unet(fold=2, **more), unet(fold=2, **more)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 8, 8)
    made = net(x, 5.0)
    assert torch.equal(made, other(x, 5.0))
    made.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0 or name.endswith("to_k.bias"), name  # a key's bias cancels


def test_attention_stands_where_it_is_put():
    from diffusers.models.attention_processor import Attention

    def places(net):
        return [name for name, module in net.named_modules() if isinstance(module, Attention)]

    assert not places(unet())
    found = places(unet(attention=(0,), head_channels=4))
    assert {name.split(".")[1] + name.split(".")[2] for name in found} == {"down_blocks0", "up_blocks1"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": (8, 10)}, "10 does not divide by the 4 groups"),
        ({"attention": (2,)}, "levels are counted from 0 to 1"),
        ({"attention": (1,), "head_channels": 5}, "16 channels that attend do not divide by 5"),
        ({"scale": 2}, "keeps the size"),
        ({"dims": 3}, "keeps the size"),
        ({"dropout": 1.0}, "dropout"),
        ({"channel": (8,)}, "channels"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        options_of("unet", {**TINY, **options}, where="test")


def test_a_progressive_net_treats_input_and_target_alike_and_fades_in():
    net = unet("progressive_unet")
    assert net.state_dict().keys() == unet().state_dict().keys()
    x = torch.randn(1, 1, 8, 12)
    assert all(torch.equal(x, same) for same in net.at_resolution(x, x))
    net.set_resolution(6, alpha=0.25)
    small, twice = net.at_resolution(x, 2 * x)
    assert small.shape == (1, 1, 4, 6)
    assert torch.allclose(twice, 2 * small)
    net.set_resolution(None, alpha=0.25)
    (faded,) = net.at_resolution(x)
    coarse = torch.nn.functional.avg_pool2d(x, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.allclose(faded, 0.25 * x + 0.75 * coarse, atol=1e-6)
    with pytest.raises(ConfigError, match="alpha"):
        net.set_resolution(8, alpha=1.5)
