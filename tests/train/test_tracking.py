"""What a run writes down, when it stops by itself, and which checkpoints it keeps."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hypir_core.errors import HypirError, MissingDependencyError
from tests.train.tiny_runs import tiny
from train.config import TrackingConfig, load_config
from train.run import tracking
from train.run.checkpoint_folders import checkpoints
from train.run.recipe import train

PRESET = """
seed: 3
precision: fp32
cpu: true
generator:
  name: residual
  options: {block: res, channels: 4, blocks: 1, head_kernel: 3, scale: 2, in_channels: 4}
  ema: null
losses: {l1: {weight: 1.0}}
ranges: {lr: {kind: white, white: 1000}}
data: {source: {kind: scenes}, batch_size: 2, workers: 0, crop_px: 16, degrade: [{recipe: area}]}
validation: {source: {kind: scenes}, every: 1, recipes: [area], metrics: [l1], best: l1}
checkpoint: {every: 1, keep_last: 1}
tracking: {every: 1, tensorboard: false, csv: true, bands: [2, 1, 0]}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Start a training on one scene of four bands; extra words change its settings. Returns the run's folder."""
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    smooth = np.random.default_rng(0).normal(0, 30, (4, 32, 32)).cumsum(2)
    np.save(scenes / "a.npy", (500 + smooth).astype(np.float32))
    preset = tmp_path / "preset.yaml"
    preset.write_text(PRESET)
    words = [f"data.root={scenes}", f"validation.root={scenes}", f"output_dir={tmp_path / 'run'}"]
    return lambda *more: train(load_config(str(preset), [*words, *more]))


def scalars(folder: Path, name: str) -> dict[int, float]:
    with (folder / "scalars.csv").open(newline="") as file:
        return {int(row["step"]): float(row["value"]) for row in csv.DictReader(file) if row["name"] == name}


def steps_kept(folder: Path) -> set[int]:
    return {int(each.name.rpartition("-")[2]) for each in checkpoints(folder)}


def test_a_run_that_gets_no_better_stops(run, caplog):
    caplog.set_level("INFO")
    folder = run("max_steps=20", "validation.stop_after=3", "generator.optimiser.lr=0")
    assert (
        max(scalars(folder, "val/area/l1")) == 4
    )  # the first is the best there is; then three without a better one
    assert "stopped: 3 validations without a new best (validation.stop_after)" in caplog.text
    assert (folder / "generator.safetensors").is_file()


def test_a_run_that_gets_better_goes_on(run):
    folder = run("max_steps=5", "validation.stop_after=2", "generator.optimiser.lr=1e-3")
    found = scalars(folder, "val/area/l1")
    assert max(found) == 5
    assert found[5] < found[1]


def test_misses_are_counted_on_where_a_run_goes_on(run):
    folder = run("max_steps=2", "validation.stop_after=3", "generator.optimiser.lr=0")
    assert max(scalars(folder, "val/area/l1")) == 2
    run("max_steps=20", "validation.stop_after=3", "generator.optimiser.lr=0")
    assert max(scalars(folder, "val/area/l1")) == 4


@pytest.mark.parametrize("count", [1, 3])
def test_the_best_checkpoints_are_kept(run, count):
    # Steps of this size go up and down.
    folder = run("max_steps=8", f"checkpoint.keep_best={count}", "generator.optimiser.lr=0.05")
    found = scalars(folder, "val/area/l1")
    assert sorted(found.values()) != [found[step] for step in sorted(found)]
    ranked = sorted((step for step in found if step > 0), key=found.__getitem__)
    assert steps_kept(folder) == {*ranked[:count], 8}


