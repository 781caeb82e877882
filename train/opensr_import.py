"""``python -m train import-opensr config.yaml``: settings of opensr-srgan 0.5.1 as a preset of ours."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypir_core.config import load_yaml, to_plain
from hypir_core.errors import ConfigError, nearest_hint
from hypir_core.weights.opensr_config import bands_of, describe_generator, describe_range

from .opensr_config import describe_discriminator

NO_MEANING = {
    "Data.val_batch_size": "validation measures one picture at a time",
    "Data.prefetch_factor": "every worker works four batches ahead",
    "Training.device": "the GPU is used where there is one; cpu: true says otherwise",
    "Training.gpus": "start with: accelerate launch --num_processes N -m train …",
    "Training.max_epochs": "max_steps counts steps: set it",
    "Training.val_check_interval": "validation.every counts steps: set it",
    "Training.find_unused_parameters": "nothing is unused",
    "Training.Losses.max_val": "white is what ranges say",
    "Training.Losses.ssim_win": "SSIM's window is 11 pixels",
    "Schedulers.verbose": "a lowered learning rate is always logged",
    "Logging.wandb.entity": "Weights & Biases takes it from the environment (WANDB_ENTITY)",
    "Training.EMA.device": "the average lies where the weights do; the original does not use the key either",
    "Data.sen2naip_taco_file": "give the pictures as folders: data.root and data.source.lq_root",
    "Data.sen2naip_phase": "data.root and validation.root are two places",
    "Data.sen2naip_val_fraction": "data.root and validation.root are two places",
}
"""Keys that ours has no word for → what to do, or why nothing is needed."""

METRICS = {
    "val_metrics/l1": "val/l1",
    "val_metrics/sam": "val/sam",
    "val_metrics/psnr": "val/psnr_y",
    "val_metrics/ssim": "val/ssim",
    "validation/DISC_adversarial_loss": "loss/judge_own",
    "discriminator/adversarial_loss": "loss/judge_own",
}
"""Theirs → ours. The loss of a discriminator is that of its training."""

MORE_IS_BETTER = {"val/psnr_y", "val/ssim"}

MAX_STEPS = 500_000
WANTS_ROOT = "FOLDER"

PREAMBLE = """\
# From {name} of opensr-srgan, by: python -m train import-opensr {name}
# python -m train THIS_FILE data.root=… data.source.lq_root=… output_dir=runs/one max_steps=…"""


@dataclass
class Imported:
    """A preset, and what it could not say."""

    settings: dict[str, Any]
    unsaid: list[str] = field(default_factory=list)
    """One line per key: ``key: value: what to do``."""


class _Reader:
    """Hands out keys and remembers which were asked for."""

    def __init__(self, config: Mapping[str, Any]):
        self._flat = dict(_flat(config))
        self.left = set(self._flat)

    def get(self, key: str, otherwise: Any = None) -> Any:
        self.left.discard(key)
        value = self._flat.get(key)
        return otherwise if value is None else value

    def number(self, key: str, otherwise: float) -> float:
        value = self.get(key, otherwise)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{key} must be a number, got {value!r}") from None

    def has(self, key: str) -> bool:
        return self._flat.get(key) is not None


def import_settings(config: Mapping[str, Any]) -> Imported:
    """Return the preset that trains as settings of opensr-srgan do, in the order and with the numbers of the original.

    Its `global_step` counts the moves of both sides, so a ramp of n is over after n/2 batches; the preset says that.

    Raises:
        ConfigError: a value is not what the original takes.
        UnknownNameError: a generator, discriminator or normalisation that it does not have.
    """
    read = _Reader(config)
    generator, range_ = describe_generator(config), to_plain(describe_range(config))
    for key in list(read.left):
        if key.split(".")[0] in {"Generator", "Discriminator"} or key.startswith("Data.normalization"):
            read.get(key)
    read.get("Model.in_bands")
    bands = bands_of(config)
    pretrain = int(read.number("Training.g_pretrain_steps", 0))
    pretrain = pretrain if read.get("Training.pretrain_g_only", False) else 0
    settings: dict[str, Any] = {
        "seed": int(read.number("Training.seed", 231)),
        "precision": "fp32",
        "max_steps": MAX_STEPS,
        "turn": "discriminators_first",
        "ranges": {"lr": _short(range_)},
        "generator": {
            "name": generator.architecture,
            "options": dict(generator.options),
            "optimiser": _optimiser(read, "g"),
            "ema": _ema(read),
        },
        "losses": _losses(read, bands),
        "discriminators": {"judge": _judge(read, config, pretrain)},
        "data": _data(read),
        "tracking": {"tensorboard": True, "csv": True},
    }
    judge = settings["discriminators"]["judge"]
    unsaid = [*generator.notes, *describe_discriminator(config).notes]
    if read.get("Training.Losses.relativistic_average_d", False):
        judge["loss_options"].pop("generator_label", None)
    settings["validation"] = _validation(read, settings)
    if read.get("Logging.wandb.enabled", False):
        settings["tracking"]["wandb"] = str(read.get("Logging.wandb.project", "opensr"))
    else:
        read.get("Logging.wandb.project")
    if read.has("Logging.output_dir"):
        settings["output_dir"] = str(read.get("Logging.output_dir"))
    unsaid += [
        f"{key}: {path}: hypir convert {path} start.safetensors --config …, then base_model: start.safetensors"
        for key in ("Model.continue_training", "Model.load_checkpoint")
        if (path := read.get(key, False)) not in (False, "False")
    ]
    kind = read.get("Data.dataset_type")
    if kind not in {None, "LRHRFolderDataset"}:
        unsaid.append(f"Data.dataset_type: {kind}: give its pictures as folders, see data.root")
    for key in sorted(read.left):
        if (value := read.get(key)) is not None:
            why = NO_MEANING.get(key) or f"unknown key{nearest_hint(key, NO_MEANING)}"
            unsaid.append(f"{key}: {value}: {why}")
    return Imported(settings, unsaid)


