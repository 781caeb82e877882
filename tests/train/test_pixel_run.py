"""Diffusion of pixels in the one loop: resume, gradients, what is measured on the way, and what is exported."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hypir_core.components import SAMPLER_REGISTRY
from hypir_core.diffusion.prediction import add_noise
from hypir_core.engines.pixel.network import read_pixel
from hypir_core.errors import ConfigError
from hypir_core.physics.camera import Camera
from hypir_core.physics.condition import condition_of, light_range
from hypir_core.weights.pixel_spec import LIGHT
from hypir_core.weights.prediction import Prediction
from tests.train.interrupted import train_until
from train.config import TrainConfig, load_config
from train.config.physics import PhysicsConfig
from train.data.batch import Batch
from train.data.measured import Measured
from train.data.seeds import generator_for
from train.data.synthetic import Synthetic
from train.generators import build_generator
from train.generators.light import light_of
from train.run import recipe
from train.run.best import measure_average
from train.run.building import build
from train.run.recipe import train
from train.run.start_message import unusual
from train.tasks.denoising import DenoisingTask, guessed

pytest.importorskip("diffusers", reason="the network is the one of diffusers")
pytestmark = pytest.mark.tiny

TINY = (
    "generator.options={channels: [8, 16], groups: 4, layers: 1, fold: 2}",
    "precision=fp32",
    "data.crop_px=16",
    "data.margin_px=8",
    "data.batch_size=2",
    "data.source.options.side_px=32",
    "generator.optimiser.warmup_steps=0",
    "checkpoint.every=2",
    "tracking.every=2",
)


def tiny(out: Path, steps: int, *assignments: str, preset: str = "pixel_small_cpu") -> TrainConfig:
    common = [f"output_dir={out}", f"max_steps={steps}", "validation=null"]
    return load_config(preset, [*common, *TINY, *assignments])


def exposed(count: int = 2, side: int = 16, **changes) -> tuple[PhysicsConfig, Batch]:
    physics = PhysicsConfig(**changes)
    microscope, pictures = Measured(physics), Synthetic(Path("x"), side_px=side)
    made = [microscope.expose(pictures[i + 1], torch.Generator().manual_seed(i)) for i in range(count)]
    batch = Batch(
        torch.stack([pictures[i + 1] for i in range(count)]),
        torch.stack([each.lq for each in made]),
        light=torch.stack([each.light for each in made]),
    )
    return physics, batch


def test_stopped_resumed_and_exported_is_the_trainers_average(tmp_path):
    train(tiny(tmp_path / "straight", 4))
    resumed = tiny(tmp_path / "resumed", 4)
    train_until(2, resumed)
    assert not (tmp_path / "resumed" / "generator_ema.safetensors").exists()
    train(resumed)
    straight, again = (
        load_file(tmp_path / name / "generator_ema.safetensors") for name in ("straight", "resumed")
    )
    assert all(torch.equal(straight[name], again[name]) for name in straight)

    file = read_pixel(tmp_path / "resumed" / "generator_ema.safetensors")
    assert file.spec.conditional
    assert (file.spec.peaks_e, file.spec.background_e) == ((2.5, 80.0), 0.5)
    assert sum(map(sum, file.spec.psf)) == pytest.approx(1, abs=1e-6)
    run = build(resumed, write=False)
    _, batch = exposed()
    with torch.no_grad():
        made = run.task.restore(run.player.module.eval(), batch)
    shadow = run.player.ema.shadow
    assert all(torch.equal(shadow[name], tensor) for name, tensor in again.items())
    run.player.module.load_state_dict(shadow)
    with torch.no_grad():
        averaged = run.task.restore(run.player.module.eval(), batch)
        light = light_of(resumed, batch)
        sampler = SAMPLER_REGISTRY.create(
            "ddim",
            num_steps=20,
            model=file.net,
            scheduler=file.spec.schedule,
            prediction=file.spec.prediction.value,
        )
        noise = generator_for(resumed.seed, "validation noise")
        from_file = light.to_file(
            sampler.sample(batch.hq.shape, None, light.condition(batch.lq), generator=noise)
        )
    assert torch.allclose(averaged, from_file, atol=1e-5)
    assert not torch.allclose(averaged, made, atol=1e-5)


def test_every_parameter_has_a_gradient_and_the_state_round_trips(tmp_path):
    """The original's blocks were made in the first forward pass, and never trained or saved."""
    config = tiny(tmp_path / "run", 1, "generator.options.attention=[1]", "generator.options.head_channels=8")
    generator = build_generator(config, torch.device("cpu"))
    task = DenoisingTask(config, generator)
    _, batch = exposed()
    attempt = task.attempt(generator.module, batch, 0)
    (_, error) = attempt.terms["v"]
    error.backward()
    without = [name for name, p in generator.module.named_parameters() if p.grad is None]
    assert without == []
    assert all(float(p.grad.abs().sum()) > 0 for p in generator.module.parameters())
    other = build_generator(config, torch.device("cpu"))
    other.module.load_state_dict(generator.module.state_dict(), strict=True)
    x = torch.randn(1, 3, 15, 17)
    assert torch.equal(generator.module(x, 5.0), other.module(x, 5.0))


