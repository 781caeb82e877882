"""What training exports is what `hypir restore` restores with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hypir_core.cli.app import app
from hypir_core.physics.specimens import SPECIMENS
from tests.train.interrupted import train_until
from train.__main__ import main as train_command
from train.config import load_config
from train.data.batch import Batch
from train.data.measured import Measured
from train.data.synthetic import Synthetic
from train.run.building import build
from train.run.recipe import train

pytest.importorskip("diffusers", reason="the network is the one of diffusers")
tifffile = pytest.importorskip("tifffile", reason="16-bit files are TIFF")

GAIN, OFFSET = 200, 100


def test_stopped_resumed_and_exported_the_command_line_restores_like_the_trainers_average(tmp_path):
    config = load_config(
        "pixel_one_step",
        [
            f"output_dir={tmp_path / 'run'}",
            "max_steps=3",
            "checkpoint.every=1",
            "precision=fp32",
            "validation=null",
            "generator.options={channels: [8, 16], groups: 4, layers: 1}",
            "data.crop_px=16",
            "data.margin_px=8",
            "data.batch_size=2",
            "data.source.options.side_px=32",
            "generator.optimiser.warmup_steps=0",
        ],
    )
    train_until(2, config)
    train(config)
    weights = tmp_path / "mine.safetensors"
    newest = tmp_path / "run" / "checkpoints" / "step-00000003"
    assert train_command(["export", str(newest), "-o", str(weights)]) == 0
    truth = Synthetic(Path("held-out"), side_px=36)[1]
    exposed = Measured(config.data.physics).expose(truth, torch.Generator().manual_seed(0), photons=30)
    y_e = exposed.lq * exposed.light[0] + 0.5
    written = (y_e * GAIN + OFFSET).round().to(torch.int32)[0].numpy().astype(np.uint16)
    tifffile.imwrite(tmp_path / "noisy.tif", written)

    run = build(config, write=False)
    run.player.module.load_state_dict(run.player.ema.shadow)
    with torch.no_grad():
        batch = Batch(truth[None], exposed.lq[None], light=exposed.light[None])
        ours = run.task.restore(run.player.module.eval(), batch)
    expected = (ours * exposed.light[0] + 0.5) * GAIN + OFFSET

    options = [f"weights={weights}", f"gain={GAIN}", f"offset_adu={OFFSET}"]
    said = CliRunner().invoke(
        app,
        [
            *("restore", str(tmp_path / "noisy.tif"), "-o", str(tmp_path / "out.tif"), "--engine", "pixel"),
            *("--device", "cpu", "--dtype", "float32", "--bits", "32"),
            *(word for option in options for word in ("--option", option)),
        ],
    )
    assert said.exit_code == 0, said.output
    restored = torch.from_numpy(tifffile.imread(tmp_path / "out.tif")).double()
    assert restored.shape == expected.shape[-2:]
    assert float((restored - expected[0, 0].double()).abs().max()) / 65535 < 1e-5
    assert float((restored - torch.from_numpy(written.astype(np.float64))).abs().max()) > 5
    one_step_less = tmp_path / "earlier.safetensors"
    assert train_command(["export", str(newest.with_name("step-00000002")), "-o", str(one_step_less)]) == 0
    assert one_step_less.read_bytes() != weights.read_bytes()


def test_the_demo_shows_every_specimen(tmp_path, monkeypatch):
    from hypir_core.cli import demo_microscopy

    monkeypatch.setattr(demo_microscopy, "SIDE_PX", 24)
    said = CliRunner().invoke(app, ["demo", "--microscopy", "-o", str(tmp_path), "--device", "cpu"])
    assert said.exit_code == 0, said.output
    assert sorted(p.name for p in tmp_path.glob("*-compare.png")) == sorted(
        f"{kind}-compare.png" for kind in SPECIMENS
    )
    for kind in SPECIMENS:
        assert (tmp_path / f"{kind}-measured.png").stat().st_size > 0
    assert "Richardson-Lucy" in said.output
