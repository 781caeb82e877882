"""A clip: shots are found, a shot has one sample, flicker is kept down, few frames are in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from hypir_core.clip.one_sample import OneSample
from hypir_core.clip.shots import CutFinder, runs_of
from hypir_core.clip.steady import Steady
from hypir_core.clip.walk import Clip
from hypir_core.errors import ConfigError
from hypir_core.pipeline import restore
from hypir_core.request import Request
from hypir_core.runtime import Runtime
from hypir_core.tiling.plan import TileWish
from hypir_core.tiling.sample import SampleSize, Sampling
from tests.core.toy_diffusion import toy_engine


def scene(seed: int, side: int = 96) -> torch.Tensor:
    """Return a smooth random picture, [1 3 side side] in [0,1]."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=draw)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=True)


def noisy(frame: torch.Tensor, seed: int, amount: float = 0.04) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (frame + amount * torch.randn(frame.shape, generator=draw)).clamp(0, 1)


def flicker(frames: list[torch.Tensor]) -> float:
    return float(torch.stack([(a - b).abs().mean() for a, b in pairwise(frames)]).mean())


def test_cuts_are_found_and_nothing_else_is_one():
    first, second = scene(1, 160), scene(2, 160)
    pan = [first[..., :96, 6 * i : 6 * i + 96] for i in range(8)]
    flash = (pan[-1] + 0.3).clamp(0, 1)
    fade = [pan[-1] * (1 - 0.12 * i) for i in range(6)]
    clip = [*pan, flash, *fade, *(second[..., :96, :96] for _ in range(3)), first[..., :96, :96]]
    finder = CutFinder()
    noise = (noisy(frame, i) for i, frame in enumerate(clip))
    cuts = [i for i, frame in enumerate(noise) if finder.is_cut(frame)]
    assert cuts == [0, len(pan) + 1 + len(fade), len(clip) - 1]


def test_black_frames_are_no_cuts_and_leaving_them_is_one():
    finder = CutFinder()
    black = [noisy(torch.zeros(1, 3, 64, 64), i, 0.01) for i in range(4)]
    assert [finder.is_cut(frame) for frame in (*black, scene(3), scene(3))] == [
        True,
        *[False] * 3,
        True,
        False,
    ]


def test_frames_come_together_but_never_over_a_cut():
    read = []

    def frames():
        for i in range(7):
            read.append(i)
            yield scene(1 if i < 5 else 2)

    some = runs_of(frames(), at_most=3)
    begins, held = next(some)
    assert (begins, len(held)) == (True, 3)
    assert read == [0, 1, 2, 3]  # one ahead, to know that the run is over
    assert [(begins, len(held)) for begins, held in some] == [(False, 2), (True, 2)]


@dataclass(frozen=True, eq=False)
class Looking:
    """An engine of one stage whose picture is how often it looked at a sample."""

    looked: list[int]
    seen: list[float]
    """As the layers of a network hold it."""

    @property
    def spec(self):
        return toy_engine().spec

    def prepare(self, image, size_px, request):
        return toy_engine().prepare(image, size_px, request)

    def stages(self, prepared, request):
        seen = self.seen

        def look(crops, guides, sample):
            self.looked.append(sample.shares.shape[1])
            shown = 0.2 * len(self.looked)

            class Within:
                def __enter__(self):
                    seen.append(shown)

                def __exit__(self, *_):
                    seen.clear()

            return Within

        stage = toy_engine(steps=1).stages(prepared, request)[0]
        return [
            replace(
                stage,
                run=lambda tile, guides: tile * 0 + seen[-1],
                after=None,
                sampling=Sampling(look=look, size=SampleSize(crop_px=16, of_tile=1.0)),
            )
        ]


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_a_shot_has_one_sample(at_a_time):
    engine = Looking([], [])

    def some(of, frames):
        return restore(of, frames, Request(tile=TileWish(tile_px=64)), Runtime()).image_01

    clip = [scene(1) * 0.5, scene(1) * 0.5 + 0.2, scene(1), scene(2)]
    made = list(Clip(engine, steady=0).restored(clip, some, at_a_time=at_a_time))
    assert engine.looked == [1, 1]  # two shots, and one image each time
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
    assert not torch.equal(made[0], made[3])
    assert OneSample(engine).spec == engine.spec


def test_a_still_noisy_clip_flickers_less_than_its_input():
    still = [noisy(scene(4), i) for i in range(8)]
    sharpened = [(frame + 0.35 * (frame - scene(4))).clamp(0, 1) for frame in still]  # flickers ×1.35
    steady = Steady(0.8)
    calm = [steady(frame, made) for frame, made in zip(still, sharpened, strict=True)]
    assert flicker(sharpened) / flicker(still) == pytest.approx(1.35, abs=0.05)
    assert flicker(calm) / flicker(still) < 0.5
    assert (calm[-1] - scene(4)).abs().mean() < (sharpened[-1] - scene(4)).abs().mean()


def test_what_moves_leaves_no_ghost():
    def square(at):
        frame = torch.full((1, 3, 96, 96), 0.3)
        frame[..., 32:64, at : at + 32] = 0.8
        return frame

    steady = Steady(0.95)
    for at in range(0, 48, 8):
        now = square(at)
        out = steady(now, (now * 1.1).clamp(0, 1))
        assert (out - (now * 1.1).clamp(0, 1)).abs().max() < 0.02, at


def test_the_residual_is_blended_where_nothing_moves_and_only_there():
    """Left half still, right half another texture in every frame: the restorer's whims settle on the left alone."""
    still, steady = scene(7, 64), Steady(0.9)
    whims = [0.06 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(12)]
    made, calm = [], []
    for i, whim in enumerate(whims):
        frame = still.clone()
        frame[..., 32:] = scene(100 + i, 64)[..., 32:]
        made.append((frame + whim).clamp(0, 1))
        calm.append(steady(frame, made[-1]))
    left, right = slice(0, 24), slice(44, 64)  # a square beside one that moved holds a part of what moved
    assert flicker([f[..., left] for f in calm[4:]]) < 0.25 * flicker([f[..., left] for f in made[4:]])
    for a, b in zip(calm, made, strict=True):
        assert (a[..., right] - b[..., right]).abs().mean() < 0.1 * whims[0].abs().mean()


def test_no_steadiness_changes_nothing_and_too_much_is_refused():
    frame = scene(5)
    assert Steady(0.0)(frame, frame) is frame
    with pytest.raises(ConfigError, match=r"steady: expected 0 to 0\.95, got 1"):
        Steady(1.0)


def test_light_and_motion_of_the_input_go_on():
    """The difference is kept, not the picture: a fade of the input is a fade of the result, without a lag."""
    steady = Steady(0.9)
    for light in (1.0, 0.98, 0.96, 0.94):
        frame = scene(6) * light
        out = steady(frame, frame)
    assert (out - frame).abs().max() < 0.02
