"""`span` from training to the programs that read its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train as train_folder
from hypir_core import load_engine
from train.config import TrainConfig, load_config
from train.run.recipe import train

pytestmark = pytest.mark.tiny


def settings(photos: Path, out: Path, steps: int, *more: str) -> TrainConfig:
    tiny = (Path(train_folder.__file__).parent / "presets/tiny_cpu_pixel.yaml").read_text(encoding="utf-8")
    preset = out.with_suffix(".yaml")
    changed = tiny.replace("compact", "span").replace(
        "{features: 8, blocks: 2, scale: 2}", "{features: 4, scale: 2}"
    )
    preset.write_text(changed, encoding="utf-8")
    return load_config(str(preset), [f"data.root={photos}", f"output_dir={out}", f"max_steps={steps}", *more])


@torch.no_grad()
def test_what_training_writes_runs_here_and_in_the_stock_loader_alike_and_can_be_started_from(
    photos, tmp_path
):
    spandrel = pytest.importorskip("spandrel", exc_type=ImportError)
    first = settings(photos, tmp_path / "first", 2)
    with torch.enable_grad():
        train(first)
    path = first.output_dir / "generator_ema.safetensors"
    ours = load_engine(
        "upscaler", options={"weights": str(path)}, device=torch.device("cpu"), dtype="float32"
    )
    stock = spandrel.ModelLoader(device="cpu").load_from_file(path)
    assert stock.architecture.id == "SPAN"
    x = torch.rand(1, 3, 20, 24)
    torch.testing.assert_close(ours.net(x), stock.model.eval()(x), atol=1e-5, rtol=0)
    again = settings(photos, tmp_path / "again", 1, f"base_model={path}", "generator.optimiser.lr=0")
    with torch.enable_grad():
        train(again)
    went_on, start = load_file(again.output_dir / "generator.safetensors"), load_file(path)
    assert went_on.keys() == start.keys()
    assert all(torch.equal(went_on[name], tensor) for name, tensor in start.items())
