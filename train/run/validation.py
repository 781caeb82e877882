"""Fixed pairs that are never trained on, and how well they are restored."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hypir_core.errors import ConfigError
from hypir_core.image.resize import resize
from hypir_core.metrics.fidelity import psnr, psnr_y, ssim

from ..config import LpipsConfig, ValidationConfig
from ..data.batch import Batch
from ..data.degrading import CLEAN, colour_problem
from ..data.fixed import read_fixed
from ..data.source import COLOUR, Channels
from ..losses.perceptual import Lpips
from ..players import load_trained_state, trained_state
from .tracking import picture_grid

LEAST_PX = 64
REALESRGAN = "realesrgan"
"""The recipe that is measured unless others are named."""

Metric = Callable[[Tensor, Tensor], Tensor]
"""(image, target), both [1 3 h w], [0,1] in steps of 1/255 → a number."""

LESS_IS_BETTER = {"lpips"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FixedPairs:
    """For every recipe, pairs of pictures of any size; each a batch of one, on the CPU."""

    by_recipe: Mapping[str, tuple[Batch, ...]]
    bicubic: Mapping[str, Mapping[str, float]]
    """Per recipe, the metrics of plain bicubic enlargement."""
    metrics: Mapping[str, Metric]
    config: ValidationConfig
    hash: str
    """Over the pairs and the metric that decides: scores of different hashes are not compared."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One pair and what was made of it, each [3 h w], [0,1]."""

    name: str
    """``<recipe>-<number>``"""
    lq_01: Tensor
    bicubic_01: Tensor
    restored_01: Tensor
    hq_01: Tensor


@dataclass(frozen=True, eq=False)
class Validated:
    """What one validation found."""

    scalars: Mapping[str, float]
    """``val/<recipe>/<metric>`` and ``…_gain``, by how much that is better than bicubic."""
    score: float
    """Mean over the recipes of the metric that decides which checkpoint is best; more is better, so LPIPS
    counts negative."""
    shown: tuple[Shown, ...]
    """The first pairs of every recipe."""

    @property
    def grid(self) -> Tensor | None:
        """Rows of low quality, bicubic, restored, target; [3 H W]."""
        rows = [(each.lq_01, each.bicubic_01, each.restored_01, each.hq_01) for each in self.shown]
        return picture_grid(rows) if rows else None


def recipes_for(config: ValidationConfig, *, scale: int, channels: int = 3) -> tuple[str, ...]:
    """Return the degradations that are measured for a generator that enlarges by `scale`.

    Raises:
        ConfigError: bicubic is named where nothing is enlarged, so that it changes nothing; or none is named and none
            is known for so many channels.
    """
    if config.source.paired:
        return config.recipes or (REALESRGAN,)  # not used
    if config.recipes is None:
        colour = () if colour_problem(REALESRGAN, channels) else (REALESRGAN,)
        chosen = (*colour, CLEAN) if scale > 1 else colour
        if not chosen:
            raise ConfigError(f"validation.recipes: name a recipe for pictures of {channels} channels")
        return chosen
    if scale == 1 and CLEAN in config.recipes:
        raise ConfigError(
            f"validation.recipes: {CLEAN} only shrinks, and a generator of scale 1 gets pictures of the target's "
            f"size: nothing would be left to restore; name another recipe, for instance {REALESRGAN}"
        )
    return config.recipes


def fixed_pairs(
    config: ValidationConfig, *, scale: int, grain_px: int, channels: Channels = COLOUR
) -> FixedPairs:
    """Read and degrade the first `count` pictures, the same way every time, and measure bicubic on them.

    A pair that bicubic enlargement already makes equal (a plain colour, a partner that is a copy) says nothing:
    its PSNR is infinite. It is left out.

    Raises:
        ConfigError: no pair is left; names the recipe.
    """
    config = replace(config, recipes=recipes_for(config, scale=scale, channels=channels.hq))
    least_px = max(LEAST_PX, 16 * scale, grain_px)
    metrics: dict[str, Metric] = fidelity_of(channels.hq)
    if config.lpips:
        metrics["lpips"] = _lpips(config.lpips)
    by_recipe: dict[str, tuple[Batch, ...]] = {}
    bicubic: dict[str, Mapping[str, float]] = {}
    fixed = read_fixed(config, scale=scale, grain_px=grain_px, least_px=least_px, channels=channels)
    for name, pairs in fixed.items():
        measured = [(pair, _measure(metrics, _enlarge(pair), pair)) for pair in pairs]
        telling = [(pair, values) for pair, values in measured if math.isfinite(values["psnr_y"])]
        if not telling:
            raise ConfigError(
                f"validation.root: {name} leaves nothing to restore in any of the {len(pairs)} pictures; use other "
                "pictures or another recipe"
            )
        if len(telling) < len(pairs):
            log.warning(
                "validation.root: %d of %d pictures are left out for %s, which leaves nothing to restore in them",
                *(len(pairs) - len(telling), len(pairs), name),
            )
        by_recipe[name] = tuple(pair for pair, _ in telling)
        bicubic[name] = _means([values for _, values in telling])
    return FixedPairs(by_recipe, bicubic, metrics, config, _hash_of(by_recipe, config))


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
    scores, shown = [], []
    for name, batches in pairs.by_recipe.items():
        measured = []
        for number, batch in enumerate(batches):
            image_01 = restore(batch)
            measured.append(_measure(pairs.metrics, image_01, batch))
            if number < pairs.config.images:
                lq_01, hq_01, bicubic_01 = batch.lq_01[0], batch.hq_01[0], _enlarge(batch)[0]
                shown.append(Shown(f"{name}-{number}", lq_01, bicubic_01, image_01[0], hq_01))
        means = _means(measured)
        for metric, value in means.items():
            scalars[f"val/{name}/{metric}"] = value
            scalars[f"val/{name}/{metric}_gain"] = _sign(metric) * (value - pairs.bicubic[name][metric])
        scores.append(_sign(pairs.config.best) * means[pairs.config.best])
    return Validated(scalars, sum(scores) / len(scores), tuple(shown))


@contextmanager
def using_weights(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give `module` (unwrapped) other trained tensors and evaluation mode inside the block."""
    training = module.training
    own = {name: tensor.clone() for name, tensor in trained_state(module).items()}
    module.eval()
    try:
        load_trained_state(module, weights)
        yield
    finally:
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


def _hash_of(by_recipe: Mapping[str, Sequence[Batch]], config: ValidationConfig) -> str:
    digest = hashlib.sha256(f"{config.best} {config.lpips}".encode())
    for name, pairs in by_recipe.items():
        digest.update(name.encode())
        for pair in pairs:
            for half in (pair.lq_01, pair.hq_01):
                digest.update(f"{tuple(half.shape)}".encode() + half.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _lpips(config: LpipsConfig) -> Metric:
    lpips = Lpips(config, key="validation.lpips")
    return lambda image_01, target_01: lpips(image_01 * 2 - 1, target_01 * 2 - 1)


def _enlarge(batch: Batch) -> Tensor:
    return resize(batch.lq_01, (batch.hq_01.shape[-2], batch.hq_01.shape[-1]))
