"""Both results of a network that draws: mean and deviation in one run."""

from __future__ import annotations

import torch

from hypir_core.engines.feed_forward.drawing import Drawing
from hypir_core.engines.feed_forward.options import Result


def test_both_are_the_mean_and_behind_it_the_deviation():
    latents = torch.randn(2, 3 * 4, 1, 1, generator=torch.Generator().manual_seed(0))

    def make(z):
        return z.sum(1)[:, None, None, None].expand(2, 3, 5, 6) * torch.arange(1.0, 4.0).reshape(1, 3, 1, 1)

    asked = {
        result: Drawing(noise_dim=4, result=result, samples=3).run(make, latents)
        for result in (Result.mean, Result.deviation, Result.both)
    }
    drawn = torch.stack([make(z) for z in latents.flatten(1).split(4, 1)])
    torch.testing.assert_close(asked[Result.both][:, :3], drawn.mean(0))
    torch.testing.assert_close(asked[Result.both][:, 3:], drawn.std(0, correction=0))
    assert torch.equal(asked[Result.both], torch.cat([asked[Result.mean], asked[Result.deviation]], 1))