def test_noise_depends_on_seed_and_step_alone(tmp_path):
    config = tiny(tmp_path / "run", 1)
    generator = build_generator(config, torch.device("cpu"))
    task, (_, batch) = DenoisingTask(config, generator), exposed()
    first, again, later = (
        float(task.attempt(generator.module, batch, step).terms["v"][1].detach()) for step in (3, 3, 4)
    )
    assert first == again != later
    other = DenoisingTask(replace(config, seed=config.seed + 1), generator)
    assert float(other.attempt(generator.module, batch, 3).terms["v"][1].detach()) != first


@pytest.mark.parametrize("kind", list(Prediction))
def test_a_network_that_knows_is_right_everywhere(kind):
    x0, eps = torch.rand(3, 1, 4, 5) * 2 - 1, torch.randn(3, 1, 4, 5)
    a_bar = torch.tensor([0.9, 0.5, 0.1]).view(3, 1, 1, 1)
    knows = {
        Prediction.eps: eps,
        Prediction.v: a_bar**0.5 * eps - (1 - a_bar) ** 0.5 * x0,
        Prediction.x0: x0,
        Prediction.difference: add_noise(x0, eps, a_bar=a_bar) - x0,
    }[kind]
    seen = []
    guess = guessed(
        lambda x, t: seen.append((x, t)) or knows,
        x0,
        torch.ones(3, 2, 4, 5),
        eps=eps,
        a_bar=a_bar,
        t=torch.tensor([1.0, 2.0, 3.0]),
        kind=kind,
    )
    assert torch.equal(guess.predicted, guess.wanted)
    torch.testing.assert_close(guess.x0, x0, atol=2e-6, rtol=1e-5)
    assert torch.equal(seen[0][0][:, :1], add_noise(x0, eps, a_bar=a_bar))
    assert torch.equal(seen[0][0][:, 1:], torch.ones(3, 2, 4, 5))


def test_measurements_are_left_out_as_often_as_is_said(tmp_path):
    config = tiny(tmp_path / "run", 1, "denoising.condition_dropout=0.25")
    generator = build_generator(config, torch.device("cpu"))
    task, (_, batch) = DenoisingTask(config, generator), exposed(count=4)
    dropped = []

    def module(x, t):
        dropped.extend((x[:, 1:].abs().amax((1, 2, 3)) == 0).tolist())
        return x[:, :1] * 0

    for step in range(100):
        task.attempt(module, batch, step)
    assert 0.15 < sum(dropped) / len(dropped) < 0.35


