"""What starts a training, and stops it: accelerate and its variables, schedulers, terminals."""

from __future__ import annotations

import os
import signal
import sys

import pytest
import torch

from hypir_core.errors import ConfigError
from tests.train.tiny_runs import stopped_at_step_3, tiny
from train.run.building import build
from train.run.checkpoint_folders import newest_checkpoint

pytestmark = pytest.mark.tiny


def test_sigterm_to_accelerate_launch_stops_the_training_with_a_checkpoint(photos, tmp_path):
    run = tmp_path / "run"
    words = [
        "tiny_cpu_pixel",
        f"data.root={photos}",
        f"output_dir={run}",
        "max_steps=3000",
        "tracking.every=1",
    ]
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "train", *words,
    ]  # fmt: skip
    # the launcher only gets it, as from a scheduler
    with stopped_at_step_3(command, lambda job: os.kill(job.pid, signal.SIGTERM)) as (_, said):
        assert "stopped at step" in said
    assert newest_checkpoint(run) is not None
    assert (run / "generator.safetensors").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_stops_a_run_and_nohup_does_not():
    from train.run.stop import stop_on_signals

    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_accelerate_s_accumulation_divides_no_loss(photos, tmp_path, monkeypatch):
    def gradient_of_one_pass() -> torch.Tensor:
        run = build(tiny(photos, tmp_path, 2))
        run.accelerator.backward(sum(p.sum() for p in run.player.module.parameters()))
        return next(run.player.module.parameters()).grad.clone()

    plain = gradient_of_one_pass()
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert torch.equal(gradient_of_one_pass(), plain)
    assert float(plain.mean()) == 1.0


def test_accelerate_s_own_compilation_is_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    with pytest.raises(ConfigError, match=r"dynamo_backend: .*compile=true"):
        build(tiny(photos, tmp_path, 1))
