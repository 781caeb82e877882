"""stats, validate, import-opensr, graphs for other programs, and a run under Lightning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hypir_core.config import build as build_config
from hypir_core.errors import ConfigError, HypirError
from hypir_core.image.ranges import RangeConfig
from hypir_core.models.architectures import build_architecture
from hypir_core.weights.spec import GeneratorSpec
from train.__main__ import main
from train.config import TrainConfig
from train.exporting import graph
from train.exporting.graph import whole_network, write_graph
from train.opensr_import import NO_MEANING, import_settings
from train.options import check_options

NET = {"channels": 4, "blocks": 1, "head_kernel": 3}

PRESET = """
seed: 3
precision: fp32
cpu: true
max_steps: 2
generator:
  name: residual
  options: {block: rcab, channels: 4, blocks: 1, head_kernel: 3, scale: 2, in_channels: 2}
  ema: null
losses: {l1: {weight: 1.0}}
ranges: {lr: {kind: zscore, fit: file, statistics: stats.json}}
data: {source: {kind: scenes}, batch_size: 2, workers: 0, crop_px: 16, degrade: [{recipe: area}]}
validation: {source: {kind: scenes}, every: 2, recipes: [area], metrics: [l1], best: l1, stop_after: 1}
checkpoint: {every: 1, keep_best: 2, keep_last: 1}
tracking: {every: 1, tensorboard: false, csv: true}
"""


def test_from_statistics_to_a_graph(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "scenes").mkdir()
    for name in "ab":
        values = rng.normal(500, 100, (2, 24, 24)).cumsum(2).astype(np.float32)
        np.save(tmp_path / "scenes" / f"{name}.npy", values)
    preset, scenes = tmp_path / "preset.yaml", tmp_path / "scenes"
    preset.write_text(PRESET)
    words = [f"data.root={scenes}", f"validation.root={scenes}", f"output_dir={tmp_path / 'run'}"]
    (tmp_path / "stats.json").write_text("{}")
    assert main(["stats", str(preset), *words, "-o", str(tmp_path / "stats.json")]) == 0
    found = json.loads((tmp_path / "stats.json").read_text())
    whole = np.concatenate([np.load(scenes / f"{n}.npy").reshape(2, -1) for n in "ab"], 1)
    assert len(found["mean"]) == 2
    assert found["count"][0] == 8 * 16 * 16  # two scenes of four tiles, the last ones overlap
    assert found["low"][0] == pytest.approx(whole[0].min(), rel=1e-6)
    assert main([str(preset), *words]) == 0
    capsys.readouterr()
    assert main(["validate", str(preset), *words]) == 0
    said = capsys.readouterr().out
    assert "step 2 of" in said
    logged = [line.split(",") for line in (tmp_path / "run" / "scalars.csv").read_text().splitlines()]
    l1 = next(float(value) for step, name, value in logged if (step, name) == ("2", "val/area/l1"))
    assert (
        f"area/l1 {'':<24} {l1:.5g}".split() == next(x for x in said.splitlines() if "area/l1 " in x).split()
    )
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "net.ts")]) == 0
    script = torch.jit.load(tmp_path / "net.ts")
    image = torch.rand(1, 2, 10, 14) * 1000
    assert script(image).shape == (1, 2, 20, 28)
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "net.tflite")]) == 2
    assert "ends in .safetensors, .onnx or .ts" in capsys.readouterr().err


def spec(architecture: str, dims: int, **more) -> GeneratorSpec:
    return GeneratorSpec(
        name="x", architecture=architecture, dims=dims, scale=2, in_channels=2, out_channels=2,
        trained_on="none", trained_with="test", licence="none", **more,
    )  # fmt: skip


def tensors_of(each: GeneratorSpec):
    data = {**each.options, "in_channels": 2, "scale": 2, "dims": each.dims}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_architecture(each.architecture, data, where="test").state_dict()


@pytest.mark.parametrize("ending", [".ts", ".onnx"])
@pytest.mark.parametrize(("block", "dims"), [("rcab", 2), ("lka", 3)])
def test_graphs_agree_with_torch_on_any_size(tmp_path, ending, block, dims):
    if ending == ".onnx":
        pytest.importorskip("onnxruntime", reason="a file for ONNX needs the extra export")
    wants = RangeConfig.from_json({"kind": "white", "white": 1000.0})
    each = spec("residual", dims, options={**NET, "block": block}, value_range=wants)
    write_graph(tmp_path / f"net{ending}", tensors_of(each), each)
    content = (tmp_path / f"net{ending}").read_bytes()
    image = torch.rand(2, 2, *((9, 21) if dims == 2 else (4, 7, 9))) * 1000
    found = (graph._run_onnx if ending == ".onnx" else graph._run_torchscript)(content, image)
    with torch.no_grad():
        expected = whole_network(tensors_of(each), each, Path("net"))(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


def test_a_graph_that_differs_is_not_written_and_what_cannot_be_one_is_said(tmp_path, monkeypatch):
    each = spec("residual", 2, options={**NET, "block": "res"})
    monkeypatch.setattr(graph, "_run_torchscript", lambda content, image: whole(image) + 0.1)
    whole = whole_network(tensors_of(each), each, Path("net"))
    with pytest.raises(HypirError, match="gives other results than torch"):
        write_graph(tmp_path / "net.ts", tensors_of(each), each)
    assert not (tmp_path / "net.ts").exists()
    fitted = spec("residual", 2, value_range=RangeConfig.from_json({"kind": "percentile"}))
    with pytest.raises(ConfigError, match="fitted on each picture, which a graph cannot do"):
        whole_network({}, fitted, Path("net"))
    drawn = spec("stochastic", 2, options={"channels": 4, "blocks": 1, "noise_dim": 4, "head_kernel": 3})
    with pytest.raises(ConfigError, match="draws a latent"):
        whole_network({}, drawn, Path("net"))


THEIRS = {
    "Data": {"train_batch_size": 6, "val_batch_size": 4, "num_workers": 2, "prefetch_factor": 2,
             "dataset_type": "SEN2NAIP", "normalization": "normalise_10k"},
    "Model": {"in_bands": 6, "continue_training": False, "load_checkpoint": "old.ckpt"},
    "Training": {"device": "cuda", "gpus": [0, 1], "max_epochs": 9, "val_check_interval": 1.0, "limit_val_batches": 100,
                 "pretrain_g_only": True, "g_pretrain_steps": 500, "adv_loss_ramp_steps": 51, "label_smoothing": True,
                 "EMA": {"enabled": False, "decay": 0.999, "update_after_step": 0, "use_num_updates": True},
                 "Losses": {"adv_loss_type": "bce", "relativistic_average_d": False, "adv_loss_beta": 1e-3,
                            "adv_loss_schedule": "linear", "r1_gamma": 0.5, "l1_weight": 1.0, "sam_weight": 0.0,
                            "perceptual_weight": 0.1, "perceptual_metric": "vgg", "tv_weight": 0.25, "max_val": 1.0,
                            "ssim_win": 11, "colour": 1}},
    "Generator": {"model_type": "rcab", "n_channels": 8, "n_blocks": 2, "scaling_factor": 8, "growth_channels": 32},
    "Discriminator": {"model_type": "patchgan", "n_blocks": 2, "base_channels": 64},
    "Optimizers": {"optim_g_lr": "1e-5", "gradient_clip_val": 0, "weight_decay_g": 0.1},
    "Schedulers": {"g_warmup_steps": 7, "g_warmup_type": "linear", "metric_g": "val_metrics/ssim", "patience_g": 3},
    "Logging": {"num_val_images": 5, "wandb": {"enabled": True, "entity": "me", "project": "sr"}},
}  # fmt: skip


def test_settings_of_opensr_become_a_preset_that_is_accepted(tmp_path, capsys):
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(THEIRS))
    assert main(["import-opensr", str(tmp_path / "theirs.yaml")]) == 0
    out = capsys.readouterr().out
    settings = yaml.safe_load(out)
    config = build_config(TrainConfig, settings | {"output_dir": "x"})
    check_options(config)
    judge, generator = config.discriminators["judge"], config.generator
    assert (generator.name, generator.options["block"], generator.options["scale"]) == ("residual", "rcab", 8)
    assert (judge.name, judge.options["layers"], judge.ramp.start, judge.ramp.length) == (
        "patchgan",
        2,
        500,
        26,
    )
    assert (generator.optimiser.lr, judge.optimiser.lr) == (1e-5, 5e-6)
    assert generator.optimiser.plateau is not None
    assert (generator.optimiser.plateau.better.value, generator.optimiser.plateau.patience) == ("more", 3)
    assert {name: loss.weight for name, loss in config.losses.items()} == {
        "l1": 1.0,
        "tv": 0.25,
        "vgg19": 0.1,
    }
    assert judge.r1 is not None
    assert (judge.r1.gamma, judge.r1.over.value, judge.r1.every) == (0.5, "sum", 1)
    assert config.ranges.lr.white == 10_000
    assert config.tracking.wandb == "sr"
    # Every key is in the preset, or named with what to do.
    for key in ("Data.val_batch_size", "Training.gpus", "Training.max_epochs", "Logging.wandb.entity"):
        assert f"#   {key}: " in out
        assert NO_MEANING[key] in out
    assert "Model.load_checkpoint: old.ckpt: hypir convert old.ckpt" in out
    assert "Training.Losses.colour: 1: unknown key" in out
    assert "Generator: growth_channels have no effect" in out
    with pytest.raises(ConfigError, match=r"Optimizers\.optim_g_lr must be a number, got 'fast'"):
        import_settings({**THEIRS, "Optimizers": {"optim_g_lr": "fast"}})


def test_a_run_under_lightning_is_the_same_run(photos, tmp_path):
    lightning = pytest.importorskip("lightning", reason="needs Lightning, which nothing else here does")
    from train.config import load_config
    from train.lightning import lightning_module
    from train.run.building import build
    from train.run.recipe import train

    words = [f"data.root={photos}", "max_steps=3", "validation=null", "generator.ema=null"]
    folder = train(load_config("tiny_cpu_pixel", [*words, f"output_dir={tmp_path / 'ours'}"]))
    run = build(load_config("tiny_cpu_pixel", [*words, f"output_dir={tmp_path / 'theirs'}"]))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(lightning_module(run))
    from safetensors.torch import load_file

    ours = load_file(folder / "generator.safetensors")
    theirs = run.player.module.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
