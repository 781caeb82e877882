"""A one-step restorer whose networks are changed for every picture: S3Diff, by how blurred and noisy it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...diffusion.samplers.base import Step
from ...errors import ConfigError, WeightsNotFoundError
from ...lora.mixing import DEGREES, Mixed
from ...lora.recipe import OneStepRecipe
from ...models.sd.degradation import degradation_estimator
from ...request import Request
from ...tiling.stage import Stage
from ...weights.fingerprint import short_hash
from ...weights.tensors import check_finite, read_tensors
from ..base import Prepared
from .engine import Diffusion
from .parts import Condition, Conditioner, Denoiser
from .sizing import Placed

ESTIMATOR_FILE = "de_net.pth"
"""What the estimator is called where it is looked for, beside the restorer's file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimating:
    """What tells blur and noise of a picture."""

    estimate: Callable[[Tensor], Tensor]
    """[1 3 h w] in [0,1] → [2]."""
    label: str
    """Names it in reports."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What the networks of one picture are told."""

    words: Tensor
    negative: Tensor | None
    degrees: Tensor
    """[2], blur and noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PerPicture(Diffusion):
    """The engine, with networks that are mixed before they work on a picture."""

    mixed: tuple[Mixed, ...]

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the stages of `Diffusion`; the encoder waits for the mix as well."""
        encode, told = self.codec.encode, prepared.condition.value
        assert encode is not None

        def mixed_encode(image_01: Tensor) -> Tensor:
            mix(self.mixed, told)
            return encode(image_01)

        return Diffusion.stages(
            replace(self, codec=replace(self.codec, encode=mixed_encode)), prepared, request
        )


def mix(mixed: Sequence[Mixed], told: Told) -> None:
    """Give the networks the weights for a picture."""
    for network in mixed:
        network.mix(told.degrees)


def per_picture(
    engine: Diffusion,
    *,
    recipe: OneStepRecipe,
    mixed: tuple[Mixed, ...],
    estimating: Estimating,
    read: Callable[[str], tuple[Tensor, tuple[str, ...]]],
) -> PerPicture:
    """Return the engine of a restorer that is mixed.

    Args:
        engine: what it is without: its denoiser reads words alone.
        recipe: negative words, and how strongly the others lead away from them.
        mixed: its networks.
        estimating: what tells blur and noise.
        read: prompt → what it became, and notes.
    """
    fields = {name: getattr(engine, name) for name in Diffusion.__dataclass_fields__}
    fields["denoiser"] = _denoiser(engine.denoiser, mixed, recipe.cfg)
    fields["conditioner"] = _conditioner(engine.conditioner, recipe, estimating, read)
    return PerPicture(**fields, mixed=mixed)


def _denoiser(plain: Denoiser, mixed: tuple[Mixed, ...], cfg: float) -> Denoiser:
    shared = plain.placing.shared
    norms = None if shared is None else shared.norms

    def predict(z: Tensor, step: Step, told: Told, guides: Mapping[str, Tensor]) -> Tensor:
        mix(mixed, told)
        positive = plain.predict(z, step, told.words, guides)
        if told.negative is None:
            return positive
        with nullcontext() if norms is None else norms.of_pass("negative"):
            negative = plain.predict(z, step, told.negative, guides).float()
        return negative + cfg * (positive.float() - negative)

    return replace(plain, predict=predict)


def _conditioner(
    plain: Conditioner,
    recipe: OneStepRecipe,
    estimating: Estimating,
    read: Callable[[str], tuple[Tensor, tuple[str, ...]]],
) -> Conditioner:
    def of_picture(image_01: Tensor, placed: Placed, request: Request) -> Condition:
        condition = plain(image_01, placed, request)
        degrees = estimating.estimate(image_01.float())
        negative = None if recipe.cfg == 1 else read(recipe.negative)[0]
        said = ", ".join(f"{name} {value:.2f}" for name, value in zip(DEGREES, degrees, strict=True))
        told = Told(words=condition.value, negative=negative, degrees=degrees.cpu())
        return replace(
            condition, value=told, notes=(*condition.notes, f"{said}, {estimating.label}; 0 to 1 each")
        )

    return of_picture


def find_estimating(given: str | None, restorer: Path) -> Estimating:
    """Return what tells blur and noise.

    Args:
        given: a file, or two numbers from 0 to 1 with a comma between them; None looks beside the restorer.
        restorer: the restorer's file.

    Raises:
        WeightsNotFoundError: the file is nowhere.
        ConfigError: the numbers are out of range.
        SpecMismatchError, WeightsError: the file is another network's, or cannot be read.
    """
    numbers = None if given is None else _numbers(given)
    if numbers is not None:
        return Estimating(estimate=lambda _: numbers, label="as given")
    path = restorer.parent / ESTIMATOR_FILE if given is None else Path(given)
    if not path.is_file():
        raise WeightsNotFoundError(
            f"{path}: expected {ESTIMATOR_FILE}, which tells S3Diff how blurred and noisy a picture is, got no such "
            "file; get it from assets/mm-realsr of https://github.com/ArcticHare105/S3Diff, put it beside "
            f"{restorer.name} or name it (--degradation FILE), or give two numbers (--degradation BLUR,NOISE)"
        )
    file = read_tensors(path)
    check_finite(file.tensors, path)
    net = degradation_estimator(file.tensors, path)
    return Estimating(estimate=net, label=f"as {path.name} {short_hash(path)} sees it")


def _numbers(given: str) -> Tensor | None:
    """Return two numbers that are written as such; None: it is a file's name."""
    try:
        values = [float(part) for part in given.split(",")]
    except ValueError:
        return None
    if len(values) != len(DEGREES) or not all(0 <= value <= 1 for value in values):
        raise ConfigError(
            f"degradation: expected a file or two numbers from 0 to 1, {' and '.join(DEGREES)} (0.3,0.6), got {given!r}"
        )
    return torch.tensor(values)
