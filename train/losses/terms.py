"""From what the settings say of a loss to a term of the generator's loss: units, bands, slices, mask, ramp."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hypir_core.config import build
from hypir_core.errors import ConfigError, ShapeError, nearest_hint

from ..config import Domain, LossConfig
from ..config.checks import raise_all
from ..ramps import Ramp, ramp_factor
from ..three_bands import three_bands_problem
from .catalog import LOSSES, ImageLoss
from .domain import Compared, Works, works_of

SPAN = {Domain.unit: 1.0, Domain.pm1: 2.0}
"""How far black and white are apart, for losses whose constants depend on it (their option `span`)."""


@dataclass(frozen=True, eq=False)
class WeightedLoss:
    """One term of the generator's loss."""

    name: str
    loss: ImageLoss
    weight: float
    ramp: Ramp
    config: LossConfig
    works: Works

    def weight_at(self, step: int) -> float:
        """Return the weight at `step`."""
        return self.weight * ramp_factor(self.ramp, step)

    def of(self, compared: Compared) -> Tensor:
        """Return the term, a scalar.

        What is not valid counts as equal, and the loss is divided by the share of what is. For every mean over pixels
        that is the mean over the valid ones; what looks at neighbourhoods has no gradient from outside either.

        Raises:
            ShapeError: the images have other axes than the loss takes, and no slices are chosen.
            ConfigError: a band is not there.
        """
        masked = self.config.masked
        image, target = compared.pair(self.config.domain or self.works.domain, masked=masked)
        mask = compared.mask() if masked else None
        parts = [self._of_part(part) for part in self._parts(image, target, mask)]
        return parts[0] if len(parts) == 1 else torch.stack(parts).mean()

    def _of_part(self, part: tuple[Tensor, Tensor, Tensor | None]) -> Tensor:
        image, target, mask = part
        value = self.loss(image, target)
        if mask is None:
            return value
        share = mask.mean()
        return torch.where(share > 0, value / share.clamp(min=1e-12), torch.zeros_like(value))

    def _parts(
        self, image: Tensor, target: Tensor, mask: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield what the loss is called with: for every list of bands and every axis across which it is sliced."""
        axes, config = image.ndim - 2, self.config
        if axes not in self.works.axes and not config.slices:
            raise ShapeError(
                f"{self.name}: takes {_listed(self.works.axes)} spatial axes, got {axes}; "
                f"set losses.{self.name}.slices, for instance [0]"
            )
        missing = [number for group in config.groups for number in group if number >= image.shape[1]]
        if missing:
            raise ConfigError(
                f"losses.{self.name}.bands: expected numbers from 0 to {image.shape[1] - 1}, got {missing[0]}"
            )
        for group in config.groups or (None,):
            for axis in (axes == 3 and config.slices) or (None,):
                hidden = None if mask is None else _part(mask, group, axis)
                yield _part(image, group, axis), _part(target, group, axis), hidden


def build_losses(
    configs: Mapping[str, LossConfig], device: torch.device | None = None
) -> tuple[WeightedLoss, ...]:
    """Make the terms; those with weight 0 are left out. Networks are put on `device`, or the CPU.

    Raises:
        UnknownNameError: a loss that is not registered.
        ConfigError: an option that the loss does not take.
        WeightsError: the weights of a network cannot be had.
    """
    return tuple(
        WeightedLoss(
            name,
            _with_options(name, entry, device),
            entry.weight,
            entry.ramp,
            entry,
            works_of(LOSSES.get(entry.kind or name)),
        )
        for name, entry in configs.items()
        if entry.weight
    )


def read_loss_options(name: str, options: Mapping[str, Any], *, kind: str | None = None) -> Any:
    """Return the options of a loss: its `Options`, or for one that is a function its keyword arguments.

    Raises:
        UnknownNameError: a loss that is not registered.
        ConfigError: lists the options it does not take and those that are no numbers.
    """
    loss, where = LOSSES.get(kind or name), f"losses.{name}.options"
    if inspect.isclass(loss):
        return build(loss.Options, options, where=where)
    known = [p.name for p in inspect.signature(loss).parameters.values() if p.kind is p.KEYWORD_ONLY]
    listed = ", ".join(known) or "none"
    problems = [
        f"{where}: unknown key {key!r}{nearest_hint(key, known)}; known: {listed}"
        for key in options
        if key not in known
    ]
    numbers: dict[str, float] = {}
    for key, value in options.items():
        try:
            numbers[key] = float(value)  # YAML 1.1 reads 1e-3 as a text
        except (TypeError, ValueError):
            problems.append(f"{where}.{key} must be a number, got {value!r}")
    if problems:
        raise ConfigError(problems)
    return numbers


def check_loss(name: str, config: LossConfig, channels: int, dims: int = 2) -> None:
    """Refuse what a loss cannot do for pictures of so many channels and axes.

    Raises:
        UnknownNameError: a loss that is not registered; names the nearest.
        ConfigError: lists what is wrong: options, units, bands, slices, a network for colour before other channels.
    """
    options = read_loss_options(name, config.options, kind=config.kind)
    works, where = works_of(LOSSES.get(config.kind or name)), f"losses.{name}"
    problems = [
        f"{where}.bands: expected numbers from 0 to {channels - 1}, got {number}"
        for group in config.groups
        for number in group
        if number >= channels
    ]
    if config.domain is not None and works.only and config.domain is not works.domain:
        problems.append(
            f"{where}.domain: must be {works.domain.value}, got {config.domain.value}; leave it out"
        )
    if dims == 2 and config.slices:
        problems.append(f"{where}.slices: belongs to volumes, and the generator has 2 axes; leave it out")
    if dims not in works.axes and not config.slices:
        problems.append(
            f"{where}: takes {_listed(works.axes)} spatial axes, and the generator has {dims}; "
            f"set {where}.slices, for instance [0]"
        )
    if config.weight and hasattr(options, "channels") and not problems:
        seen = {len(group) for group in config.groups} or {channels}
        for count in sorted(seen):
            problems += three_bands_problem(options.channels, count, key=f"{where}.options.channels")
    raise_all(problems)
    _span(name, config, options)


def _with_options(name: str, entry: LossConfig, device: torch.device | None) -> ImageLoss:
    loss, read = LOSSES.get(entry.kind or name), read_loss_options(name, entry.options, kind=entry.kind)
    if inspect.isclass(loss):
        return loss(read, key=f"losses.{name}.options", device=device)
    return partial(loss, **read, **_span(name, entry, read))


def _span(name: str, entry: LossConfig, options: Any) -> dict[str, float]:
    """Return the option `span` of a loss that has one and compares in other units than its own.

    Raises:
        ConfigError: it is not known there, and not stated.
    """
    loss = LOSSES.get(entry.kind or name)
    domain = entry.domain or works_of(loss).domain
    takes_it = not inspect.isclass(loss) and "span" in inspect.signature(loss).parameters
    if not takes_it or "span" in options or domain is works_of(loss).domain:
        return {}
    if domain not in SPAN:
        raise ConfigError(
            f"losses.{name}.options.span: with domain: {domain.value}, state how far black and white are apart"
        )
    return {"span": SPAN[domain]}


def _part(x: Tensor, bands: tuple[int, ...] | None, axis: int | None) -> Tensor:
    picked = x if bands is None else x[:, list(bands)]
    return picked if axis is None else picked.movedim(2 + axis, 1).flatten(0, 1)


def _listed(axes: tuple[int, ...]) -> str:
    return " or ".join(str(number) for number in axes)
