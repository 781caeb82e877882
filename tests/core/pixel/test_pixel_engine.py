"""The engine of pixels, with networks whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hypir_core import Request, Runtime, TileWish, restore
from hypir_core.components import create_scheduler
from hypir_core.diffusion.samplers import SAMPLERS
from hypir_core.diffusion.schedule import a_bars64
from hypir_core.engines.feed_forward.options import Result
from hypir_core.engines.pixel.microscope import shrunken_psf
from hypir_core.engines.pixel.options import StepTimes
from hypir_core.errors import ConfigError, ShapeError
from hypir_core.image.ranges import RangeConfig, RangeKind
from hypir_core.models.architectures import build_architecture
from hypir_core.physics.choices import Rule, Term
from hypir_core.physics.operator import PsfOperator
from hypir_core.physics.psf import gaussian_psf
from hypir_core.tiling.run import run_stage
from hypir_core.weights.prediction import Prediction
from tests.core.pixel.pixel_networks import Known, Local, Same, engine, scene, spec, written

CURVE = a_bars64(create_scheduler("cosine", num_timesteps=100).as_schedule())
TILES = Request(tile=TileWish(tile_px=32, overlap_px=8), seed=3)
WHOLE = Request(tile=TileWish(tile_px=4096, overlap_px=0), seed=3)


def run(of, picture_01, request=WHOLE, **runtime):
    return restore(of, picture_01, request, Runtime(**runtime))


def noisy(light, seed: int = 0):
    return written(torch.poisson(light, generator=torch.Generator().manual_seed(seed)))


def chi_squared(of, measured_01, result_01) -> float:
    rows = slice(0, measured_01.shape[-2])
    return of.explained(result_01, measured_01, rows).figures()["chi_squared"]


@pytest.mark.parametrize("solver", SAMPLERS.names())
@pytest.mark.parametrize("kind", list(Prediction))
def test_a_perfect_network_gives_the_picture_back(solver, kind):
    picture = written(scene(9, 21))
    got = run(engine(Known(kind, CURVE), spec(prediction=kind), solver=solver, steps=7), picture, TILES)
    torch.testing.assert_close(got.image_01, picture, atol=2e-6, rtol=0)
    assert len(got.report.stages) == 7


@pytest.mark.parametrize("times", list(StepTimes))
@pytest.mark.parametrize("cascade", [(), (2,), (4, 2)])
def test_and_so_it_does_from_coarse_to_fine(times, cascade):
    picture = written(scene(18, 37))
    of = engine(Known(Prediction.x0, CURVE), steps=6, step_times=times, cascade=cascade)
    got = run(of, picture, TILES)
    torch.testing.assert_close(
        got.image_01, picture, atol=5e-6, rtol=0
    )  # the frame is as bright as the middle


def test_what_every_level_made_can_be_looked_at():
    """A perfect network's coarse pictures are the sums of the fine one, in the unit of their own pixels."""
    picture = written(scene(16, 24))
    of = engine(Known(Prediction.x0, CURVE), steps=4, cascade=(4, 2))
    prepared = of.prepare(_plane(picture), (16, 24), WHOLE)
    plane = prepared.plane
    for stage in of.stages(prepared, WHOLE):
        plane, _ = run_stage(stage, plane, wish=WHOLE.tile, runtime=Runtime())
    fine = scene(16, 24) / 25 - 1  # 50 electrons are 1
    for level, stride in zip(prepared.condition[1:], (4, 2), strict=True):
        coarse = torch.nn.functional.avg_pool2d(fine, stride)
        assert level.coarse.made.shape == (1, 1, 16 // stride, 24 // stride)
        torch.testing.assert_close(level.coarse.made, coarse, atol=1e-4, rtol=0)
    assert prepared.condition[0].coarse is None
    torch.testing.assert_close(plane.data, picture, atol=5e-6, rtol=0)


def test_every_level_is_asked_at_its_own_size_and_light():
    seen = []

    class Seeing(Known):
        def forward(self, x, t=0.0):
            seen.append((tuple(x.shape[-2:]), float(10 ** (x[0, 2, 0, 0] + 1)), float(t)))
            return super().forward(x, t)

    run(engine(Seeing(Prediction.x0, CURVE), steps=6, cascade=(4, 2)), written(scene(16, 24)))
    sizes = [size for size, _, _ in seen]
    assert sizes == [(4, 6)] * 6 + [(8, 12)] * 3 + [(16, 24)] * 2
    lights = sorted({round(light) for _, light, _ in seen})
    assert lights == [50, 200, 800]  # electrons of a large pixel are the sum of the small ones'
    assert next(t for size, _, t in seen if size == (8, 12)) == 29  # .3 of the timesteps


@pytest.mark.parametrize("solver", ["ddpm", "dpmpp_2m"])
@pytest.mark.parametrize("rule", list(Rule))
def test_tiles_of_a_local_network_cannot_be_seen(solver, rule, tmp_path):
    """Guided through a lopsided point spread that is wider than the tiles' overlap: it works on the whole canvas."""
    import tifffile

    psf = torch.zeros(11, 11)
    psf[0, 0], psf[5, 5], psf[5, 6] = 1.0, 2.0, 1.0
    tifffile.imwrite(tmp_path / "psf.tif", psf.numpy())
    of = engine(Local(), steps=4, solver=solver, guidance="pkl", guidance_rule=rule, psf=tmp_path / "psf.tif")
    picture = noisy(scene(70, 90))
    tiled, whole = run(of, picture, TILES), run(of, picture)
    assert tiled.report.stages[0].redundancy > 1.3
    assert whole.report.stages[0].redundancy == 1
    torch.testing.assert_close(tiled.image_01, whole.image_01, atol=1e-5, rtol=0)


def test_tiles_of_a_unet_differ_by_the_blend_alone():
    """Its norms take means over all they see: a sample of the picture stands for it in every tile."""
    torch.manual_seed(0)
    options = {"channels": (8, 16), "layers": 1, "groups": 4, "in_channels": 3, "out_channels": 1, "fold": 2}
    net = build_architecture("unet", options, where="test").eval()
    of = engine(net, spec(prediction=Prediction.v), steps=3, guidance="pkl")
    picture = noisy(scene(256, 256))
    whole = run(of, picture).image_01
    tiled = run(of, picture, replace(TILES, tile=TileWish(tile_px=128, overlap_px=64))).image_01
    apart = (tiled - whole).square().mean().sqrt()
    assert apart < 0.02 * whole.std()


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_twenty_five_steps_in_tiles_of_a_quarter_of_a_side_are_those_of_the_whole(solver):
    """A plane of 2048² in tiles of 512, at an eighth of the size: what differs does not grow from step to step."""
    torch.manual_seed(0)
    options = {"channels": (8, 16), "layers": 1, "groups": 4, "in_channels": 3, "out_channels": 1, "fold": 2}
    net = build_architecture("unet", options, where="test").eval()
    picture = noisy(scene(256, 256))
    tiles = replace(TILES, tile=TileWish(tile_px=64, overlap_px=32))
    apart = []
    for steps in (5, 25):
        of = engine(net, spec(prediction=Prediction.v), steps=steps, solver=solver, guidance="pkl")
        whole, tiled = run(of, picture), run(of, picture, tiles)
        assert tiled.report.stages[0].redundancy > 1.3
        difference = (tiled.image_01 - whole.image_01).square().mean().sqrt()
        apart.append(float(difference / whole.image_01.std()))
    assert apart[1] < 0.03
    assert apart[1] < 1.5 * apart[0] < 0.1


def test_memory_is_that_of_a_tile():
    largest = 0

    class Measured(Local):
        def forward(self, x, t=0.0):
            nonlocal largest
            largest = max(largest, x.shape[0] * x.shape[-1] * x.shape[-2])
            return super().forward(x, t)

    of = engine(Measured(), steps=2, samples=2)
    picture = noisy(scene(200, 300))
    got = run(of, picture, Request(seed=3), memory_budget_bytes=64 * 64 * 24)
    assert largest <= 72 * 72  # the smallest tile, one sample at a time
    torch.testing.assert_close(got.image_01, run(of, picture).image_01, atol=1e-5, rtol=0)


def test_noise_is_the_seed_s_and_the_whole_plane_s():
    of = engine(Same(), steps=5, solver="ddpm")
    picture = written(scene(40, 40))
    one, again, other = (run(of, picture, replace(TILES, seed=seed)).image_01 for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert (one - other).abs().mean() > 0.001
    noise = of.prepare(_plane(picture), (40, 40), TILES).plane.data
    assert noise.std() == pytest.approx(1, abs=0.05)


def _plane(picture):
    from hypir_core.tiling.geometry import Plane

    return Plane(picture)


def test_guidance_explains_the_measurement_better():
    """The network knows nothing of the measurement: guidance alone holds the result to it."""
    light = scene(48, 48)
    picture = noisy(light)
    of = {
        name: engine(Local(), steps=10, prior=name is not None, guidance=name, guidance_repeats=3)
        for name in (None, *Term)
    }
    chi = {name: chi_squared(each, picture, run(each, picture).image_01) for name, each in of.items()}
    assert chi[None] > 5
    assert chi[Term.pkl] < 0.5 * chi[None]
    truth = chi_squared(of[None], picture, written(light))
    assert truth == pytest.approx(1, abs=0.1)


def test_guidance_begins_late_where_the_network_sees_the_measurement():
    """Of 20 steps the last four, of two the last; where nothing else holds the result to the measurement, all."""
    picture = noisy(scene(16, 16))

    def moved(steps: int, **options) -> list[bool]:
        of = engine(Local(1 if options.pop("blind", False) else 3), **options, steps=steps, guidance="pkl")
        prepared = of.prepare(_plane(picture), (16, 16), WHOLE)
        (level,) = prepared.condition
        (edit,) = level.engine.edits(prepared, WHOLE)
        x0 = torch.zeros(1, 1, *prepared.plane.sizes_px)
        return [not torch.equal(edit(x0, step), x0) for step in of.steps[0]]

    assert moved(20) == [False] * 16 + [True] * 4
    assert moved(2) == [False, True]
    assert moved(1) == [True]
    assert moved(4, prior=True) == [True] * 4
    assert moved(4, of=spec(conditional=False), blind=True) == [True] * 4
    assert moved(4, guidance_begins=0.5) == [False, False, True, True]
    assert engine(Local(), guidance="pkl").spec.settings["guidance_begins"] == 0.8


def test_guidance_counts_electrons_whatever_the_file():
    """The same light through two cameras gives the same light."""
    light = scene(24, 32)
    electrons = torch.poisson(light, generator=torch.Generator().manual_seed(1))
    results = []
    for offset, gain, white in ((100.0, 200.0, 65535.0), (10.0, 3.5, 255.0)):
        of = engine(
            Local(), steps=4, guidance="pkl", offset_adu=offset, gain=gain, white_adu=white, psf_sigma_px=1.0
        )
        got = run(of, (offset + gain * electrons) / white).image_01
        results.append((got * white - offset) / gain)
    torch.testing.assert_close(results[0], results[1], atol=2e-3, rtol=1e-4)


def test_a_result_keeps_offset_and_background():
    """A perfect network of a measurement with a background: what comes out is as bright as what went in."""

    class Background(Known):
        def forward(self, x, t=0.0):
            _, even, light = x.double().chunk(3, 1)
            peak = 10 ** (light + 1)
            electrons = ((even + 1) / 2).square() * (peak + 4 + 3 / 8) - 3 / 8 - 4
            return (2 * electrons / peak - 1).float()

    picture = written(scene(16, 16) + 4)
    of = engine(Background(Prediction.x0, CURVE), steps=3, background_e=4.0)
    torch.testing.assert_close(run(of, picture).image_01, picture, atol=2e-6, rtol=0)
    assert chi_squared(of, picture, picture) < 1e-3


def test_one_step_begins_with_the_measurement():
    of = engine(Same(), spec(one_step_t=20))
    picture = noisy(scene(20, 28))
    got = run(of, picture, TILES)
    torch.testing.assert_close(got.image_01, picture, atol=1e-6, rtol=0)
    assert [stage.name for stage in got.report.stages] == ["step 1/1"]
    sharpened = engine(Same(), spec(one_step_t=20), guidance="pkl", psf_sigma_px=1.0)
    assert chi_squared(sharpened, picture, run(sharpened, picture).image_01) < chi_squared(
        sharpened, picture, picture
    )


def test_samples_have_a_mean_and_a_deviation():
    picture = noisy(scene(24, 24))
    options = {"steps": 3, "solver": "ddpm", "guidance": "pkl"}
    drawn = [engine(Local(), **options, samples=n) for n in (2, 3)]
    mean = run(drawn[1], picture, TILES).image_01
    deviation = run(engine(Local(), **options, samples=3, result=Result.deviation), picture, TILES).image_01
    both = run(engine(Local(), **options, samples=3, result=Result.both), picture, TILES).image_01
    assert torch.equal(both, torch.cat([mean, deviation], 1))
    single = run(engine(Local(), **options), picture, TILES).image_01
    two = run(drawn[0], picture, TILES).image_01
    third = 3 * mean - 2 * two  # the first samples are the same, however many are drawn
    second = 2 * two - single
    by_hand = torch.stack([single, second, third]).std(0, correction=0)
    torch.testing.assert_close(deviation, by_hand, atol=1e-6, rtol=0)
    assert deviation.min() > 0


def test_the_unit_of_light_is_one_for_the_whole_picture():
    fitted = RangeConfig(kind=RangeKind.percentile, per_channel=False, symmetric=True)
    told = []

    class Told(Local):
        def forward(self, x, t=0.0):
            told.append(x[:, 2].unique().tolist())
            return super().forward(x, t)

    light = scene(64, 64)
    light[..., :32, :] /= 10
    of = engine(Told(), spec(value_range=fitted), steps=1)
    run(of, written(light), TILES)
    expected = float(torch.log10(light.flatten().quantile(0.999)) - 1)
    assert told[0][0] == pytest.approx(expected, abs=1e-3)
    assert all(one == told[0] for one in told)
    stack = replace(of, light=engine(Told(), peak_e=77.0)._units(written(light))[0])
    told.clear()
    run(stack, written(light), WHOLE)
    assert told[0][0] == pytest.approx(float(torch.tensor(7.7).log10()), abs=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_point_spread_of_large_pixels_adds_the_light_of_small_ones(factor):
    psf = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)).double()
    coarse = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    small = PsfOperator(psf, boundary="zero")
    large = PsfOperator(shrunken_psf(small.psf, factor), boundary="zero")
    spread = coarse.repeat_interleave(factor, 2).repeat_interleave(factor, 3) / factor**2
    summed = torch.nn.functional.avg_pool2d(small.A(spread), factor) * factor**2
    torch.testing.assert_close(large.A(coarse), summed, atol=1e-12, rtol=0)
    assert float(large.psf.sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ({}, {"steps": 101}, "steps must lie in 1 … 100"),
        ({}, {"eta": 0.5, "solver": "dpmpp_2m"}, "takes no eta"),
        ({}, {"eta": 1.5}, "eta must be from 0 to 1"),
        ({}, {"gain": 0.0}, "gain must be above 0"),
        ({}, {"gain": -2.0}, "gain must be above 0"),
        ({}, {"offset_adu": 70000.0}, "offset_adu must lie in 0 … 65535"),
        ({}, {"bits": 12, "offset_adu": 5000.0}, "offset_adu must lie in 0 … 4095"),
        ({}, {"prior": True}, "prior without guidance"),
        ({}, {"samples": 4, "result": "sample"}, "make a mean or a deviation"),
        ({}, {"result": "deviation"}, "samples must be 2 or more"),
        ({}, {"cascade": (2, 4)}, "falling powers of two"),
        ({}, {"cascade": (3,)}, "falling powers of two"),
        ({}, {"psf_sigma_px": 1.0, "psf": "x.tif"}, "exclude each other"),
        ({}, {"peak_e": 0.0}, "peak_e must be above 0"),
        ({"one_step_t": 5}, {"steps": 3}, "restore in one step"),
        ({"one_step_t": 5}, {"cascade": (2,)}, "restore in one step"),
        ({"one_step_t": 5}, {"samples": 2}, "draw nothing"),
        ({"conditional": False}, {}, "do not see the measurement"),
        ({"camera": {"gain": 0.0}}, {}, "gain must be above 0"),
        ({"camera": {"gian": 1.0}}, {}, "did you mean 'gain'"),
    ],
)
def test_what_cannot_be_is_refused_before_a_picture_is_read(more, options, said):
    from hypir_core.errors import HypirError

    with pytest.raises(HypirError, match=said):
        engine(Local(), spec(**more), **options)


