"""Attention by matrix products is attention."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from hypir_core.models.layers import cpu_attention
from hypir_core.models.layers.cpu_attention import attention, use_cpu_attention_
from hypir_core.models.sd.backbone import load_base
from hypir_core.weights.search.locate import locate_base


@pytest.fixture(params=["AVX512", "AMX", None])
def units(request, monkeypatch):
    monkeypatch.setattr(cpu_attention, "cpu_bfloat16_units", lambda: request.param)


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize(("queries", "keys"), [(1, 3), (700, 77), (77, 700), (2100, 77), (1030, 1030)])
def test_it_is_attention(rng, queries, keys):
    q, k, v = (torch.randn(2, n, 3, 16, generator=rng).bfloat16() for n in (queries, keys, keys))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    ours = attention(q, k, v)
    assert ours.dtype == torch.bfloat16
    assert (ours.double() - expected).norm() / expected.norm() < 8e-3  # bfloat16 holds 2 to 3 digits


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_networks_stay_the_same(golden, rng, dtype):
    backbone = load_base(locate_base(str(golden / "hypir" / "model")), dtype=dtype)
    z = torch.randn(2, 4, 16, 24, generator=rng).to(dtype)
    words = torch.randn(2, 77, backbone.unet.config.cross_attention_dim, generator=rng).to(dtype)
    runs = [
        (backbone.unet, lambda net: net(z, 200, words).sample, 32),
        (backbone.vae, lambda net: net.decode(z).sample, 2),
    ]
    for net, run, most in runs:
        quick = copy.deepcopy(net)
        assert 2 <= use_cpu_attention_(quick) <= most
        expected = run(net).float()
        tolerance = 2e-6 if dtype == torch.float32 else 0.05
        assert (run(quick).float() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.usefixtures("units")
@torch.no_grad()
def test_one_prompt_for_a_batch_is_projected_once(golden, rng):
    """The same numbers as with the prompt repeated in memory, from a 1-row projection."""
    unet = load_base(locate_base(str(golden / "hypir" / "model")), dtype=torch.float32).unet
    z = torch.randn(3, 4, 16, 16, generator=rng)
    words = torch.randn(1, 77, unet.config.cross_attention_dim, generator=rng)
    repeated = unet(z, 200, words.repeat(3, 1, 1)).sample
    assert use_cpu_attention_(unet) > 0
    seen: list[int] = []
    for name, module in unet.named_modules():
        if name.endswith("attn2.to_k"):
            module.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    expanded = unet(z, 200, words.expand(3, -1, -1)).sample
    torch.testing.assert_close(expanded, repeated, atol=1e-5, rtol=1e-4)
    assert seen
    assert set(seen) == {1}
