"""Losses, masks and metrics of bands, stated in YAML and trained with."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from hypir_core.errors import ConfigError
from train.config import load_config
from train.options import check_options
from train.run.recipe import train

pytestmark = pytest.mark.tiny

PRESET = """
max_steps: 2
losses:
  l1: {weight: 1.0}
  red: {kind: l1, bands: [0], domain: unit, weight: 0.5, ramp: {shape: linear, start: 0, length: 2}}
  sam: {weight: 0.05}
  histogram: {weight: 0.1, bands: [[0, 1], [2]]}
  tv: {weight: 0.01, domain: unit, options: {beyond_target: false}}
  vgg19: {weight: 0.1, options: {layers: {"1_2": 1}, pretrained: false}}
  deep: {kind: custom, weight: 0.1, options: {target: "torch.nn.functional:relu"}}
discriminators:
  judge:
    name: unet
    options: {features: 4, depth: 2}
    loss: wasserstein
    weight: 0.01
    r1: {gamma: 1, every: 1, over: sum}
    feature_matching: {weight: 0.1}
"""


def test_a_run_with_every_way_to_state_a_loss(photos, tmp_path):
    base = Path("train/presets/tiny_cpu_pixel.yaml").read_text(encoding="utf-8")
    head = base[: base.index("losses:")] + base[base.index("data:") :]
    (tmp_path / "mine.yaml").write_text(head + PRESET, encoding="utf-8")
    config = load_config(
        str(tmp_path / "mine.yaml"),
        [
            f"data.root={photos}", f"output_dir={tmp_path / 'run'}", f"validation.root={photos}", "validation.count=1",
            "validation.metrics=[sam, ergas, consistency]", "validation.best=ergas", "tracking.every=1",
        ],
    )  # fmt: skip
    check_options(config)
    train(config)
    with next((tmp_path / "run").rglob("*.csv")).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["name"], []).append(float(row["value"]))
    for name in (*config.losses, "judge", "judge_features", "judge_own", "judge_r1"):
        assert all(math.isfinite(value) for value in values[f"loss/{name}"])
    assert values["weighted/red"][-1] == pytest.approx(0.25 * values["loss/red"][-1])
    assert {f"val/bicubic/{metric}_gain" for metric in ("sam", "ergas", "consistency")} <= values.keys()
    assert (tmp_path / "run" / "generator_best.safetensors").is_file()


def test_losses_that_do_not_suit_a_generator_of_bands_are_all_listed():
    config = load_config(
        "tiny_cpu_pixel",
        [
            "data.root=photos", "output_dir=out", "max_steps=1", "generator.options.in_channels=4",
            "generator.options.out_channels=4", "losses.vgg19.weight=1", "losses.infra={kind: l1, bands: [4]}",
            "losses.wide={kind: l11}", "losses.sam.slices=[0]",
        ],
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        check_options(config)
    text = str(caught.value)
    for said in (
        "losses.vgg19.options.channels: what sees three colours cannot see the generator's 4 channels",
        "losses.infra.bands: expected numbers from 0 to 3, got 4",
        "unknown loss 'l11' (did you mean 'l1'",
        "losses.sam.slices: belongs to volumes",
    ):
        assert said in text
