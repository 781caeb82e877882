"""Fixed pairs that are never trained on, and how well they are restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hypir_core.image.resize import resize
from hypir_core.metrics.fidelity import psnr, psnr_y, ssim

from ..config import LpipsConfig, ValidationConfig
from ..data.batch import Batch
from ..data.fixed import read_fixed
from ..data.source import COLOUR, Channels
from ..ema import Ema
from ..losses.perceptual import Lpips
from ..players import load_trained_state, trained_state
from .tracking import picture_grid

LEAST_PX = 64

Metric = Callable[[Tensor, Tensor], Tensor]
"""(image, target), both [1 3 h w], [0,1] in steps of 1/255 → a number."""

LESS_IS_BETTER = {"lpips"}


@dataclass(frozen=True, eq=False)
class FixedPairs:
    """For every recipe, pairs of pictures of any size; each a batch of one, on the CPU."""

    by_recipe: Mapping[str, tuple[Batch, ...]]
    bicubic: Mapping[str, Mapping[str, float]]
    """Per recipe, the metrics of plain bicubic enlargement."""
    metrics: Mapping[str, Metric]
    config: ValidationConfig


@dataclass(frozen=True, eq=False)
class Validated:
    """What one validation found."""

    scalars: Mapping[str, float]
    """``val/<recipe>/<metric>`` and ``…_gain``, by how much that is better than bicubic."""
    score: float
    """Mean over the recipes of the metric that decides which checkpoint is best; more is better, so LPIPS
    counts negative."""
    grid: Tensor | None
    """Rows of low quality, bicubic, restored, target; [3 H W]."""


def fixed_pairs(
    config: ValidationConfig, *, scale: int, grain_px: int, channels: Channels = COLOUR
) -> FixedPairs:
    """Read and degrade the first `count` pictures, the same way every time, and measure bicubic on them."""
    least_px = max(LEAST_PX, 16 * scale, grain_px)
    by_recipe = read_fixed(config, scale=scale, grain_px=grain_px, least_px=least_px, channels=channels)
    metrics: dict[str, Metric] = fidelity_of(channels.hq)
    if config.lpips:
        metrics["lpips"] = _lpips(config.lpips)
    bicubic = {
        name: _means([_measure(metrics, _enlarge(batch), batch) for batch in pairs])
        for name, pairs in by_recipe.items()
    }
    return FixedPairs(by_recipe, bicubic, metrics, config)


def fidelity_of(channels: int) -> dict[str, Metric]:
    """Return the measures of pictures of so many channels.

    Bands have no luma: there ``psnr_y`` is the PSNR over all bands, and ``ssim`` the mean of the bands' own.
    """
    if channels in {1, 3}:
        return {"psnr_y": psnr_y, "ssim": ssim}
    return {
        "psnr_y": psnr,
        "ssim": lambda image, target: ssim(image.transpose(0, 1), target.transpose(0, 1)).mean(),
    }


def validate(pairs: FixedPairs, restore: Callable[[Batch], Tensor]) -> Validated:
    """Measure `restore` (a batch in, images [0,1] on the CPU out) on every pair."""
    scalars: dict[str, float] = {}
    scores, rows = [], []
    for name, batches in pairs.by_recipe.items():
        measured = []
        for number, batch in enumerate(batches):
            image_01 = restore(batch)
            measured.append(_measure(pairs.metrics, image_01, batch))
            if number < pairs.config.images:
                rows.append([batch.lq_01[0], _enlarge(batch)[0], image_01[0], batch.hq_01[0]])
        means = _means(measured)
        for metric, value in means.items():
            scalars[f"val/{name}/{metric}"] = value
            scalars[f"val/{name}/{metric}_gain"] = _sign(metric) * (value - pairs.bicubic[name][metric])
        scores.append(_sign(pairs.config.best) * means[pairs.config.best])
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


@torch.no_grad()
def _measure(metrics: Mapping[str, Metric], image_01: Tensor, batch: Batch) -> dict[str, float]:
    image_01 = image_01.clamp(0, 1).mul(255).round().div(255)
    return {name: float(metric(image_01, batch.hq_01)) for name, metric in metrics.items()}


def _means(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in measured) / len(measured) for name in measured[0]}


def _sign(metric: str) -> int:
    return -1 if metric in LESS_IS_BETTER else 1


def _lpips(config: LpipsConfig) -> Metric:
    lpips = Lpips(config, key="validation.lpips")
    return lambda image_01, target_01: lpips(image_01 * 2 - 1, target_01 * 2 - 1)


def _enlarge(batch: Batch) -> Tensor:
    return resize(batch.lq_01, (batch.hq_01.shape[-2], batch.hq_01.shape[-1]))
