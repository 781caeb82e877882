from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hypir_core.config import to_plain
from hypir_core.errors import ConfigError, SpecMismatchError, TrainingDivergedError
from hypir_core.models.architectures import build_architecture
from hypir_core.weights.spec import GeneratorSpec, spec_from_metadata
from hypir_core.weights.tensors import read_tensors, write_tensors
from tests.train.equality import assert_equal
from tests.train.tiny_runs import ROOT, stopped_at_step_3, tiny
from train.__main__ import main
from train.config import load_config
from train.players import optimiser_step
from train.run import precision
from train.run.building import build
from train.run.checkpoint import newest_checkpoint
from train.run.logbook import StepLog
from train.run.meter import Meter
from train.run.recipe import generator_losses, generator_step, train
from train.run.start_message import start_lines
from train.run.warm_start import read_fitting

pytestmark = pytest.mark.tiny


def state_of(run_dir: Path) -> dict:
    newest = newest_checkpoint(run_dir)
    assert newest is not None
    return torch.load(newest / "players.pt", weights_only=True)["generator"]


def test_stopped_and_resumed_equals_straight_to_the_last_bit(photos, tmp_path, monkeypatch):
    straight = tiny(photos, tmp_path / "straight", 12)
    train(straight)
    resumed = tiny(photos, tmp_path / "resumed", 12)
    stop_after(monkeypatch, 7)
    train(resumed)
    assert newest_checkpoint(resumed.output_dir).name == "step-00000007"
    monkeypatch.undo()
    train(resumed)
    assert_equal(state_of(resumed.output_dir), state_of(straight.output_dir))
    for name in ("generator.safetensors", "generator_ema.safetensors"):
        assert_equal(load_file(resumed.output_dir / name), load_file(straight.output_dir / name))


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Send SIGTERM to this process during that step."""
    from train.run import recipe

    done = 0

    def step_then_signal(*arguments):
        nonlocal done
        shots = generator_step(*arguments)
        done += 1
        if done == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return shots

    monkeypatch.setattr(recipe, "generator_step", step_then_signal)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_job_stops_it_with_a_checkpoint(photos, tmp_path, sent):
    """A terminal and a cluster's scheduler send it to the workers that read pictures as well."""
    words = ["tiny_cpu_pixel", f"data.root={photos}", f"output_dir={tmp_path / 'run'}", "max_steps=100000"]
    command = [sys.executable, "-m", "train", *words, "data.workers=1", "tracking.every=1"]
    with stopped_at_step_3(command, lambda job: os.killpg(job.pid, sent)) as (job, said):
        assert job.wait(60) == 0, said
    assert "stopped at step" in said
    assert newest_checkpoint(tmp_path / "run") is not None


def test_export_restores_as_the_trainers_own_average(photos, tmp_path):
    config = tiny(photos, tmp_path / "run", 6, "export.name=mine", "export.licence=CC0")
    train(config)
    file = read_tensors(config.output_dir / "generator_ema.safetensors")
    spec = spec_from_metadata(file.metadata, file.path)
    assert isinstance(spec, GeneratorSpec)
    assert (spec.name, spec.licence, spec.scale, spec.options) == (
        "mine",
        "CC0",
        2,
        {"features": 8, "blocks": 2},
    )
    assert "6 steps" in spec.trained_with

    loaded = build_architecture(spec.architecture, {**spec.options, "scale": spec.scale}, where="spec")
    loaded.load_state_dict(file.tensors)
    run = build(config)
    average = build_architecture("compact", config.generator.options, where="generator.options")
    average.load_state_dict(run.player.ema.shadow)
    image_01 = torch.rand(1, 3, 9, 13, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded(image_01), average(image_01), atol=1e-6, rtol=0)


def test_one_batch_can_be_learnt(photos, tmp_path):
    clean = ["data.degrade=[{recipe: bicubic}]", "generator.options.features=24"]
    constant = ["generator.optimiser.lr=5e-3", "generator.optimiser.lr_schedule=constant"]
    run = build(tiny(photos, tmp_path, 60, *clean, *constant))
    batch = next(run.stream)
    values = []
    for step in range(60):
        losses = generator_losses(run, 0, run.task.attempt(run.player.module, batch, 0))
        run.accelerator.backward(losses.total)
        optimiser_step(run.player, run.accelerator, step)
        values.append(float(losses.total.detach()))
    assert values[-1] <= 0.5 * values[0]


def test_a_run_describes_itself_and_measures(photos, tmp_path):
    config = tiny(
        photos, tmp_path / "run", 4,
        "tracking.every=2", "tracking.tensorboard=true", "tracking.images_every=4",
        "tracking.loss_gradients_every=2",
        f"validation.root={photos}", "validation.every=2", "validation.count=2", "validation.recipes=[light]",
    )  # fmt: skip
    train(config)
    about = json.loads((config.output_dir / "run.json").read_text())
    assert len(about["data_hash"]) == 64
    assert about["commit"]
    saved = load_config(str(config.output_dir / "config.yaml"), [])
    assert to_plain(saved) == to_plain(config)
    names = {line.split(",")[1] for line in (config.output_dir / "scalars.csv").read_text().splitlines()[1:]}
    assert {
        "loss/l1", "loss/total", "gradient/generator", "gradient/l1", "lr/generator", "speed/samples_per_s",
        "memory/peak_ram_mib", "val/light/psnr_y", "val/light/ssim_gain",
    } <= names  # fmt: skip
    assert list((config.output_dir / "tensorboard").glob("events*"))
    assert (config.output_dir / "generator_best.safetensors").exists()


