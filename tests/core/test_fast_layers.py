"""The quick layers compute what diffusers' own do."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hypir_core.models.layers.fast_layers import fold_enlargement, use_fast_layers_
from hypir_core.models.sd.backbone import load_base
from hypir_core.models.sd.fold import fold_timestep_
from hypir_core.weights.search.locate import locate_base


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None)
def test_a_folded_enlargement_is_enlarging_and_convolving(h, w, channels_in, channels_out):
    rng = torch.Generator().manual_seed(h * 100 + w)
    x = torch.randn(2, channels_in, h, w, generator=rng, dtype=torch.float64)
    weight = torch.randn(channels_out, channels_in, 3, 3, generator=rng, dtype=torch.float64)
    bias = torch.randn(channels_out, generator=rng, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias, padding=1)
    ours = F.conv_transpose2d(x, fold_enlargement(weight), bias, stride=2, padding=1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def backbone(golden):
    made = load_base(locate_base(str(golden / "hypir" / "model")))
    fold_timestep_(made.unet, 200)
    return made


@torch.no_grad()
def test_the_vae_stays_the_same(backbone, rng):
    quick = copy.deepcopy(backbone.vae)
    assert use_fast_layers_(quick) == layers(backbone.vae)
    picture = torch.rand(1, 3, 64, 96, generator=rng) * 2 - 1
    latent = backbone.vae.encode(picture).latent_dist.mean
    torch.testing.assert_close(quick.encode(picture).latent_dist.mean, latent, rtol=0, atol=2e-5)
    torch.testing.assert_close(
        quick.decode(latent).sample, backbone.vae.decode(latent).sample, rtol=0, atol=2e-5
    )


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 24), (13, 18)], ids=["even", "odd sides"])
def test_the_unet_stays_the_same(backbone, rng, size):
    quick = copy.deepcopy(backbone.unet)
    assert use_fast_layers_(quick) == layers(backbone.unet)
    z = torch.randn(2, 4, *size, generator=rng)
    words = torch.randn(2, 77, quick.config.cross_attention_dim, generator=rng)
    kept = z.clone()
    expected = backbone.unet(z, 0, words).sample
    torch.testing.assert_close(quick(z, 0, words).sample, expected, rtol=0, atol=2e-5)
    assert torch.equal(z, kept)  # computing in place leaves the input alone


def test_a_resnet_that_still_reads_the_time_is_left_alone(golden):
    unet = load_base(locate_base(str(golden / "hypir" / "model"))).unet
    enlargements = sum(type(m).__name__ == "Upsample2D" for m in unet.modules())
    assert use_fast_layers_(unet) == enlargements


def layers(net) -> int:
    return sum(type(m).__name__ in {"ResnetBlock2D", "Upsample2D"} for m in net.modules())