def _optimiser(read: _Reader, side: str) -> dict[str, Any]:
    lr_g = read.number("Optimizers.optim_g_lr", 1e-4)
    lr = lr_g if side == "g" else read.number("Optimizers.optim_d_lr", max(lr_g * 0.5, 1e-6))
    clip = read.number("Optimizers.gradient_clip_val", read.number("Schedulers.gradient_clip_val", 0.0))
    patience = int(read.number("Schedulers.patience_g", 5))
    factor = read.number("Schedulers.factor_g", 0.5)
    if side == "d":
        patience = int(read.number("Schedulers.patience_d", patience))
        factor = read.number("Schedulers.factor_d", factor)
    otherwise = {"g": "val_metrics/l1", "d": "validation/DISC_adversarial_loss"}[side]
    theirs = str(read.get(f"Schedulers.metric_{side}", otherwise))
    metric = METRICS.get(theirs, theirs)
    found: dict[str, Any] = {
        "kind": "adam",
        "lr": lr,
        "betas": [float(beta) for beta in read.get("Optimizers.betas", [0.0, 0.99])],
        "eps": read.number("Optimizers.eps", 1e-7),
        "weight_decay": read.number(f"Optimizers.weight_decay_{side}", 0.0),
        "decay_slopes": True,
        "clip_norm": clip,
        "plateau": {
            "metric": metric,
            **({"better": "more"} if metric in MORE_IS_BETTER else {}),
            "factor": factor,
            "patience": patience,
            "cooldown": int(read.number("Schedulers.cooldown", 0)),
            "threshold": read.number("Schedulers.threshold", 1e-3),
            "least": read.number("Schedulers.min_lr", 1e-7),
        },
    }
    if side == "g" and (steps := int(read.number("Schedulers.g_warmup_steps", 0))):
        shape = str(read.get("Schedulers.g_warmup_type", "none")).lower()
        if shape in {"linear", "cosine"}:
            found |= {"warmup_steps": steps, "warmup": shape, "warmup_floor": 0.05}
    elif side == "g":
        read.get("Schedulers.g_warmup_type")
    return found


def _ema(read: _Reader) -> dict[str, Any] | None:
    enabled = read.get("Training.EMA.enabled", False)
    found = {
        "decay": read.number("Training.EMA.decay", 0.999),
        "warmup": bool(read.get("Training.EMA.use_num_updates", True)),
        "first": 1,
        "start": int(read.number("Training.EMA.update_after_step", 0)),
        "copy_buffers": True,
    }
    return found if enabled else None


def _losses(read: _Reader, bands: int) -> dict[str, Any]:
    where = "Training.Losses"
    found: dict[str, Any] = {
        "l1": {"weight": read.number(f"{where}.l1_weight", 1.0), "domain": "unit"},
        "sam": {"weight": read.number(f"{where}.sam_weight", 0.05), "domain": "net"},
        "tv": {
            "weight": read.number(f"{where}.tv_weight", 0.0),
            "domain": "unit",
            "options": {"beyond_target": 0},
        },
    }
    old = read.number("Training.perceptual_loss_weight", 0.1)
    weight = read.number(f"{where}.perceptual_weight", old)
    chosen = read.get(f"{where}.fixed_idx")
    three = [int(each) for each in chosen] if chosen else {1: [0, 0, 0], 2: [0, 1, 0]}.get(bands, [0, 1, 2])
    options: dict[str, Any] = {"channels": three}
    if str(read.get(f"{where}.perceptual_metric", "vgg")).lower() == "lpips":
        found["lpips"] = {"weight": weight, "options": options | {"net": "alex"}}
    else:
        layer = f"{int(read.number('TruncatedVGG.i', 5))}_{int(read.number('TruncatedVGG.j', 4))}"
        found["vgg19"] = {"weight": weight, "options": options | {"layers": {layer: 1.0}, "imagenet": False}}
    return {name: loss for name, loss in found.items() if loss["weight"]}


