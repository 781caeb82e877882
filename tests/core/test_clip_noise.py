"""A clip through a diffusion engine (SeeSR as a tiny random model, of the golden set): a shot has one field of noise."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
import torch

from hypir_core.batch import clip_files
from hypir_core.batch.clip_files import ClipWriting
from hypir_core.batch.naming import Job
from hypir_core.batch.restoring import Writing, restore_file
from hypir_core.clip.walk import Clip
from hypir_core.engines.diffusion.noise import Noise
from hypir_core.metrics.flicker import flicker
from hypir_core.pipeline import restore
from hypir_core.runtime import Runtime
from tests.core.clip_maker import frames_of, make_clip
from tests.core.test_seesr_engine import PLAIN, engine, picture


@dataclass
class Drawn:
    """Every field of noise that was drawn, by its seed and its number in the run."""

    fields: dict[tuple[int, int], list[torch.Tensor]] = field(default_factory=lambda: defaultdict(list))

    def source(self, seed: int):
        fields = self.fields

        class Kept(Noise):
            def like(self, canvas, draw):
                drawn = super().like(canvas, draw)
                fields[seed, draw].extend(drawn.clone().unbind())
                return drawn

        return Kept(seed)


@pytest.fixture(scope="module")
def seesr():
    return engine(steps=2, sampler="ddpm")


def noisy(count: int, amount: float = 0.03) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    still = picture()
    return [(still + amount * torch.randn(still.shape, generator=draw)).clamp(0, 1) for _ in range(count)]


def test_all_frames_of_a_clip_get_the_same_noise_from_the_file_on(seesr, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_files, "PART_FRAMES", 2)
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    shots = [picture(), picture().flip(-1) * 0.6]
    frames = [shots[i >= 3][0].movedim(0, -1).mul(255).byte().numpy() for i in range(5)]
    make_clip(source, frames, codec="ffv1", pixels="yuv444p")
    drawn = Drawn()
    writing = Writing(clip=ClipWriting(codec="ffv1"))
    watched = replace(seesr, noise=drawn.source)
    report = restore_file(watched, Job(source, out), PLAIN, Runtime(), writing=writing)
    assert "5 frames, 2 shots" in report.stages[0].tiles
    assert len(drawn.fields) >= 2  # the start, and at least one move
    for (seed, _draw), fields in drawn.fields.items():
        assert seed == PLAIN.seed
        assert len(fields) == 5
        assert all(torch.equal(one, fields[0]) for one in fields)
    made = frames_of(out)
    assert all((one == made[0]).all() for one in made[:3])  # so a still shot is as still as it was
    assert all((one == made[3]).all() for one in made[3:])
    assert (made[0] != made[3]).any()


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_other_noise_for_every_frame_would_flicker(seesr, at_a_time):
    """What a clip restored as single pictures, each with its seed, does to a shot that does not move at all."""
    still = [picture()] * 4

    def some(of, frames):
        return restore(of, frames, PLAIN, Runtime()).image_01

    as_pictures = [
        restore(seesr, frame, replace(PLAIN, seed=i), Runtime()).image_01 for i, frame in enumerate(still)
    ]
    as_clip = list(Clip(seesr, steady=0).restored(still, some, at_a_time=at_a_time))
    before = flicker(zip(still, as_pictures, strict=True))
    after = flicker(zip(still, as_clip, strict=True))
    assert before.given == after.given == 0
    assert before.restored > 0.01
    assert after.restored < (1e-7 if at_a_time == 1 else 1e-5)


def test_a_noisy_still_shot_is_no_less_still_than_it_was(seesr):
    """Before: pictures with their own seeds; after: one noise, and the residual blended where nothing moves."""
    clip = noisy(5)

    def some(of, frames):
        return restore(of, frames, PLAIN, Runtime()).image_01

    def measured(made):
        return flicker(zip(clip, made, strict=True)).restored_ratio

    pictures = measured(
        [restore(seesr, frame, replace(PLAIN, seed=i), Runtime()).image_01 for i, frame in enumerate(clip)]
    )
    one_noise = measured(Clip(seesr, steady=0).restored(clip, some))
    steadied = measured(Clip(seesr).restored(clip, some))
    assert one_noise < pictures
    assert steadied < pictures
    assert max(one_noise, steadied) <= 1
