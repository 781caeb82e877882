"""The one diffusion engine, with a denoiser whose answers are known (`toy_diffusion`)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hypir_core import Request, Runtime, TargetSize, TileWish, restore
from hypir_core.diffusion.samplers import SAMPLERS
from hypir_core.diffusion.samplers.base import Step
from hypir_core.engines.diffusion.noise import Noise
from hypir_core.engines.diffusion.parts import Codec, Condition, Placing
from hypir_core.engines.diffusion.sizing import Placed
from hypir_core.engines.diffusion.starts import as_is, from_noise, noised
from hypir_core.tiling.geometry import Plane
from hypir_core.weights.spec import Prediction
from tests.core.toy_diffusion import MIDDLES, SPREAD, WEIGHTS, posterior_mean, toy_engine

PICTURE = torch.rand(1, 3, 72, 100, generator=torch.Generator().manual_seed(5))
SAME = Request(target=TargetSize(scale=1), seed=3)
TILES = Request(target=TargetSize(scale=1), seed=3, tile=TileWish(tile_px=24, overlap_px=8))


def whole(request: Request) -> Request:
    return replace(request, tile=TileWish(tile_px=512, overlap_px=0))


def cdf(x: Tensor, a_bar: float) -> Tensor:
    """The distribution of x_t, one pixel: a mixture of normal ones."""
    width = (a_bar * SPREAD**2 + 1 - a_bar) ** 0.5
    middles = torch.tensor(MIDDLES, dtype=x.dtype) * a_bar**0.5
    return (torch.special.ndtr((x[..., None] - middles) / width) * torch.tensor(WEIGHTS, dtype=x.dtype)).sum(
        -1
    )


def where_the_flow_leads(x: Tensor, a_bar: float, to: float) -> Tensor:
    """Follow the probability flow from ā to another: in one dimension it keeps the order, so quantile meets quantile."""
    wanted = cdf(x.double(), a_bar)
    low, high = torch.full_like(wanted, -3.0), torch.full_like(wanted, 3.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = cdf(middle, to) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@pytest.mark.parametrize("sampler", SAMPLERS.names())
@pytest.mark.parametrize("kind", list(Prediction))
def test_tiled_equals_untiled(sampler, kind):
    engine = toy_engine(steps=6, sampler=sampler, kind=kind)
    tiled = restore(engine, PICTURE, TILES, Runtime())
    untiled = restore(engine, PICTURE, whole(SAME), Runtime())
    assert tiled.report.stages[0].redundancy > 1.3
    assert untiled.report.stages[0].redundancy == 1
    torch.testing.assert_close(tiled.image_01, untiled.image_01, atol=2e-5, rtol=0)


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_a_batch_equals_its_pictures(sampler):
    engine = toy_engine(steps=4, sampler=sampler)
    pair = torch.cat([PICTURE, PICTURE.flip(-1)])
    for budget in (None, 1):  # together, and one image at a time
        together = restore(engine, pair, TILES, Runtime(memory_budget_bytes=budget)).image_01
        for one, picture in zip(together, pair, strict=True):
            alone = restore(engine, picture[None], TILES, Runtime()).image_01
            torch.testing.assert_close(one[None], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("euler", 1), ("dpmpp_2m", 2)])
def test_more_steps_come_nearer_to_the_known_answer(sampler, order):
    # A coarse picture of the size of the canvas, so that nothing is mirrored or resized.
    picture = PICTURE[..., :64, :64]
    errors = []
    for steps in (80, 160, 320):
        engine = toy_engine(steps=steps, sampler=sampler)
        start = engine.prepare(Plane(picture), (64, 64), SAME).plane
        last = engine.steps[-1].a_bar
        flowed = where_the_flow_leads(start.data[:, :3], engine.steps[0].a_bar, last)
        expected = posterior_mean(flowed, last)
        got = restore(engine, picture, SAME, Runtime()).image_01 * 2 - 1
        errors.append(float((got - expected.clamp(-1, 1)).abs().mean()))
    assert errors[2] < (2e-3 if order == 1 else 4e-4)
    assert errors[0] / errors[2] > (3.5 if order == 1 else 8)  # 4 and 16 for small steps


def test_the_result_comes_from_the_mixture():
    result = restore(toy_engine(steps=50), PICTURE, SAME, Runtime()).image_01 * 2 - 1
    nearest = (result[..., None] - torch.tensor(MIDDLES)).abs().min(-1)
    assert (nearest.values < 4 * SPREAD).float().mean() > 0.95
    shares = torch.bincount(nearest.indices.flatten(), minlength=3) / result.numel()
    torch.testing.assert_close(shares, torch.tensor(WEIGHTS), atol=0.02, rtol=0)


def test_an_edit_sees_the_whole_canvas_between_prediction_and_step():
    seen: list[tuple[int, tuple[int, ...]]] = []

    class KeepTheMean:
        """Shifts the estimate so that the mean of the whole canvas is what was measured."""

        def __call__(self, x0: Tensor, step: Step) -> Tensor:
            seen.append((step.index, tuple(x0.shape)))
            return x0 + 0.25 - x0.mean((2, 3), keepdim=True)

    engine = toy_engine(steps=5, edits=lambda _prepared, _request: (KeepTheMean(),))
    tiled = restore(engine, PICTURE, TILES, Runtime()).image_01
    assert seen == [(i, (1, 3, 72, 100)) for i in range(5)]
    untiled = restore(engine, PICTURE, whole(SAME), Runtime()).image_01
    torch.testing.assert_close(tiled, untiled, atol=2e-5, rtol=0)
    inside = restore(engine, PICTURE, SAME, Runtime()).image_01 * 2 - 1
    torch.testing.assert_close(inside.mean((2, 3)), torch.full((1, 3), 0.25), atol=0.02, rtol=0)
    plain = restore(toy_engine(steps=5), PICTURE, TILES, Runtime()).image_01
    assert (plain - tiled).abs().mean() > 0.005


def test_an_edit_may_take_gradients():
    class Towards:
        def __call__(self, x0: Tensor, step: Step) -> Tensor:
            with torch.enable_grad():
                x = x0.detach().requires_grad_()
                (slope,) = torch.autograd.grad((x - 0.5).square().sum() / 2, x)
            return x0 - slope

    engine = toy_engine(steps=2, edits=lambda _prepared, _request: (Towards(),))
    result = restore(engine, PICTURE, TILES, Runtime()).image_01
    torch.testing.assert_close(result, torch.full_like(result, 0.75))


def test_the_same_seed_is_the_same_picture_and_another_is_not():
    engine = toy_engine(steps=3, sampler="ddpm")
    first, second = (restore(engine, PICTURE, TILES, Runtime()).image_01 for _ in range(2))
    assert torch.equal(first, second)
    other = restore(engine, PICTURE, replace(TILES, seed=4), Runtime()).image_01
    assert (first - other).abs().mean() > 0.05


def test_noise_is_standard_and_every_draw_another():
    like = torch.zeros(2, 3, 64, 64)
    draws = [Noise(7).like(like, draw) for draw in range(4)]
    for noise in draws:
        assert abs(float(noise.mean())) < 0.03
        assert abs(float(noise.std()) - 1) < 0.03
    for i, noise in enumerate(draws):
        for other in draws[i + 1 :]:
            assert abs(float((noise * other).mean())) < 0.03


def test_where_a_run_begins():
    canvas, step = torch.full((1, 3, 64, 64), 0.5), Step(index=0, of=1, t=200, a_bar=0.36, a_bar_next=1.0)
    assert as_is(canvas, step, Noise(0)) is canvas
    drawn = Noise(0).like(canvas, 0)
    torch.testing.assert_close(from_noise(canvas, step, Noise(0)), 0.8 * drawn)
    torch.testing.assert_close(noised(canvas, step, Noise(0)), 0.6 * canvas + 0.8 * drawn)


def test_guides_of_the_condition_are_cropped_with_the_tile():
    """A control picture beside every tile: the denoiser answers with it."""
    guide = PICTURE * 2 - 1
    engine = toy_engine(steps=2, kind=Prediction.x0)
    engine = replace(
        engine,
        denoiser=replace(engine.denoiser, predict=lambda x, _step, _condition, guides: guides["control"]),
        conditioner=lambda _image, placed, _request: Condition(
            guides={"control": lambda: Plane(placed.plane.data * 2 - 1)}
        ),
    )
    result = restore(engine, PICTURE, TILES, Runtime()).image_01
    torch.testing.assert_close(result, guide / 2 + 0.5)


def test_the_condition_is_made_once_and_may_look_at_the_picture():
    looked = []

    def tag(image: Tensor, _placed: Placed, request: Request) -> Condition:
        looked.append((float(image.mean()), request.prompt))
        return Condition(value="bright", notes=("tagged: bright",))

    engine = replace(toy_engine(steps=3), conditioner=tag)
    report = restore(engine, PICTURE, replace(TILES, prompt="a cat"), Runtime()).report
    assert looked == [(pytest.approx(float(PICTURE.mean())), "a cat")]
    assert "tagged: bright" in report.notes


def test_a_codec_around_it_changes_nothing_but_the_units():
    """A codec that halves the sides: the picture is the mean of 2×2 pixels, given back twice as large."""
    codec = Codec(
        encode=lambda x: torch.nn.functional.avg_pool2d(x, 2) * 2 - 1,
        decode=lambda z: torch.nn.functional.interpolate(z, scale_factor=2) / 2 + 0.5,
        channels=3,
        cell_px=2,
        scale=1.0,
        encoding=Placing(bytes_per_px=10.0),
        decoding=Placing(bytes_per_px=10.0),
    )
    engine = replace(toy_engine(steps=4), codec=codec)
    tiled, untiled = (restore(engine, PICTURE, wish, Runtime()) for wish in (TILES, whole(SAME)))
    names = [stage.name for stage in tiled.report.stages]
    assert names == ["encode", "step 1/4", "step 2/4", "step 3/4", "step 4/4", "decode"]
    torch.testing.assert_close(tiled.image_01, untiled.image_01, atol=2e-5, rtol=0)


def test_progress_counts_the_whole_run():
    seen = []
    restore(toy_engine(steps=4), PICTURE, TILES, Runtime(progress=lambda tick: seen.append(tick.whole)))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)
    assert 0 < seen[0] <= 0.25
