"""Fixed pairs that are never trained on, and how well they are restored."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from hypir_core.errors import ConfigError
from hypir_core.image.ranges import UNIT, AnyRange
from hypir_core.image.resize import resize
from hypir_core.metrics.fidelity import psnr, psnr_y, ssim
from hypir_core.metrics.frc import frc_resolution_px
from hypir_core.metrics.spectral import consistency, ergas, sam

from ..config import Domain, LpipsConfig, Measure, ValidationConfig
from ..data.axes import Scale, scales_of
from ..data.batch import Batch
from ..data.degrading import AREA, CLEAN, PLAIN, colour_problem
from ..data.fixed import read_fixed
from ..data.measured import Measured
from ..data.source import COLOUR, Channels
from ..data.viewing import for_screen
from ..losses import Compared
from ..losses.perceptual import Lpips
from ..players import load_trained_state, trained_state
from .tracking import picture_grid

LEAST_PX = 64
REALESRGAN = "realesrgan"
"""The recipe that is measured unless others are named."""

Metric = Callable[[Tensor, Batch], Tensor]
"""(image [1 c *spatial] in file values, its pair) → a number."""

LESS_IS_BETTER = {"lpips", *(measure.value for measure in Measure)}

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
    bounded: bool = True
    """Values lie in [0,1]."""
    bands: Sequence[int] | None = None
    """Which channels are shown."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One pair and what was made of it, each [3 h w], [0,1], as a screen shows it."""

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
    over_all: Mapping[str, float] = field(default_factory=dict)
    """``val/<metric>``, the means over the recipes: for plateaus."""

    @property
    def grid(self) -> Tensor | None:
        """Rows of low quality, bicubic, restored, target; [3 H W]."""
        rows = [(each.lq_01, each.bicubic_01, each.restored_01, each.hq_01) for each in self.shown]
        return picture_grid(rows) if rows else None


def recipes_for(
    config: ValidationConfig, *, scale: Scale, channels: int = 3, dims: int = 2
) -> tuple[str, ...]:
    """Return the degradations that are measured for a generator that enlarges by `scale`.

    Raises:
        ConfigError: bicubic is named where nothing is enlarged, so that it changes nothing; or none is named and none
            is known for so many channels.
    """
    if config.photons:
        return (AREA,)  # not used
    if (config.source.may_be_paired and config.recipes is None) or config.source.paired:
        return config.recipes or (REALESRGAN,)  # not used
    if config.recipes is None:
        colour = () if colour_problem(REALESRGAN, channels) else (REALESRGAN,)
        plain = CLEAN if dims == 2 and isinstance(scale, int) else AREA
        chosen = (*(colour if plain == CLEAN else ()), *((plain,) if scale != 1 else ()))
        if not chosen:
            raise ConfigError(f"validation.recipes: name a recipe for pictures of {channels} channels")
        return chosen
    if scale == 1 and (plain := {*PLAIN} & {*config.recipes}):
        raise ConfigError(
            f"validation.recipes: {plain.pop()} only shrinks, and a generator of scale 1 gets pictures of the target's "
            f"size: nothing would be left to restore; name another recipe, for instance {REALESRGAN}"
        )
    return config.recipes


def fixed_pairs(
    config: ValidationConfig,
    *,
    scale: Scale,
    grain_px: int,
    channels: Channels = COLOUR,
    dims: int = 2,
    values: AnyRange = UNIT,
    bands: Sequence[int] | None = None,
    microscope: Measured | None = None,
) -> FixedPairs:
    """Read and degrade the first `count` pictures, the same way every time, and measure bicubic on them.

    A pair that bicubic enlargement already makes equal (a plain colour, a partner that is a copy) says nothing:
    its PSNR is infinite. It is left out.

    Raises:
        ConfigError: no pair is left; names the recipe.
    """
    config = replace(config, recipes=recipes_for(config, scale=scale, channels=channels.hq, dims=dims))
    bounded = config.source.bounded_at(config.root)
    factor = max(scales_of(scale, dims))
    least_px = max(LEAST_PX, 16 * factor, grain_px) if dims == 2 else grain_px
    metrics = metrics_of(config, channels=channels.hq, scale=scale, values=values, bounded=bounded)
    by_recipe: dict[str, tuple[Batch, ...]] = {}
    bicubic: dict[str, Mapping[str, float]] = {}
    fixed = read_fixed(
        config,
        scale=scale,
        grain_px=grain_px,
        least_px=least_px,
        channels=channels,
        bounded=bounded,
        dims=dims,
        measured=microscope,
    )
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
    return FixedPairs(
        by_recipe, bicubic, metrics, config, _hash_of(by_recipe, config), bounded=bounded, bands=bands
    )