def test_the_network_is_told_what_the_engine_will_tell_it(tmp_path):
    """Training goes through file values and back; the engine has electrons."""
    physics, batch = exposed(count=2, read_noise_e=1.0)
    config = tiny(tmp_path / "run", 1, "data.physics.read_noise_e=1.0")
    light = light_of(config, batch)
    told = light.condition(batch.lq)
    for number in range(2):
        y_e = light.electrons(batch.lq)[number : number + 1]
        units = light_range(LIGHT, y_e, background_e=physics.background_e)
        alone = condition_of(y_e, units, background_e=physics.background_e, read_variance=1.0)
        torch.testing.assert_close(told[number : number + 1], alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(light.to_file(light.to_net(batch.hq)), batch.hq, atol=1e-5, rtol=1e-5)


def test_photons_are_even_in_octaves_and_the_noise_is_theirs():
    microscope = Measured(PhysicsConfig(photons=(4.0, 64.0), background_e=0.0))
    flat = torch.ones(1, 24, 24)
    made = [microscope.expose(flat, torch.Generator().manual_seed(i)) for i in range(120)]
    peaks = torch.stack([each.light[0] for each in made])
    assert 4 <= float(peaks.min()) < float(peaks.max()) <= 64
    assert float(peaks.log2().mean()) == pytest.approx(4, abs=0.35)
    spread = torch.stack([each.lq.var() * each.light[0] for each in made]).mean()
    assert float(spread) == pytest.approx(1, abs=0.05)  # Poisson: the variance of counts is their mean
    assert torch.stack([each.lq.mean() for each in made]).mean() == pytest.approx(1, abs=0.02)


def test_validation_has_a_grid_of_timesteps_a_short_run_and_guidance(tmp_path):
    validation = (
        "validation={root: held, source: {kind: custom, dataset: synthetic_microscopy, options: {side_px: 64}}, "
        "photons: [5, 50], metrics: [frc], best: frc, count: 1, images: 1, every: 1}"
    )
    config = tiny(tmp_path / "run", 1, validation, "denoising.steps=2", "denoising.guide=true")
    train(config)
    lines = (tmp_path / "run" / "scalars.csv").read_text().splitlines()
    names = {line.split(",")[1] for line in lines[1:]} | set(lines[0].split(","))
    for photons in (5, 50):
        assert {f"val/photons-{photons}/v_t{t}" for t in ("0.1", "0.5", "0.9")} <= names
        assert {f"val/photons-{photons}/{metric}" for metric in ("psnr_y", "frc", "frc_gain")} <= names
    periods = [float(line.split(",")[2]) for line in lines[1:] if line.split(",")[1].endswith("/frc")]
    assert len(periods) >= 2
    assert all(2 <= period <= 64 for period in periods)
    assert list((tmp_path / "run" / "validation").rglob("*photons-5-0*"))


def test_validation_measures_the_average_with_the_same_noise_each_time(tmp_path):
    """The weights that are exported are the ones that are judged; a second look gives the same figures."""
    validation = (
        "validation={root: held, source: {kind: custom, dataset: synthetic_microscopy, options: {side_px: 48}}, "
        "photons: [10], count: 1, images: 0, every: 1}"
    )
    run = build(tiny(tmp_path / "run", 1, validation, "denoising.steps=2"), write=False)
    with torch.no_grad():
        for parameter in run.player.module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    first, again = (measure_average(run, run.pairs).scalars for _ in range(2))
    assert first == again
    run.player.module.load_state_dict(run.player.ema.shadow)
    assert measure_average(run, run.pairs).scalars == first
    with torch.no_grad():
        for tensor in run.player.ema.shadow.values():
            tensor.mul_(1.3)
    assert measure_average(run, run.pairs).scalars != first


def test_ones_own_clean_stacks_are_measured_by_the_microscope(tmp_path):
    (tmp_path / "clean").mkdir()
    plane = (Synthetic(Path("x"), side_px=40)[1][0] * 4000).round().numpy()
    np.save(tmp_path / "clean" / "a.npy", plane)
    config = tiny(
        tmp_path / "run",
        1,
        f"data.root={tmp_path / 'clean'}",
        "data.source={kind: scenes, dataset: null, options: {}}",
        "data.physics.white=4000",
    )
    train(config)
    assert read_pixel(tmp_path / "run" / "generator_ema.safetensors").spec.peaks_e == (2.5, 80.0)
    target = torch.from_numpy(plane)[None]
    made = Measured(config.data.physics).expose(target, torch.Generator().manual_seed(0), photons=40.0)
    light = light_of(config, Batch(target[None], made.lq[None], light=made.light[None]))
    counted = light.electrons(made.lq[None])
    torch.testing.assert_close(counted, counted.round(), atol=2e-3, rtol=0)
    assert float(light.to_net(target[None]).max() * light.width + light.middle) == pytest.approx(40, rel=1e-5)


def test_one_step_learns_from_diffusion_weights(tmp_path):
    train(tiny(tmp_path / "many", 1))
    weights = tmp_path / "many" / "generator_ema.safetensors"
    config = tiny(tmp_path / "one", 2, f"base_model={weights}", preset="pixel_one_step")
    train(config)
    file = read_pixel(tmp_path / "one" / "generator_ema.safetensors")
    assert file.spec.one_step_t == 200
    run = build(config, write=False)
    assert run.task.restore(run.player.module, exposed()[1]).shape == (2, 1, 16, 16)
    with pytest.raises(ConfigError, match="set the timestep"):
        recipe.attempts_only(
            build(tiny(tmp_path / "none", 1, "task=gan", "losses={l2: {}}"), write=False),
            0,
            recipe.StepLog(recipe.Meter(torch.device("cpu"))),
        )


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["data.physics=null"], "ranges.lr: a diffusion model of pixels wants one line"),
        (["accumulation=2"], "accumulation must be 1"),
        (["data.physics.photons=[0, 3]"], "photons must be two numbers above 0"),
        (["data.physics.psf=nowhere.tif"], "data.physics.psf: there is no file nowhere.tif"),
        (["ranges.lr={kind: white, white: 3}"], "ranges: with data.physics"),
        (["generator.options.layers=0"], "layers must be 1 or more"),
        (["denoising.schedule=cosin"], "did you mean 'cosine'"),
        (["strategy.name=hierarchy"], "did you mean"),
        (["data.source.options={kinds: [bead]}"], "did you mean 'beads'"),
    ],
)
def test_wrong_settings_are_named(tmp_path, assignments, message):
    with pytest.raises((ConfigError, LookupError), match=message):
        build(tiny(tmp_path / "run", 1, *assignments), write=False)


