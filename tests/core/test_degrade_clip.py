"""A clip is degraded by one draw, with noise of its own for every frame."""

from __future__ import annotations

import torch

from hypir_core.degrade import degrade, degrade_clip, load_recipe


def test_frames_share_all_but_the_noise():
    recipe = load_recipe("realesrgan")
    frame = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    noisy = 0
    for seed in range(6):

        def generator(seed=seed):
            return torch.Generator().manual_seed(seed)

        clip = list(degrade_clip(iter([frame] * 3), recipe, generator=generator()))
        alone = degrade(frame, recipe, generator=generator())
        assert torch.equal(clip[0].lq_01, alone.lq_01)
        assert clip[0].notes == alone.notes == clip[1].notes == clip[2].notes
        again = list(degrade_clip([frame] * 3, recipe, generator=generator()))
        assert all(torch.equal(a.lq_01, b.lq_01) for a, b in zip(clip, again, strict=True))
        noisy += not torch.equal(clip[0].lq_01, clip[1].lq_01)
        noisy += not torch.equal(clip[1].lq_01, clip[2].lq_01)
        drawn_anew = degrade(torch.cat([frame] * 3), recipe, generator=generator(), scale=1)
        assert len(set(drawn_anew.notes)) > 1  # what a batch gets otherwise
    assert noisy >= 8


def test_frames_are_made_one_by_one():
    read = []

    def frames():
        for i in range(3):
            read.append(i)
            yield torch.full((1, 3, 16, 16), 0.5)

    clip = degrade_clip(frames(), load_recipe("light"), generator=torch.Generator().manual_seed(0))
    next(clip)
    assert read == [0]
