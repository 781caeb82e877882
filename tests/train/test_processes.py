"""Several processes on the CPU (gloo), started as torchrun does."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.__main__ import main
from train.checkpoint import newest_checkpoint

pytestmark = [pytest.mark.tiny, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def two_processes(*arguments: str) -> subprocess.CompletedProcess[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "train"]
    return subprocess.run(
        [sys.executable, *launch, *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
        check=False,
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
