"""Ways to train: exact phases, what each adds, and that the loss falls; the faults of the original stay out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.components import STRATEGY_REGISTRY, create_strategy
from hypir_core.diffusion.schedule import a_bars64
from hypir_core.engines.pixel.built_in import BUILT_IN_PIXEL
from hypir_core.errors import ConfigError
from train.config import Phase, TrainConfig, load_config
from train.data.batch import Batch
from train.data.seeds import generator_for
from train.data.synthetic import Synthetic
from train.generators import build_generator
from train.losses import build_losses
from train.run.building import build
from train.run.recipe import generator_losses, train
from train.strategies import batch_at, coarse, faded, lr_at, resolutions, strategy_of, with_strategy
from train.tasks.denoising import DenoisingTask, timestep_of

pytest.importorskip("diffusers", reason="the network is the one of diffusers")

TINY = (
    "generator.options={channels: [16, 16], groups: 4, layers: 1}",
    "precision=fp32",
    "validation=null",
    "data.crop_px=16",
    "data.margin_px=0",
    "data.batch_size=4",
    "data.source.options.side_px=16",
    "generator.optimiser={lr: 4.0e-3, warmup_steps: 0, lr_schedule: constant}",
    "generator.ema=null",
)


def settings(out: Path, name: str, steps: int, *assignments: str) -> TrainConfig:
    common = [f"output_dir={out}", f"max_steps={steps}", f"strategy.name={name}"]
    return load_config("pixel_small_cpu", [*common, *TINY, *assignments])


def test_numbers_of_the_curriculum(golden):
    cases = json.loads((golden / "pkl" / "training.json").read_text())
    base = cases["curriculum_base"]
    assert list(resolutions(64, 512)) == base["resolutions"]
    assert resolutions(32, 48) == (32, 48)  # powers of two, and the side that is wanted
    assert resolutions(64, 32) == (32,)
    for case in cases["curriculum"]:
        r0, r = base["resolutions"][0], case["resolution"]
        assert batch_at(base["batch"], r0, r) == case["batch"]
        assert base["lr"] * lr_at("sqrt", r0, r) == pytest.approx(case["lr_sqrt"], rel=1e-12)
        assert base["lr"] * lr_at("linear", r0, r) == pytest.approx(case["lr_linear"], rel=1e-12)


def test_fading_in(golden):
    numbers = load_file(golden / "pkl" / "training.safetensors")
    picture = numbers["curriculum.hi"]
    for alpha in (0.0, 0.25, 1.0):
        made = faded(Batch(picture, 2 * picture), alpha)
        wanted = numbers[f"curriculum.fade.{alpha}"]
        torch.testing.assert_close(made.hq, wanted, atol=1e-12, rtol=0)
        # the original resized the input and left the target as it was
        torch.testing.assert_close(made.lq, 2 * wanted, atol=1e-12, rtol=0)


def test_progressive_changes_at_exact_steps(tmp_path):
    config = with_strategy(settings(tmp_path, "progressive", 45, "strategy.options={smallest_px: 8}"))
    assert config.curriculum == (
        Phase(start=0, crop_px=8, batch_size=4),
        Phase(start=18, crop_px=16, batch_size=1, lr_factor=math.sqrt(0.5), fade_steps=3),
    )
    assert config.losses["cross_resolution"].weight == 0.1
    assert [config.fade_at(step) for step in (0, 17, 18, 19, 21, 40)] == [1, 1, 0, 1 / 3, 1, 1]
    assert with_strategy(config) == config
    stated = settings(tmp_path, "progressive", 45, "losses={cross_resolution: {weight: 3}, l1: {}}")
    assert with_strategy(stated).losses["cross_resolution"].weight == 3


def test_progressive_runs_resumes_in_a_phase_and_keeps_its_rate(tmp_path):
    common = ("strategy.options={smallest_px: 8, fade: 0.5}", "checkpoint.every=5")
    whole = settings(tmp_path / "whole", "progressive", 8, *common)
    train(whole)
    run = build(whole, write=False)
    assert run.start == 8
    assert run.player.lr_schedule.get_last_lr()[0] == pytest.approx(4e-3 * math.sqrt(0.5))
    part = tmp_path / "part"
    train(settings(part, "progressive", 8, *common))
    newest = part / "checkpoints"
    for folder in newest.iterdir():
        if folder.name != "step-00000005":
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    train(settings(part, "progressive", 8, *common))
    one, other = (load_file(at / "generator.safetensors") for at in (tmp_path / "whole", part))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", STRATEGY_REGISTRY.names())
def test_the_loss_falls_by_half_in_fifty_steps(tmp_path, name):
    """The original never called backward in one of them, and crashed in another."""
    options = {"progressive": "{smallest_px: 16}", "cascaded": "{strides: [1, 2]}"}
    extra = (f"strategy.options={options[name]}",) if name in options else ()
    config = with_strategy(settings(tmp_path, name, 50, "denoising.prediction=eps", *extra))
    run = build(config, write=False)
    errors = []
    optimiser = torch.optim.Adam(run.player.module.parameters(), lr=4e-3)
    for step in range(50):
        attempt = run.task.attempt(run.player.module, next(run.stream), step)
        optimiser.zero_grad()
        generator_losses(run, step, attempt).total.backward()
        optimiser.step()
        errors.append(float(attempt.terms["eps"][1].detach()))
    assert sum(errors[-10:]) / 10 < 0.5 * sum(errors[:3]) / 3


def test_levels_have_noise_of_their_own_and_the_network_is_told_how_much(tmp_path):
    """A level of the original had its own noise at the same timestep: nobody could have taken it away."""
    config = settings(
        tmp_path, "hierarchical", 1, "strategy.options={levels: 2, schedule: hierarchical_linear}"
    )
    schedules = strategy_of(config).schedules(config)
    curves = [a_bars64(each.as_schedule()) for each in schedules]
    assert not torch.allclose(curves[0], curves[1])
    task = DenoisingTask(config, build_generator(config, torch.device("cpu")))
    a_bar, t = task._noise_levels(200, 0, generator_for(0, "levels"))
    own = task._a_bars
    low, high = own[t.floor().long()], own[t.ceil().long()]
    assert bool(((a_bar <= low + 1e-9) & (a_bar >= high - 1e-9)).all())
    found = [bool(torch.isclose(curve, each, atol=1e-12).any()) for each in a_bar for curve in curves]
    assert sum(found) >= 190  # but for those that the own schedule's ends cut
    assert timestep_of(own[[3, 500]], own).tolist() == pytest.approx([3, 500], abs=1e-6)


def test_features_are_those_of_a_trained_denoiser_and_never_of_a_random_one(tmp_path):
    """The original compared what an extractor saw that nobody had trained, and it crashed for one channel."""
    alone = with_strategy(settings(tmp_path, "hierarchical", 1))
    assert set(alone.losses) == {"pyramid", "frequency_bands"}
    built_in = BUILT_IN_PIXEL["built-in"]
    sizes = "generator.options={channels: [64, 96, 128], layers: 1, fold: 2, groups: 32}"
    config = with_strategy(settings(tmp_path, "hierarchical", 1, f"base_model={built_in}", sizes))
    assert config.losses["features"].weight == 0.1
    (term,) = build_losses({"features": config.losses["features"]})
    target = Synthetic(Path("x"), side_px=32)[0][None] * 2 - 1
    assert float(term.loss(target, target)) == 0
    shifted, noisy = target.roll(1, -1), target + 0.1 * torch.randn(target.shape)
    image = noisy.requires_grad_()
    loss = term.loss(image, target)
    (gradient,) = torch.autograd.grad(loss, image)
    assert float(gradient.abs().amax()) > 0
    assert float(term.loss(shifted, target)) > 0
    weights = [parameter.clone() for parameter in term.loss._net.parameters()]
    run = build(config, write=False)
    attempt = run.task.attempt(run.player.module, next(run.stream), 0)
    made = generator_losses(run, 0, attempt)
    assert {"features", "pyramid", "frequency_bands"} <= set(made.terms)
    made.total.backward()
    assert all(torch.equal(a, b) for a, b in zip(weights, term.loss._net.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in term.loss._net.parameters())
    without = with_strategy(
        settings(tmp_path, "hierarchical", 1, f"base_model={built_in}", "strategy.options={features: 0}")
    )
    assert "features" not in without.losses


def test_a_batch_at_a_stride_is_a_measurement_of_a_coarser_camera():
    strategy = create_strategy("cascade", strides=(2,))
    hq = torch.rand(1, 1, 9, 8)
    light = torch.tensor([[10.0, 4.0, 5.0, 1.0]])
    made = strategy.coarsened(Batch(hq, hq + 1, light=light), generator_for(0, "stride"))
    assert made.hq.shape == (1, 1, 4, 4)
    assert made.light.tolist() == [[40.0, 16.0, 20.0, 4.0]]
    electrons = (hq[..., :8, :] * 10).sum()
    torch.testing.assert_close((made.hq * made.light[0, 0]).sum(), electrons)  # counts add up
    with pytest.raises(ConfigError, match=r"set data\.physics"):
        coarse(Batch(hq, hq), 2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("progressive", {"fade": 2}, "fade must lie in 0 … 1"),
        ("progressive", {"smalest_px": 2}, "takes no smalest_px .did you mean 'smallest_px'"),
        ("hierarchical", {"levels": 0}, "levels must be 1 or more"),
        ("cascaded", {"strides": (0,)}, "strides must be numbers of 1 or more"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ConfigError, match=message):
        create_strategy(name, **options)