def test_weights_and_biases_without_a_network(run, monkeypatch):
    """The package itself, in its offline mode: everything lands in the run's folder."""
    pytest.importorskip("wandb", reason="needs the extra track")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = run(
        "max_steps=2", "tracking.wandb=mine", "tracking.images_every=1", "tracking.histograms_every=1"
    )
    (written,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content = written.read_bytes()
    for name in (b"loss/l1", b"val/area/l1", b"generator"):
        assert name in content
    pictures = list(written.parent.glob("files/media/images/**/*.png"))
    assert pictures
    assert (folder / tracking.WANDB_ID).read_text().strip() == written.stem.removeprefix("run-")


class FakeRun:
    def __init__(self, made: list, **options):
        made.append(options)
        self.id = options["id"] or "new-id"

    def log(self, *_args, **_kwargs):
        pass

    def finish(self):
        pass


@pytest.mark.tiny
def test_a_resumed_run_goes_on_with_the_same_one_of_weights_and_biases(photos, tmp_path, monkeypatch):
    """A server gives the names, so two functions stand here for it; the test above runs the package without one."""
    made: list = []
    package = SimpleNamespace(init=lambda **options: FakeRun(made, **options), Image=lambda image: image)
    monkeypatch.setitem(sys.modules, "wandb", package)
    for steps in (2, 4):
        train(tiny(photos, tmp_path, steps, "tracking.wandb=mine"))
    assert [(options["id"], options["resume"]) for options in made] == [(None, "allow"), ("new-id", "allow")]


@pytest.mark.tiny
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'onestep-restore\[track\]'$"):
        tracking.WeightsAndBiases("mine", tmp_path, {}, resumed=False)


def test_every_tracker_gets_the_same(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra track")
    pytest.importorskip("tensorboard", reason="needs the extra train")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = TrackingConfig(tensorboard=True, csv=True, wandb="mine")
    trackers = tracking.open_trackers(config, tmp_path, start_step=0, settings={})
    assert len(trackers.trackers) == 3
    trackers.scalars(1, {"loss/l1": 0.5})
    trackers.picture(1, "shown", torch.rand(3, 8, 8))
    trackers.histogram(1, "numbers", torch.rand(4, 100))
    trackers.close()
    assert not trackers.failing
    assert (tmp_path / "scalars.csv").read_text().splitlines()[1:] == ["1,loss/l1,0.5"]
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


def test_bands_are_counted_and_pictures_of_one_size_are_shown(run):
    """TensorBoard's own reader finds a histogram of every band, and low quality, result and target in a row."""
    pytest.importorskip("tensorboard", reason="needs the extra train")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run(
        "max_steps=2", "validation=null", "tracking.tensorboard=true", "tracking.images_every=1",
        "tracking.histograms_every=2",
        "discriminators.judge={name: patch, options: {features: 2, layers: 1, scales: 2}, weight: 0.1}",
    )  # fmt: skip
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    bands = {f"values/{what}_{band}" for what in ("restored", "target") for band in range(4)}
    assert bands <= set(tags["histograms"])
    (counted,) = events.Histograms("values/target_3")
    assert counted.step == 2
    assert counted.histogram_value.num == 2 * 16 * 16
    assert "loss/l1" in tags["scalars"]
    assert "logits/judge_fake" in tags["scalars"]
    (counted,) = events.Histograms("logits/judge_real")
    assert counted.histogram_value.num == 2 * (6**2 + 2**2)  # a logit of every patch at both scales
    first = events.Images("train/lq_restored_target")[0]
    assert (first.width, first.height) == (
        3 * 18,
        2 * 18,
    )  # three pictures of 16 px and their frames, two pairs


def test_a_grid_enlarges_all_to_the_largest():
    small, large = torch.rand(3, 4, 6), torch.rand(1, 8, 12)
    grid = tracking.picture_grid([(small, large)])
    assert grid.shape == (3, 10, 28)
    assert torch.equal(grid[:, 1:9, 1:13], small.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert torch.equal(grid[:, 1:9, 15:27], large.expand(3, -1, -1))
    assert (grid[:, 0] == 1).all()
    assert (grid[:, :, 13:15] == 1).all()


def test_wrong_numbers_are_refused(run):
    with pytest.raises(HypirError, match=r"stop_after"):
        run("max_steps=2", "validation.stop_after=-1")
