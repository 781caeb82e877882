"""Several processes on the CPU (gloo), started as torchrun does."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.__main__ import main
from train.checkpoint import newest_checkpoint

pytestmark = [pytest.mark.tiny, pytest.mark.slow]

ROOT = Path(__file__).parents[2]

TRAIN = ("-m", "train")
SPLIT = ("tests/train/split_on_cpu.py",)


def two_processes(*arguments: str, program: tuple[str, ...] = TRAIN) -> subprocess.CompletedProcess[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *program]
    return subprocess.run(
        [sys.executable, *launch, *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def values_of(run_dir: Path, name: str) -> list[float]:
    with (run_dir / "scalars.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == name]


def test_two_processes_see_the_losses_of_one_with_twice_the_batch(photos, golden, tmp_path):
    """Half a batch each, gradients averaged: the same steps but for rounding."""
    common = [
        "tiny_cpu", f"base_model={golden / 'hypir' / 'model'}", f"data.root={photos}", "max_steps=4",
        f"generator.options.lora={golden / 'hypir' / 'lora.pth'}", "tracking.every=1", "checkpoint.every=2",
        "generator.optimiser.lr=1e-4",
    ]  # fmt: skip
    two, one = tmp_path / "two", tmp_path / "one"
    done = two_processes(*common, f"output_dir={two}", "data.batch_size=1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((two / "run.json").read_text())["processes"] == 2
    assert main([*common, f"output_dir={one}", "data.batch_size=2"]) == 0
    assert len(values_of(one, "loss/total")) == 4
    for name in ("loss/l2", "loss/lpips", "loss/clip", "loss/clip_own", "gradient/generator"):
        assert values_of(two, name) == pytest.approx(values_of(one, name), rel=1e-4)

    newest = newest_checkpoint(two)
    assert newest is not None
    assert {path.name for path in newest.iterdir()} == {"about.json", "players.pt", "rank-0.pt", "rank-1.pt"}
    again = [*common, f"output_dir={two}", "data.batch_size=1", "max_steps=6"]
    assert main(again) == 2
    done = two_processes(*again)
    assert done.returncode == 0, done.stderr[-3000:]
    assert newest_checkpoint(two).name == "step-00000006"


def test_split_networks_learn_what_whole_ones_learn(photos, golden, tmp_path):
    """FSDP 2 against DDP: the same but for rounding; a split run also goes on from a whole one's checkpoint."""
    common = [
        "tiny_cpu", f"base_model={golden / 'hypir' / 'model'}", f"data.root={photos}", "data.batch_size=1",
        f"generator.options.lora={golden / 'hypir' / 'lora.pth'}", "checkpoint.every=2", "tracking.every=1",
        f"validation.root={photos}", "validation.every=2", "validation.count=1", "validation.most_px=64",
        "validation.recipes=[light]",
    ]  # fmt: skip
    for name, program, steps in (("whole", TRAIN, 2), ("split", SPLIT, 2), ("whole", TRAIN, 3)):
        run(*common, f"output_dir={tmp_path / name}", f"max_steps={steps}", program=program)
        if steps == 2:
            shutil.copytree(tmp_path / name, tmp_path / f"{name}_2")
    shutil.move(tmp_path / "whole_2", tmp_path / "mixed")
    run(*common, f"output_dir={tmp_path / 'mixed'}", "max_steps=3", program=SPLIT)
    for ours, theirs, step in (("split", "whole", 2), ("mixed", "whole", 3)):
        split, whole = (players_at(tmp_path / name, step) for name in (ours, theirs))
        for player, state in whole.items():
            torch.testing.assert_close(split[player]["weights"], state["weights"], atol=1e-6, rtol=0)
    for file in ("generator.safetensors", "generator_ema.safetensors", "discriminator_clip.safetensors"):
        split, whole = (load_file(tmp_path / name / file) for name in ("mixed", "whole"))
        torch.testing.assert_close(split, whole, atol=1e-6, rtol=0)
    for name in ("loss/total", "loss/clip_own", "gradient/generator", "gradient/clip_own"):
        expected = values_of(tmp_path / "whole", name)
        assert values_of(tmp_path / "mixed", name) == pytest.approx(expected, rel=1e-5)
        assert values_of(tmp_path / "split", name) == pytest.approx(expected[:2], rel=1e-5)


def run(*arguments: str, program: tuple[str, ...]) -> None:
    done = two_processes(*arguments, program=program)
    assert done.returncode == 0, done.stderr[-3000:]


def players_at(run_dir: Path, step: int) -> dict:
    return torch.load(run_dir / "checkpoints" / f"step-{step:08d}" / "players.pt", weights_only=True)
