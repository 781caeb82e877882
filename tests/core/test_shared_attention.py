"""Self-attention whose tiles see the picture through a sample."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from hypir_core.models.layers import cpu_attention, shared_attention
from hypir_core.models.layers.cpu_attention import attention, use_cpu_attention_
from hypir_core.models.layers.shared_attention import SharedAttention, Tokens, diffusers_sites
from hypir_core.models.layers.shared_layers import SharedLayers
from hypir_core.models.layers.shared_norms import SharedNorms


def tiny_attention(heads: int = 2):
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(5)
    layer = Attention(
        query_dim=8, heads=heads, dim_head=8 // heads, norm_num_groups=2, residual_connection=True, bias=True
    )
    return layer.eval().requires_grad_(False)


def equal(crops: int, images: int = 1) -> torch.Tensor:
    return torch.full((crops, images), 1 / crops)


def shared(layer) -> SharedLayers:
    return SharedLayers(norms=SharedNorms(layer), attention=SharedAttention(diffusers_sites(layer)))


@pytest.mark.parametrize("units", ["AVX512", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_key_that_counts_n_times_is_n_keys(rng, monkeypatch, units, dtype):
    monkeypatch.setattr(cpu_attention, "cpu_bfloat16_units", lambda: units)
    counts = torch.tensor([1, 3, 2, 1, 7])
    for queries, of_each in ((700, 130), (3, 1)):  # by chunks, and all heads at once
        q = torch.randn(2, 3, queries, 16, generator=rng).to(dtype)
        k, v = (torch.randn(2, 3, 5 * of_each, 16, generator=rng).to(dtype) for _ in "kv")
        times = counts.repeat(of_each)
        made = attention(q, k, v, times.log())
        repeated = (t.double().repeat_interleave(times, dim=2) for t in (k, v))
        expected = F.scaled_dot_product_attention(q.double(), *repeated)
        limit = 1e-5 if dtype == torch.float32 else 1.5e-2
        assert (made.double() - expected).norm() / expected.norm() < limit


@pytest.mark.parametrize("images", [1, 3])
def test_two_halves_that_see_each_other_are_the_whole(rng, images):
    """The right half as the sample of all that is not the left one, and the other way round."""
    layer = tiny_attention()
    x = torch.randn(images, 8, 6, 10, generator=rng)
    whole = layer(x)
    norms, attention_ = SharedNorms(layer), SharedAttention(diffusers_sites(layer))
    with norms.gathering(equal(1, images)) as moments:
        layer(x)
    halves = x.split(5, dim=-1)
    made = []
    for mine, other in (halves, halves[::-1]):
        with norms.using(moments):
            with attention_.gathering(equal(1, images), picture_in_crops=2) as tokens:
                layer(other)
            with attention_.using(tokens):
                made.append(layer(mine))
    torch.testing.assert_close(torch.cat((made[0], made[1]), -1), whole, atol=1e-5, rtol=1e-5)


def test_tiles_and_crops_of_several_pictures_stay_apart(rng):
    layer = tiny_attention()
    x = torch.randn(2, 8, 4, 12, generator=rng)
    tiles = torch.cat(x.split(6, dim=-1))  # [2 tiles · 2 images]
    both = shared(layer)
    with both.gathering(equal(2, 2), picture_in_crops=2) as seen:
        layer(tiles)
    with both.using(seen):
        made = layer(tiles)
    for i in range(2):
        with both.gathering(equal(2), picture_in_crops=2) as seen:
            layer(tiles[i::2])
        with both.using(seen):
            torch.testing.assert_close(made[i::2], layer(tiles[i::2]), atol=1e-5, rtol=1e-5)


def test_crops_count_by_their_shares(rng):
    """A crop that counts for everything is all that there is beyond a tile."""
    layer = tiny_attention()
    crops, tile = torch.randn(2, 8, 4, 4, generator=rng), torch.randn(1, 8, 4, 4, generator=rng)
    one = SharedAttention(diffusers_sites(layer))
    with one.gathering(torch.tensor([[1.0], [0.0]]), picture_in_crops=9) as of_both:
        layer(crops)
    with one.gathering(equal(1), picture_in_crops=9) as of_first:
        layer(crops[:1])
    made = []
    for tokens in (of_both, of_first):
        with one.using(tokens):
            made.append(layer(tile))
    torch.testing.assert_close(made[0], made[1], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(made[0], layer(tile), atol=1e-3)


def test_a_huge_picture_does_not_drown_a_tile(rng, monkeypatch):
    monkeypatch.setattr(shared_attention, "MOST_CELLS", 64)
    layer = tiny_attention()
    crop, tile = torch.randn(1, 8, 4, 4, generator=rng), torch.randn(1, 8, 4, 4, generator=rng)
    one = SharedAttention(diffusers_sites(layer))
    made = []
    for picture_in_crops in (4, 400):
        with one.gathering(equal(1), picture_in_crops) as tokens:
            layer(crop)
        with one.using(tokens):
            made.append(layer(tile))
            big = layer(
                torch.cat([tile] * 4, dim=-1)
            )  # as many cells as the picture counts: nothing is beyond
    torch.testing.assert_close(made[0], made[1])
    torch.testing.assert_close(big, layer(torch.cat([tile] * 4, dim=-1)), atol=1e-6, rtol=1e-6)


def test_the_layer_is_as_before_even_after_an_error(rng):
    layer = tiny_attention()
    x = torch.randn(1, 8, 4, 4, generator=rng)
    before, processor = layer(x), layer.processor
    with pytest.raises(ZeroDivisionError), shared(layer).gathering(equal(1), 4):
        _ = 1 / 0
    assert layer.processor is processor
    torch.testing.assert_close(layer(x), before)


def test_what_is_not_finite_is_told(rng):
    layer = tiny_attention()
    with shared(layer).gathering(equal(1), 4) as seen:
        layer(torch.randn(1, 8, 4, 4, generator=rng))
    assert seen.is_finite()
    (site, tokens), *_ = seen.tokens.items()
    broken = dataclasses.replace(tokens, keys=tokens.keys * float("nan"))
    assert not dataclasses.replace(seen, tokens={site: broken}).is_finite()


@pytest.mark.parametrize("quick", [False, True])
def test_a_vae_has_one_in_each_half(golden, quick):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(golden / "hypir" / "model" / "vae").eval().requires_grad_(False)
    if quick:
        use_cpu_attention_(vae)
    one = SharedAttention(diffusers_sites(vae))
    assert len(one.sites) == 2
    with one.gathering(equal(2), picture_in_crops=6) as tokens:
        vae.encode(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert len(tokens) == 1
    found: Tokens = next(iter(tokens.values()))
    assert found.keys.shape == found.values.shape == (1, 1, 2 * 8 * 8, vae.config.block_out_channels[-1])
    assert float(found.shares.sum()) == pytest.approx(1)
    assert found.picture_cells == 6 * 8 * 8
