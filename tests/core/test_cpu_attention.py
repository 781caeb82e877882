"""Attention by matrix products is attention."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from hypir_core.models import cpu_attention
from hypir_core.models.backbone import load_base
from hypir_core.models.cpu_attention import attention, use_cpu_attention_
from hypir_core.weights.locate import locate_base


@pytest.fixture(params=["AVX512", "AMX", None])
def units(request, monkeypatch):
    monkeypatch.setattr(cpu_attention, "cpu_bfloat16_units", lambda: request.param)


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize(("queries", "keys"), [(1, 3), (700, 77), (1030, 1030)])
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
