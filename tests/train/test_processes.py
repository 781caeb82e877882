"""Two processes on the CPU (gloo), started once for all tests; see `launched_runs`.

The documented command, by torchrun, is run in `test_run`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train import launched_runs
from tests.train.launched_runs import Launched
from train.__main__ import main
from train.run.checkpoint import newest_checkpoint

pytestmark = [pytest.mark.tiny, pytest.mark.slow]

ROOT = Path(__file__).parents[2]

JUDGE = (
    "discriminators.judge={name: unet, options: {features: 4, depth: 2}, optimiser: {lr: 1e-3}, weight: 0.1, "
    "loss: bce, feature_matching: {weight: 0.5}, r1: {gamma: 1, every: 2}}"
)


ROUNDING = 1e-6
"""A hundredth of a move of Adam at a learning rate of 1e-4: weights whose gradient is almost nothing show how a
processor rounds."""


@pytest.fixture(scope="module")
def lora(golden: Path, photos: Path) -> list[str]:
    """Words of the whole recipe on the golden model, but for the steps, the folder and the batch size."""
    return [
        "tiny_cpu", f"base_model={golden / 'hypir' / 'model'}", f"data.root={photos}",
        f"generator.options.lora={golden / 'hypir' / 'lora.pth'}", "generator.optimiser.lr=1e-4",
        "checkpoint.every=2", "tracking.every=1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def gan(photos: Path) -> list[str]:
    no_pool = ["data.pool.size=0", "data.pool.reuse=1"]
    return ["tiny_cpu_pixel", f"data.root={photos}", "max_steps=4", *no_pool, JUDGE]


@pytest.fixture(scope="module")
def two(lora, gan, photos, tmp_path_factory) -> Path:
    """The run folders of two processes.

    ``whole`` made 2 steps and then a third, ``split`` 2 steps by FSDP, ``mixed`` 2 whole ones and then a split one.
    """
    root = tmp_path_factory.mktemp("two")
    measured = [
        *lora, "data.batch_size=1", f"validation.root={photos}", "validation.every=2", "validation.count=1",
        "validation.most_px=64", "validation.recipes=[light]",
    ]  # fmt: skip

    runs = [
        Launched([*measured, "max_steps=2"], str(root / "whole"), keep_as=str(root / "mixed")),
        Launched([*measured, "max_steps=3"], str(root / "whole")),
        Launched([*measured, "max_steps=2"], str(root / "split"), split=True),
        Launched([*measured, "max_steps=3"], str(root / "mixed"), split=True),
        Launched([*gan, "data.batch_size=2"], str(root / "gan")),
    ]
    done = subprocess.run(
        [sys.executable, launched_runs.__file__, json.dumps([asdict(run) for run in runs])],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    return root


def values_of(run_dir: Path, name: str) -> list[float]:
    with (run_dir / "scalars.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == name]


def players_at(run_dir: Path, step: int) -> dict:
    return torch.load(run_dir / "checkpoints" / f"step-{step:08d}" / "players.pt", weights_only=True)


def test_two_processes_see_the_losses_of_one_with_twice_the_batch(two, lora, tmp_path):
    """Half a batch each, gradients averaged, stopped and resumed: the same steps but for rounding."""
    assert main([*lora, f"output_dir={tmp_path}", "data.batch_size=2", "max_steps=3"]) == 0
    assert len(values_of(tmp_path, "loss/total")) == 3
    for name in ("loss/l2", "loss/lpips", "loss/clip", "loss/clip_own", "gradient/generator"):
        assert values_of(two / "whole", name) == pytest.approx(values_of(tmp_path, name), rel=1e-4)


def test_a_checkpoint_of_two_processes_goes_on_with_one_only_when_asked(two, lora, tmp_path, capsys):
    assert json.loads((two / "whole" / "run.json").read_text())["processes"] == 2
    newest = newest_checkpoint(two / "whole")
    assert newest is not None
    assert newest.name == "step-00000003"
    assert {path.name for path in newest.iterdir()} == {"about.json", "players.pt", "rank-0.pt", "rank-1.pt"}
    run = shutil.copytree(two / "whole", tmp_path / "run")
    again = [*lora, f"output_dir={run}", "data.batch_size=1", "max_steps=4"]
    assert main(again) == 2
    said = capsys.readouterr().err
    assert "processes: the checkpoint step-00000003 was made by 2 processes, now there is 1" in said
    assert main([*again, "checkpoint.resume=all"]) == 0
    assert json.loads((run / "checkpoints" / "step-00000004" / "about.json").read_text())["processes"] == 1


def test_split_networks_learn_what_whole_ones_learn(two):
    """FSDP 2 against DDP: the same but for rounding; a split run also goes on from a whole one's checkpoint."""
    for ours, step in (("split", 2), ("mixed", 3)):
        split, whole = (players_at(two / name, step) for name in (ours, "whole"))
        for player, state in whole.items():
            torch.testing.assert_close(split[player]["weights"], state["weights"], atol=ROUNDING, rtol=0)
    for file in ("generator.safetensors", "generator_ema.safetensors", "discriminator_clip.safetensors"):
        split, whole = (load_file(two / name / file) for name in ("mixed", "whole"))
        torch.testing.assert_close(split, whole, atol=ROUNDING, rtol=0)
    for name in ("loss/total", "loss/clip_own", "gradient/generator", "gradient/clip_own"):
        expected = values_of(two / "whole", name)
        assert len(expected) == 3
        assert values_of(two / "mixed", name) == pytest.approx(expected, rel=1e-5)
        assert values_of(two / "split", name) == pytest.approx(expected[:2], rel=1e-5)


def test_two_processes_play_what_one_plays_with_twice_the_batch(two, gan, tmp_path):
    assert main([*gan, f"output_dir={tmp_path}", "data.batch_size=4"]) == 0
    ours, theirs = (players_at(folder, 4) for folder in (two / "gan", tmp_path))
    assert set(theirs) == {"generator", "judge"}
    for player, state in theirs.items():
        for name, tensor in state["weights"].items():
            torch.testing.assert_close(ours[player]["weights"][name], tensor, atol=1e-4, rtol=0)