def metrics_of(
    config: ValidationConfig,
    *,
    channels: int,
    scale: Scale,
    values: AnyRange = UNIT,
    bounded: bool = True,
) -> dict[str, Metric]:
    """Return the measures of pictures of so many channels that were enlarged by `scale`.

    Bands have no luma: there ``psnr_y`` is the PSNR over all bands, and ``ssim`` the mean of the bands' own; of a
    volume it is the mean over its slices. Both look at values between black and white of `values`, those of pictures at
    steps of 1/255; the others look at file values. What is not valid counts as equal.
    """
    colour = channels in {1, 3} and bounded

    def units(image: Tensor, pair: Batch) -> tuple[Tensor, Tensor]:
        if bounded:
            return image, pair.hq
        compared = Compared(image=values.apply(image), target=values.apply(pair.hq), values=values)
        return tuple(x.clamp(0, 1) for x in compared.pair(Domain.unit))  # pyright: ignore[reportReturnType]

    found: dict[str, Metric] = {
        "psnr_y": lambda image, pair: (psnr_y if colour else psnr)(*units(image, pair)),
        "ssim": lambda image, pair: ssim(*(_by_band(x, colour) for x in units(image, pair))).mean(),
    }
    further: dict[Measure, Metric] = {
        Measure.sam: lambda image, pair: sam(image, pair.hq),
        Measure.ergas: lambda image, pair: ergas(image, pair.hq, scale=_one_number(scale)),
        Measure.l1: lambda image, pair: (image - pair.hq).abs().mean(),
        Measure.consistency: lambda image, pair: consistency(image, pair.lq),
        Measure.frc: lambda image, pair: frc_resolution_px(_planes(image), _planes(pair.hq)).mean(),
    }
    found |= {measure.value: further[measure] for measure in config.metrics}
    if config.lpips:
        found["lpips"] = _lpips(config.lpips, units)
    return {name: partial(_masked, metric, bounded) for name, metric in found.items()}


def _masked(metric: Metric, bounded: bool, image: Tensor, pair: Batch) -> Tensor:
    if bounded:
        image = image.clamp(0, 1).mul(255).round().div(255)
    if pair.valid is not None:
        target = torch.where(pair.valid, pair.hq, torch.nan_to_num(pair.hq))
        image, pair = torch.where(pair.valid, image, target), replace(pair, hq=target)
    return metric(image, pair)


def _by_band(image: Tensor, colour: bool) -> Tensor:
    """Return [b c *cells] as pictures of one channel each where that is not a picture already."""
    if colour and image.ndim == 4:
        return image
    return image.flatten(0, -3).unsqueeze(1)


def _planes(image: Tensor) -> Tensor:
    """Return [b c h w] as it is, and every slice of a volume as a picture of its own."""
    return image if image.ndim == 4 else image.movedim(2, 1).flatten(0, 1)


def _one_number(scale: Scale) -> float:
    """Return the mean factor, by the number of cells."""
    return float(scale) if isinstance(scale, int) else math.prod(scale) ** (1 / len(scale))


def validate(
    pairs: FixedPairs,
    restore: Callable[[Batch], Tensor],
    checks: Callable[[Batch], Mapping[str, float]] = lambda _: {},
) -> Validated:
    """Measure `restore` (a batch in, images in file values on the CPU out) on every pair, and take down `checks`."""
    scalars: dict[str, float] = {}
    scores, shown = [], []
    totals: dict[str, list[float]] = {}
    for name, batches in pairs.by_recipe.items():
        measured = []
        for number, batch in enumerate(batches):
            image = restore(batch)
            measured.append(_measure(pairs.metrics, image, batch))
            if number < pairs.config.images:
                looks = (batch.lq[0], _enlarge(batch)[0], image[0], batch.hq[0])
                screen = for_screen(looks, bands=pairs.bands, bounded=pairs.bounded)
                shown.append(Shown(f"{name}-{number}", *screen))
        means = _means(measured)
        for metric, value in means.items():
            scalars[f"val/{name}/{metric}"] = value
            scalars[f"val/{name}/{metric}_gain"] = _sign(metric) * (value - pairs.bicubic[name][metric])
        if (further := [checks(batch) for batch in batches])[0]:
            scalars |= {f"val/{name}/{check}": value for check, value in _means(further).items()}
        for metric, value in means.items():
            totals.setdefault(metric, []).append(value)
        scores.append(_sign(pairs.config.best) * means[pairs.config.best])
    over_all = {f"val/{metric}": sum(values) / len(values) for metric, values in totals.items()}
    return Validated(scalars, sum(scores) / len(scores), tuple(shown), over_all)


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
def _measure(metrics: Mapping[str, Metric], image: Tensor, batch: Batch) -> dict[str, float]:
    return {name: float(metric(image, batch).mean()) for name, metric in metrics.items()}


def _means(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in measured) / len(measured) for name in measured[0]}


def _sign(metric: str) -> int:
    return -1 if metric in LESS_IS_BETTER else 1


def _hash_of(by_recipe: Mapping[str, Sequence[Batch]], config: ValidationConfig) -> str:
    digest = hashlib.sha256(f"{config.best} {config.lpips}".encode())
    for name, pairs in by_recipe.items():
        digest.update(name.encode())
        for pair in pairs:
            for half in (pair.lq, pair.hq):
                digest.update(f"{tuple(half.shape)}".encode() + half.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _lpips(config: LpipsConfig, units: Callable[[Tensor, Batch], tuple[Tensor, Tensor]]) -> Metric:
    lpips = Lpips(config, key="validation.lpips")

    def measure(image: Tensor, pair: Batch) -> Tensor:
        image_01, target_01 = units(image, pair)
        return lpips(image_01 * 2 - 1, target_01 * 2 - 1)

    return measure


def _enlarge(batch: Batch) -> Tensor:
    """Return the low-quality half at the target's size: bicubic, or linear along three axes."""
    sizes = tuple(batch.hq.shape[2:])
    if len(sizes) == 2:
        return resize(batch.lq, (sizes[0], sizes[1]))
    return F.interpolate(batch.lq, sizes, mode="trilinear", align_corners=False)