def test_validation_leaves_the_training_as_it_was(photos, tmp_path):
    validating = tiny(
        photos, tmp_path / "a", 6, f"validation.root={photos}", "validation.every=2", "validation.count=1"
    )
    train(validating)
    train(tiny(photos, tmp_path / "b", 6))
    assert_equal(state_of(tmp_path / "a"), state_of(tmp_path / "b"))


def test_accumulation_equals_a_larger_batch(photos, tmp_path):
    common = ["data.pool.size=0", "data.pool.reuse=1", "losses.gradient.weight=0"]
    train(tiny(photos, tmp_path / "whole", 3, "data.batch_size=4", *common))
    train(tiny(photos, tmp_path / "parts", 3, "data.batch_size=2", "accumulation=2", *common))
    whole, parts = (load_file(tmp_path / name / "generator.safetensors") for name in ("whole", "parts"))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=2e-5, rtol=0)


def test_a_term_that_is_not_finite_is_named(photos, tmp_path):
    run = build(tiny(photos, tmp_path, 10))
    with torch.no_grad():
        next(run.player.module.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match=r"step 3: l1 = nan"):
        generator_step(run, 3, StepLog(Meter(torch.device("cpu"))))


def test_a_changed_setting_is_refused_on_resume_and_max_steps_is_not(photos, tmp_path):
    train(tiny(photos, tmp_path, 2))
    with pytest.raises(ConfigError, match=r"generator\.optimiser\.lr: .* set it back"):
        train(tiny(photos, tmp_path, 4, "generator.optimiser.lr=1e-3"))
    train(tiny(photos, tmp_path, 3))
    assert newest_checkpoint(tmp_path).name == "step-00000003"


def test_warm_start_takes_the_weights_of_base_model(photos, tmp_path):
    train(tiny(photos, tmp_path / "first", 2))
    weights = tmp_path / "first" / "generator_ema.safetensors"
    run = build(tiny(photos, tmp_path / "second", 2, f"base_model={weights}"))
    assert_equal(dict(run.player.module.state_dict()), load_file(weights))
    with pytest.raises(SpecMismatchError, match=r"base_model: .*generator\.options"):
        build(tiny(photos, tmp_path / "third", 2, f"base_model={weights}", "generator.options.features=12"))


def test_tensors_that_differ_are_counted_among_all_of_both_sides(tmp_path):
    path = tmp_path / "other.safetensors"
    write_tensors(path, {name: torch.zeros(2) for name in "abcdef"}, {})
    own = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(SpecMismatchError, match="; 5 of 6 tensors differ, first b: file 2, generator 3;"):
        read_fitting(path, own, key="base_model", what="generator", advice="look")


def test_an_export_that_the_generator_does_not_have_is_refused(photos, tmp_path):
    with pytest.raises(ConfigError, match=r"export\.original_pth: only a LoRA"):
        build(tiny(photos, tmp_path, 1, "export.original_pth=true"))


def test_command_line_reports_settings_and_pictures_that_are_wrong(photos, tmp_path, capsys):
    assert main(["tiny_cpu_pixel", f"data.root={tmp_path}", f"output_dir={tmp_path}", "max_steps=1"]) == 2
    assert "error: data.root" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    assert main(["tiny_cpu_pixel", f"data.root={tmp_path}", f"output_dir={tmp_path}", "max_steps=1"]) == 2
    assert "smaller than 32 px" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_twice_the_batch(photos, tmp_path):
    common = ["tiny_cpu_pixel", f"data.root={photos}", "max_steps=3", "data.pool.size=0", "data.pool.reuse=1"]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "train",
    ]
    done = subprocess.run(
        [*launch, *common, f"output_dir={tmp_path / 'two'}", "data.batch_size=2"],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    assert main([*common, f"output_dir={tmp_path / 'one'}", "data.batch_size=4"]) == 0
    one, two = (load_file(tmp_path / name / "generator.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("units", "computed", "said"), [(None, "no", "fp32: precision is bf16"), ("AMX", "bf16", "bf16")]
)
def test_a_cpu_that_would_emulate_bf16_computes_in_float32_and_says_so(
    photos, tmp_path, monkeypatch, units, computed, said
):
    monkeypatch.setattr(precision, "cpu_bfloat16_units", lambda: units)
    run = build(tiny(photos, tmp_path / "run", 2, "precision=bf16"))
    assert run.accelerator.mixed_precision == computed
    assert any(
        line.startswith("processes") and line.endswith((said, f"{said}, and this CPU has no units for it"))
        for line in start_lines(run)
    )
    assert run.settings["precision"] == "bf16"  # so that it goes on where the CPU has units
