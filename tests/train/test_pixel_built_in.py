"""The networks of microscopes inside the package: what their files say, and that they are worth having."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hypir_core import Request, Runtime, load_engine, restore
from hypir_core.engines.pixel.built_in import BUILT_IN_PIXEL, weights_path
from hypir_core.engines.pixel.engine import Pixel
from hypir_core.engines.pixel.preset import pixel_preset
from hypir_core.metrics.fidelity import psnr
from hypir_core.physics.data_terms import Measurement, Term, gradient
from hypir_core.physics.deconvolve import richardson_lucy
from hypir_core.physics.operator import PsfOperator
from hypir_core.physics.psf import gaussian_psf
from hypir_core.weights.tensors import read_tensors
from train.config import load_config
from train.config.physics import PhysicsConfig
from train.data.measured import Measured
from train.data.synthetic import Synthetic

pytest.importorskip("diffusers", reason="the network is the one of diffusers")
CPU = torch.device("cpu")
GAIN, WHITE, PHOTONS = 200.0, 65535.0, 10.0


@pytest.mark.parametrize("word", BUILT_IN_PIXEL)
def test_they_are_small_and_say_what_they_are(word):
    path = weights_path(Path(word))
    assert path.stat().st_size <= 8_000_000
    assert {each.dtype for each in read_tensors(path).tensors.values()} == {torch.float16}
    engine = load_engine("pixel", {"weights": word}, device=CPU)
    assert isinstance(engine, Pixel)
    assert engine.weights.licence == "Apache-2.0"
    assert engine.weights.trained_on == "synthetic beads, filaments and cells"
    assert (engine.weights.one_step_t is None) == (word == "built-in")


def test_they_beat_richardson_and_lucy_at_its_best():
    """The mean of four samples; one alone is about as good as the classic would be, stopped by who knows the truth."""
    physics = PhysicsConfig()
    pictures, microscope = Synthetic(Path("held-out"), side_px=64, seed=5), Measured(physics)
    operator = PsfOperator(gaussian_psf((1.5, 1.5)))
    options = {"gain": GAIN, "offset_adu": 0.0}
    engines = [
        load_engine("pixel", {**options, **more}, device=CPU, dtype="float32")
        for more in (
            {"weights": "built-in-one-step"},
            {"weights": "built-in", "steps": 10, "guidance": "pkl", "samples": 4},
        )
    ]
    classic, ours = [], [[], []]
    for number in range(3):
        truth = pictures[number]
        lq = microscope.expose(truth, torch.Generator().manual_seed(number), photons=PHOTONS).lq
        y_e = (lq * PHOTONS + physics.background_e)[None]
        measured = Measurement(y=y_e, operator=operator, background_e=physics.background_e)
        estimate, tried = None, []
        for _ in range(25):
            estimate = richardson_lucy(measured, steps=1, start=estimate)
            tried.append(float(psnr((estimate / PHOTONS).clamp(0, 1), truth[None])))
        classic.append(max(tried))
        for engine, found in zip(engines, ours, strict=True):
            made = restore(engine, y_e * GAIN / WHITE, Request(seed=1), Runtime()).image_01
            light = made * WHITE / GAIN - physics.background_e
            found.append(float(psnr((light / PHOTONS).clamp(0, 1), truth[None])))
    best, one_step, guided = (sum(each) / 3 for each in (classic, *ours))
    assert guided > best
    assert one_step > guided


def test_several_estimates_are_measured_against_one_picture():
    """The mean of guided samples: guidance is of the first order, so each is moved as it would be alone."""
    torch.manual_seed(0)
    y, x = torch.rand(1, 1, 9, 8) * 5, torch.rand(3, 1, 9, 8) * 5
    measured = Measurement(y=y, operator=PsfOperator(gaussian_psf((1.0, 1.0))))
    for term in Term:
        together = gradient(term, x, measured)
        alone = torch.cat([gradient(term, each[None], measured) for each in x])
        torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    ("engines", "trainings"),
    [
        ("microscopy_2p", "pixel_2p"),
        ("fast_inference", "pixel_fast"),
        ("high_quality", "pixel_high_quality"),
        ("microscopy_small", "pixel_small_cpu"),
    ],
)
def test_presets_of_engine_and_training_are_of_the_same_network(engines, trainings):
    ours, learned = (
        pixel_preset(engines),
        load_config(trainings, ["output_dir=runs/x", "max_steps=1"]),
    )
    options = dict(learned.generator.options)
    if options.get("fold") == 1:
        options.pop("fold")
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in ours.network.options.items()} == options
    denoising, training = learned.denoising, ours.training
    assert (ours.prediction, ours.schedule) == (denoising.prediction, denoising.schedule)
    known = {"num_timesteps": 1000, "s": 0.008, "max_beta": 0.999}
    assert {**known, **ours.schedule_options} == {**known, **denoising.schedule_options}
    assert ours.sampling["steps"] == denoising.steps
    assert ours.sampling["solver"] == denoising.sampler
    assert training.learning_rate == learned.generator.optimiser.lr
    assert training.ema_decay == learned.generator.ema.decay
    assert training.image_size == learned.data.crop_px
    assert training.condition_dropout == denoising.condition_dropout
    assert training.losses == {name: loss.weight for name, loss in learned.losses.items()}
