"""Three training runs of opensr-srgan 0.5.1, step by step, from its own settings (tests/golden/opensr)."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file

from hypir_core.config import build as build_config
from tests.parity.opensr_fill import fill_
from train.config import TrainConfig
from train.data.batch import Batch
from train.opensr_import import import_settings
from train.players import trained_state
from train.run.building import build
from train.run.logbook import StepLog
from train.run.meter import Meter
from train.run.recipe import one_step

pytestmark = pytest.mark.parity

LOST_IN_A_NORM = re.compile(r"features\.\d+\.(0\.bias|1\.running_mean)")
"""A batch norm takes the bias before it away, so its gradient is rounding, which Adam makes as large as any."""

LOST_IN_A_DIFFERENCE = "classifier.2.bias"
"""The same for losses that only look at differences of logits: all but bce."""

DRIFT = 5 * 5e-4
"""As far as five moves of Adam can carry it."""


ROUNDING_SHARE = 1 / 500
"""Adam divides by the gradient's own size, so a weight whose gradient is almost nothing moves by how a processor rounds:
so few weights of the discriminator may be off, by a tenth of the drift."""


@pytest.fixture(autouse=True)
def fresh_accelerate():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    GradientState._reset_state()


def theirs(golden):
    about = json.loads((golden / "opensr" / "training.json").read_text())
    return about, load_file(golden / "opensr" / "training.safetensors")


@pytest.fixture
def pairs(tmp_path):
    """One picture, so that there is a data set; the batches are the original's."""
    np.save(tmp_path / "own.npy", np.zeros((32, 32, 4), np.uint8))
    return tmp_path


@pytest.mark.parametrize("variant", ["bce", "relativistic", "wasserstein_r1"])
def test_a_run_goes_as_the_originals(golden, pairs, variant):
    about, tensors = theirs(golden)
    imported = import_settings(about[variant]["config"])
    assert not imported.unsaid
    settings = imported.settings | {
        "ranges": {},
        "cpu": True,
        "output_dir": str(pairs / "run"),
        "max_steps": 7,
        "data": {
            "root": str(pairs),
            "crop_px": 32,
            "degrade": [{"recipe": "bicubic"}],
            "workers": 0,
            "batch_size": 1,
        },
        "validation": None,
        "tracking": {"tensorboard": False},
    }
    settings["generator"]["optimiser"]["plateau"] = settings["discriminators"]["judge"]["optimiser"][
        "plateau"
    ] = None
    run = build(build_config(TrainConfig, settings), write=False)
    for name, text in (("generator", "generator"), ("judge", "discriminator")):
        fill_(run.players[name].module, f"{about['seed']}/training/{variant}/{text}")
    average = run.player.ema
    assert average is not None
    for name, tensor in trained_state(run.player.module).items():
        average.shadow[name].copy_(tensor)
    batches = [Batch(tensors[f"hr{n}"], tensors[f"lr{n}"]) for n in range(7)]
    run.stream = iter(batches)  # type: ignore[assignment]  # the original's batches, in its order
    for step, said in enumerate(about[variant]["steps"]):
        log = StepLog(Meter(run.accelerator.device))
        rates = {name: player.optimiser.param_groups[0]["lr"] for name, player in run.players.items()}
        one_step(run, step, log)
        log.meter.step_done()
        found = log.read(run.accelerator)
        expected = {
            "loss/l1": said["train_metrics/l1"],
            "loss/sam": said["train_metrics/sam"],
            "loss/total": said.get("generator/total_loss", said["generator/content_loss"]),
        }
        if step >= 2:
            penalty = said["discriminator/r1_penalty"]
            expected |= {
                "loss/judge": said["generator/adversarial_loss"],
                "loss/judge_own": said["discriminator/adversarial_loss"] - penalty,
            }
            got = found["weighted/judge"] / found["loss/judge"]
            assert got == pytest.approx(said["training/adv_loss_weight"], abs=1e-8)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-5), f"step {step}: {name}"
        if "lr_generator" in said:
            assert rates["generator"] == pytest.approx(said["lr_generator"], rel=1e-6)
            assert rates["judge"] == pytest.approx(said["lr_discriminator"], rel=1e-6)
    ends = {"generator": trained_state(run.player.module), "ema": average.shadow}
    ends["discriminator"] = run.players["judge"].module.state_dict()
    compared = 0
    for kind, state in ends.items():
        for name, value in state.items():
            wanted = tensors.get(f"{variant}/{kind}/{name}")
            if wanted is not None and value.is_floating_point():
                lost = LOST_IN_A_NORM.fullmatch(name) or (variant != "bce" and name == LOST_IN_A_DIFFERENCE)
                atol = DRIFT if kind == "discriminator" and lost else 1e-5
                if kind == "discriminator" and not lost:
                    off = (value - wanted).abs() > 1e-5 + 1e-5 * wanted.abs()
                    if 0 < float(off.float().mean()) <= ROUNDING_SHARE:
                        atol = DRIFT / 10
                torch.testing.assert_close(
                    value,
                    wanted,
                    atol=atol,
                    rtol=1e-5,
                    msg=lambda m, name=name, kind=kind: f"{kind}/{name}: {m}",
                )
                compared += 1
    assert compared > 100