def _judge(read: _Reader, config: Mapping[str, Any], pretrain: int) -> dict[str, Any]:
    where = "Training.Losses"
    described = describe_discriminator(config)
    real_label = 0.9 if read.get("Training.label_smoothing", False) else 1.0
    relativistic = bool(read.get(f"{where}.relativistic_average_d", False))
    wasserstein = str(read.get(f"{where}.adv_loss_type", "bce")).lower() in {"wasserstein", "wgan"}
    loss, options = "bce", {"real_label": real_label, "generator_label": 1.0, "halve": True}
    if wasserstein:
        loss, options = "wasserstein", {}
    elif relativistic:
        loss, options = "relativistic", {"real_label": real_label, "halve": True}
    length = int(read.number("Training.adv_loss_ramp_steps", 20_000))
    found: dict[str, Any] = {
        "name": described.name,
        "options": {key: value for key, value in described.options.items() if key != "in_channels"},
        "optimiser": _optimiser(read, "d"),
        "loss": loss,
        "loss_options": options,
        "weight": read.number(f"{where}.adv_loss_beta", 1.0),
        "domain": "net",
        "judging": "training",
        "ramp": {
            "shape": str(read.get(f"{where}.adv_loss_schedule", "linear")).lower(),
            "start": pretrain,
            "length": max(1, -(-length // 2)),
            "ahead": 0.5,
        },
    }
    if gamma := read.number(f"{where}.r1_gamma", 0.0):
        found["r1"] = {"gamma": gamma, "over": "sum", "every": 1}
    return found


def _data(read: _Reader) -> dict[str, Any]:
    batch = read.number("Data.train_batch_size", read.number("Data.batch_size", 8))
    root = read.get("Data.root_dir", read.get("Data.dataset_root"))
    base = str(root) if root else WANTS_ROOT
    return {
        "root": f"{base}/train/HR",
        "source": {"kind": "scenes", "lq_root": f"{base}/train/LR"},
        "batch_size": int(batch),
        "crop": "none",
        "hflip": False,
        "workers": int(read.number("Data.num_workers", 4)),
    }


def _validation(read: _Reader, settings: Mapping[str, Any]) -> dict[str, Any]:
    root = settings["data"]["root"].removesuffix("/train/HR")
    metrics = ["sam", "l1"]
    best = settings["generator"]["optimiser"]["plateau"]["metric"].removeprefix("val/")
    return {
        "root": f"{root}/val/HR",
        "source": {"kind": "scenes", "lq_root": f"{root}/val/LR"},
        "count": int(read.number("Training.limit_val_batches", 250)),
        "images": int(read.number("Logging.num_val_images", 5)),
        "metrics": metrics,
        "best": best if best in {"psnr_y", "ssim", *metrics} else "l1",
        "stop_after": 250,
    }


def _short(range_: Mapping[str, Any]) -> dict[str, Any]:
    """Return a range without what is at its default, for a file that people read."""
    usual = to_plain(describe_range({"Data": {"normalization": "identity"}}))
    return {key: value for key, value in range_.items() if key == "kind" or value != usual.get(key)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, below in value.items():
        name = f"{prefix}{key}"
        out |= _flat(below, f"{name}.") if isinstance(below, Mapping) else {name: below}
    return out


def main(arguments: list[str]) -> int:
    """Write the preset to standard output, and what it cannot say into its comments and to standard error."""
    import yaml

    parser = argparse.ArgumentParser(
        prog="python -m train import-opensr", description="Turn settings of opensr-srgan into a preset."
    )
    parser.add_argument("config", type=Path, help="its YAML file")
    path = parser.parse_args(arguments).config
    found = import_settings(load_yaml(path))
    lines = [PREAMBLE.format(name=path.name)]
    if found.unsaid:
        lines.append("# Keys that have no counterpart here:")
        lines += [f"#   {line}" for line in found.unsaid]
    sys.stdout.write("\n".join(lines) + "\n" + yaml.safe_dump(found.settings, sort_keys=False, width=110))
    for line in found.unsaid:
        sys.stderr.write(f"not said: {line}\n")
    return 0
