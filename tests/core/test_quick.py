"""Without gradients the remote-sensing generators make the same numbers in less time and memory."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hypir_core.models.architectures import build_architecture, quick
from hypir_core.models.architectures.nd import CONVOLUTIONS, PixelShuffle, same_conv, shuffle
from hypir_core.models.architectures.residual_blocks import BlockKind

SMALL = {"channels": 8, "blocks": 2}
NETWORKS = [
    ("srresnet", {**SMALL, "head_kernel": 9}),
    ("stochastic", {**SMALL, "noise_dim": 4}),
    ("esrgan", {**SMALL, "growth": 4}),
    *(("residual", {**SMALL, "block": kind.value}) for kind in BlockKind),
]


def started(name, options, **sizes):
    """Return a network whose slopes are not all alike."""
    torch.manual_seed(0)
    net = build_architecture(name, {**options, **sizes}, where=name).eval()
    for number, parameter in enumerate(p for p in net.parameters() if p.numel() == 1):
        torch.nn.init.constant_(parameter, 0.05 + 0.1 * (number % 5))
    return net


@pytest.mark.parametrize("scale", [1, 4, (1, 2)], ids=str)
@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=lambda v: v if isinstance(v, str) else "")
def test_without_gradients_a_picture_comes_out_the_same(name, options, scale, monkeypatch):
    net = started(name, options, in_channels=4, scale=scale)
    x = torch.rand(2, 4, 37, 22)
    expected = net(x)
    assert expected.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected, atol=2e-6, rtol=2e-5)
        monkeypatch.setitem(quick.MOST_NUMBERS, "cpu", 2 * 13**2 * 8 * 16)
        torch.testing.assert_close(net(x), expected, atol=2e-6, rtol=2e-5)
    torch.testing.assert_close(net(x), expected, atol=0, rtol=0)  # the input was not overwritten


@pytest.mark.parametrize("scale", [2, (1, 4, 4)], ids=str)
@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=lambda v: v if isinstance(v, str) else "")
def test_without_gradients_a_volume_comes_out_the_same(name, options, scale, monkeypatch):
    """At once, and cell by cell; each axis in turn is longer than a network sees, so that blocks cut it."""
    net = started(name, options, in_channels=1, dims=3, scale=scale)
    for sizes in ((16, 2, 3), (3, 16, 2), (2, 3, 16)):
        x = torch.rand(1, 1, *sizes)
        expected = net(x)
        with torch.no_grad():
            torch.testing.assert_close(net(x), expected, atol=2e-6, rtol=2e-5)
            with monkeypatch.context() as patch:
                patch.setitem(quick.MOST_NUMBERS, "cpu", 1)
                torch.testing.assert_close(net(x), expected, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize(
    ("sizes", "scales", "side"), [((70, 33), (2, 3), 20), ((19, 30, 13), (1, 3, 2), 10)], ids=str
)
def test_blocks_are_small_and_cover_everything(sizes, scales, side, monkeypatch):
    most = side ** len(sizes)
    monkeypatch.setitem(quick.MOST_NUMBERS, "cpu", most * 3)
    x, seen = torch.rand(1, 2, *sizes), []

    def enlarged(block):
        return F.interpolate(block, scale_factor=tuple(map(float, scales)), mode="nearest")

    def run(block):
        seen.append(block[0, 0].numel())
        return enlarged(block)

    with torch.no_grad():
        out = quick.in_blocks(x, run, scales=scales, reach=2, numbers=3)
    assert len(seen) > 4
    assert max(seen) <= most
    torch.testing.assert_close(out, enlarged(x))


@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (1, 4), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3, 9])
def test_a_folded_kernel_does_before_the_shuffle_what_the_kernel_does_after_it(factors, kernel):
    torch.manual_seed(1)
    dims, together = len(factors), int(torch.tensor(factors).prod())
    conv = same_conv(dims, 3, 2, kernel).double()
    x = torch.randn(1, 3 * together, *(7, 6, 5)[:dims], dtype=torch.float64)
    folded = quick.folded_kernel(conv.weight, factors)
    before = CONVOLUTIONS[dims](
        3 * together, 2 * together, folded.shape[2:], padding=[k // 2 for k in folded.shape[2:]]
    ).double()
    before.load_state_dict({"weight": folded, "bias": conv.bias.repeat_interleave(together)})
    torch.testing.assert_close(shuffle(before(x), factors), conv(shuffle(x, factors)))


def test_a_last_convolution_is_folded_where_that_is_less_work():
    def multiplied(out_channels, kernel):
        conv, shuffling, act = same_conv(2, 8, out_channels, kernel), PixelShuffle((2, 2)), torch.nn.PReLU()
        x, kernels = torch.rand(1, 32, 8, 8), []
        plain = torch.nn.functional.conv2d

        def convolve(x, weight, *args, **kwargs):
            kernels.append(tuple(weight.shape))
            return plain(x, weight, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(torch.nn.functional, "conv2d", convolve)
            quick.shuffled_then(shuffling, act, conv, x)
        return kernels[0]

    assert multiplied(4, 9) == (16, 32, 5, 5)
    assert multiplied(13, 9) == (13, 8, 9, 9)
    assert multiplied(4, 3) == (4, 8, 3, 3)
