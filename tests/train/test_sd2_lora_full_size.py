"""One forward and backward pass of the generator in full size, random weights, bfloat16."""

from __future__ import annotations

import os
import resource
import time

import pytest
import torch
from accelerate import Accelerator

from hypir_core.models.sd.random_sd21 import random_backbone
from train.data.batch import Batch
from train.generators.sd2_lora import Sd2LoraOptions, sd2_lora_on

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("HYPIR_FULL_SIZE") != "1",
        reason="needs 10 GB of memory and minutes; set HYPIR_FULL_SIZE=1",
    ),
]


def test_every_factor_gets_a_finite_gradient(rng):
    started = time.perf_counter()
    backbone = random_backbone()
    for net in (backbone.unet, backbone.vae):
        torch.nn.Module.to(net, dtype=torch.bfloat16)
    generator = sd2_lora_on(backbone, Sd2LoraOptions(rank=256), base="random", device=torch.device("cpu"))
    factors = {n: p for n, p in generator.module.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, factor in factors.items():
            if ".lora_B." in name:
                factor.normal_(0, 1e-3, generator=rng)
    module = Accelerator(mixed_precision="bf16", cpu=True).prepare(generator.module)
    made = time.perf_counter()
    picture = torch.rand(1, 3, 512, 512, generator=rng)
    restored = generator.restore(module, Batch(picture, picture))
    forward = time.perf_counter()
    (restored - picture).square().mean().backward()
    backward = time.perf_counter()
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"made {made - started:.0f} s, forward {forward - made:.0f} s, backward {backward - forward:.0f} s, "
        f"peak {peak_gib:.1f} GiB"
    )
    assert (len(factors), sum(p.numel() for p in factors.values())) == (514, 259_474_432)
    assert restored.shape == picture.shape
    for name, factor in factors.items():
        assert factor.grad is not None, name
        assert factor.grad.isfinite().all(), name
        assert factor.grad.any(), name