def test_specimens_are_the_same_everywhere_and_differ():
    pictures = Synthetic(Path("anywhere/train"), side_px=32)
    assert torch.equal(pictures[7], Synthetic(Path("train"), side_px=32)[7])
    assert not torch.equal(pictures[7], Synthetic(Path("held-out"), side_px=32)[7])
    for index in range(9):
        picture = pictures[index]
        assert picture.shape == (1, 32, 32)
        assert float(picture.min()) >= 0
        assert math.isclose(float(picture.max()), 1, abs_tol=1e-6)


def test_given_pairs_from_files_are_learned_from_and_restored_alike(tmp_path):
    """Measured and clean 16-bit planes of the same names; the camera says what their numbers are in electrons."""
    tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")
    camera = Camera(offset_adu=100, gain=20.0)
    microscope, pictures = Measured(PhysicsConfig(photons=(40.0, 40.0))), Synthetic(Path("x"), side_px=32)
    for folder in ("clean", "measured", "held"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        light = pictures[number] * 40.0
        seen = microscope.expose(pictures[number], torch.Generator().manual_seed(number)).lq * 40.0
        for folder, electrons in (("clean", light), ("measured", seen)):
            values = camera.written(camera.to_adu(electrons))[0].numpy().astype(np.uint16)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", values)
    config = tiny(
        tmp_path / "run",
        2,
        f"data.root={tmp_path / 'clean'}",
        f"data.source={{kind: scenes, dataset: null, options: {{}}, lq_root: {tmp_path / 'measured'}}}",
        "data.physics=null",
        "data.margin_px=0",
        "denoising.camera={offset_adu: 100, gain: 20}",
        "ranges={lr: {kind: percentile, fit: dataset, symmetric: true, per_channel: false}, "
        "hr: {kind: percentile, fit: dataset, symmetric: true, per_channel: false}}",
    )
    train(config)
    file = read_pixel(tmp_path / "run" / "generator_ema.safetensors")
    assert (file.spec.camera["offset_adu"], file.spec.camera["gain"], file.spec.psf) == (100, 20, None)


def test_settings_that_are_allowed_but_unusual_are_noted(tmp_path):
    assert unusual(tiny(tmp_path, 1)) == []
    batch, rate = unusual(tiny(tmp_path, 1, "data.batch_size=33", "generator.optimiser.lr=2e-3"))
    assert batch.startswith("data.batch_size is 33")
    assert "lr is 0.002" in rate
