"""Fixed pairs that are never trained on, and how well they are restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hypir_core.degrade import degrade
from hypir_core.image.resize import resize
from hypir_core.metrics.fidelity import psnr_y, ssim

from .config import ValidationConfig
from .data.batch import Batch
from .data.degrading import recipe_for
from .data.folder import open_folder, read_rgb
from .data.seeds import generator_for
from .ema import Ema
from .players import load_trained_state, trained_state
from .tracking import picture_grid

LEAST_PX = 64


@dataclass(frozen=True, eq=False)
class FixedPairs:
    """For every recipe, pairs of pictures of any size; each a batch of one, on the CPU."""

    by_recipe: Mapping[str, tuple[Batch, ...]]
    bicubic: Mapping[str, Mapping[str, float]]
    """Per recipe, the metrics of plain bicubic enlargement."""
    config: ValidationConfig


@dataclass(frozen=True, eq=False)
class Validated:
    """What one validation found."""

    scalars: Mapping[str, float]
    """``val/<recipe>/<metric>`` and ``…_gain`` over bicubic."""
    score: float
    """Mean over the recipes of the metric that decides which checkpoint is best."""
    grid: Tensor | None
    """Rows of low quality, bicubic, restored, target; [3 H W]."""


def fixed_pairs(config: ValidationConfig, *, scale: int) -> FixedPairs:
    """Read and degrade the first `count` pictures, the same way every time, and measure bicubic on them."""
    folder = open_folder(config.root, key="validation.root", least_px=max(LEAST_PX, 16 * scale))
    by_recipe = {}
    for recipe_name in config.recipes:
        recipe = recipe_for(recipe_name)
        pairs = []
        for index, path in enumerate(folder.files[: config.count]):
            hq_01 = _cut_to_multiple(read_rgb(path), scale)[None].float() / 255
            generator = generator_for(config.seed, "validation", index)
            done = degrade(hq_01, recipe, generator=generator, scale=scale)
            pairs.append(Batch(done.target_01, done.lq_01))
        by_recipe[recipe_name] = tuple(pairs)
    bicubic = {name: _mean_metrics(pairs, _enlarge) for name, pairs in by_recipe.items()}
    return FixedPairs(by_recipe, bicubic, config)


def validate(pairs: FixedPairs, restore: Callable[[Batch], Tensor]) -> Validated:
    """Measure `restore` (a batch in, images [0,1] on the CPU out) on every pair."""
    scalars: dict[str, float] = {}
    scores, rows = [], []
    for name, batches in pairs.by_recipe.items():
        metrics = _mean_metrics(batches, restore)
        for metric, value in metrics.items():
            scalars[f"val/{name}/{metric}"] = value
            scalars[f"val/{name}/{metric}_gain"] = value - pairs.bicubic[name][metric]
        scores.append(metrics[pairs.config.best])
        rows += [
            [batch.lq_01[0], _enlarge(batch)[0], restore(batch)[0], batch.hq_01[0]]
            for batch in batches[: pairs.config.images]
        ]
    return Validated(scalars, sum(scores) / len(scores), picture_grid(rows) if rows else None)


@contextmanager
def averaged_weights(module: torch.nn.Module, ema: Ema | None) -> Iterator[None]:
    """Give `module` (unwrapped) the moving average and evaluation mode inside the block."""
    training = module.training
    own = {name: tensor.clone() for name, tensor in trained_state(module).items()} if ema else {}
    module.eval()
    try:
        if ema:
            load_trained_state(module, ema.shadow)
        yield
    finally:
        if ema:
            load_trained_state(module, own)
        module.train(training)


def _mean_metrics(batches: tuple[Batch, ...], restore: Callable[[Batch], Tensor]) -> dict[str, float]:
    totals = {"psnr_y": 0.0, "ssim": 0.0}
    for batch in batches:
        image_01 = restore(batch).clamp(0, 1).mul(255).round().div(255)
        totals["psnr_y"] += float(psnr_y(image_01, batch.hq_01))
        totals["ssim"] += float(ssim(image_01, batch.hq_01))
    return {name: total / len(batches) for name, total in totals.items()}


def _enlarge(batch: Batch) -> Tensor:
    return resize(batch.lq_01, (batch.hq_01.shape[-2], batch.hq_01.shape[-1]))


def _cut_to_multiple(picture: Tensor, scale: int) -> Tensor:
    height, width = (side - side % scale for side in picture.shape[-2:])
    return picture[..., :height, :width]