def test_a_network_without_a_condition_is_guided():
    of = engine(Local(1), spec(conditional=False), steps=3, guidance="l2", guidance_strength=0.5)
    assert run(of, noisy(scene(20, 20)), TILES).image_01.isfinite().all()


def test_a_picture_that_does_not_fit_is_refused():
    of = engine(Local(), steps=2)
    with pytest.raises(ConfigError, match="keeps the size"):
        run(of, written(scene(16, 16)), Request(target=_doubled()))
    with pytest.raises(ShapeError, match="takes 1 channel, the picture has 3"):
        run(of, torch.rand(1, 3, 8, 8))
    wide = engine(Local(), steps=2, guidance="pkl", psf_sigma_px=3.0)
    with pytest.raises(ShapeError, match="light spreads 12 px"):
        run(wide, written(scene(10, 10)))
    edge = engine(Local(), steps=2, guidance="pkl", psf_sigma_px=3.0, boundary="edge")
    assert run(edge, written(scene(1, 10))).image_01.shape == (1, 1, 1, 10)


def _doubled():
    from hypir_core import TargetSize

    return TargetSize(scale=2)


@pytest.mark.parametrize("value", [0.0, 100 / 65535, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["white", "percentile"])
def test_constant_fields_are_numbers_and_not_taken_for_wrong(value, kind):
    fitted = RangeConfig(kind=RangeKind.percentile, per_channel=False, symmetric=True)
    of = engine(Local(), spec(value_range=fitted) if kind == "percentile" else None, steps=3, guidance="pkl")
    got = run(of, torch.full((1, 1, 40, 40), value), TILES)
    assert got.image_01.isfinite().all()
    assert not any("constant" in note for note in got.report.notes)


def test_notes_say_what_is_strange_about_a_measurement():
    of = engine(Local(), spec(peaks_e=(2.5, 79.0)), steps=1, bits=12, white_adu=4095.0, gain=40.0)
    picture = torch.full((1, 1, 20, 20), 0.5)
    assert run(of, picture).report.notes == ()
    picture[..., :2, :] = 1.0
    picture[..., 2, :] = 10 / 4095
    notes = run(of, picture).report.notes
    assert any(note.startswith("10.00% of the pixels are saturated") for note in notes)
    assert any(note.startswith("5.00% of the pixels are darker than the camera's offset") for note in notes)
    bright = engine(Local(), spec(peaks_e=(2.5, 20.0)), steps=1)
    (note,) = run(bright, written(scene(8, 8))).report.notes
    assert "learned from 2.5 to 20" in note
    far = engine(Local(), steps=1, gain=1.0)
    assert any("check the units of the file" in note for note in run(far, written(scene(8, 8))).report.notes)


def test_saturated_pixels_do_not_guide():
    """A pixel that the camera cut says nothing: the estimate stays there, and is drawn up where it is not cut."""

    class Flat(Same):
        def forward(self, x, t=0.0):
            return torch.full_like(x[:, :1], -0.2)  # 20 electrons

    picture = written(torch.full((1, 1, 16, 16), 20.0))
    picture[..., 8, 8] = 1.0
    cut, free = (
        run(engine(Flat(), steps=1, guidance="pkl", bits=bits), picture).image_01 for bits in (16, 17)
    )
    torch.testing.assert_close(cut, written(torch.full((1, 1, 16, 16), 20.0)), atol=1e-6, rtol=0)
    assert free[0, 0, 8, 8] > 0.5


def test_a_point_spread_off_its_centre_is_noted(tmp_path):
    import tifffile

    psf = gaussian_psf((1.0, 1.0))
    tifffile.imwrite(tmp_path / "centred.tif", psf.numpy())
    tifffile.imwrite(tmp_path / "shifted.tif", psf.roll(1, 1).numpy())
    assert engine(Local(), psf=tmp_path / "centred.tif").spec.notes == ()
    (note,) = engine(Local(), psf=tmp_path / "shifted.tif").spec.notes
    assert "off its centre by +0.00 and +1.00 px" in note
    tifffile.imwrite(tmp_path / "even.tif", np.ones((4, 4), np.float32))  # it has no middle cell
    (note,) = engine(Local(), psf=tmp_path / "even.tif").spec.notes
    assert "off its centre by -0.50 and -0.50 px" in note
    for bad, said in ((-psf, "no negative values"), (psf * 0, "sum of 0")):
        tifffile.imwrite(tmp_path / "bad.tif", bad.numpy())
        with pytest.raises(ConfigError, match=said):
            engine(Local(), psf=tmp_path / "bad.tif")
