"""Generators that go from pixels to pixels in one pass, trained as a whole."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hypir_core.errors import ConfigError, nearest_hint
from hypir_core.models.architectures import ARCHITECTURES
from hypir_core.weights.spec import GeneratorSpec

from ..config import ExportConfig, TrainConfig
from ..run.warm_start import read_fitting
from .base import Generator

SHARED_SIZES = ("scale", "in_channels", "out_channels")
"""Sizes that every architecture has and that the spec names; the rest are options of one architecture."""


def feed_forward(architecture: str, config: TrainConfig, device: torch.device) -> Generator:
    """Make a generator of `hypir_core.models.architectures`; nothing of it is frozen, so `device` is not used.

    Raises:
        ConfigError: options that the architecture does not take, or an export that it does not have.
        WeightsError: `base_model` cannot be read or does not fit.
    """
    del device
    if config.export.original_pth:
        raise ConfigError(
            f"export.original_pth: only a LoRA has an original layout, {architecture} has none; set it to false"
        )
    sizes = sizes_of(architecture, config.generator.options)
    module = ARCHITECTURES.get(architecture)(**sizes)
    if config.base_model is not None:
        _start_from(module, Path(config.base_model))

    def spec(export: ExportConfig, trained_with: str) -> GeneratorSpec:
        own = {name: size for name, size in sizes.items() if name not in SHARED_SIZES}
        return GeneratorSpec(
            name=export.name,
            architecture=architecture,
            **{name: sizes[name] for name in SHARED_SIZES},
            options=own,
            trained_on=export.trained_on,
            trained_with=trained_with,
            licence=export.licence,
        )

    return Generator(
        module=module,
        scale=sizes["scale"],
        restore=lambda prepared, batch: prepared(batch.lq_01),
        spec=spec,
        grain_px=sizes["scale"],
        in_channels=sizes["in_channels"],
        out_channels=sizes["out_channels"],
    )


def sizes_of(architecture: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return every size of the architecture: those in ``generator.options`` over its defaults.

    Raises:
        ConfigError: lists the unknown keys and the values that are no sizes.
    """
    parameters = inspect.signature(ARCHITECTURES.get(architecture)).parameters
    known = {name: parameter.default for name, parameter in parameters.items()}
    problems = [
        f"generator.options: unknown key {key!r}{nearest_hint(key, known)}; known: {', '.join(known)}"
        for key in options
        if key not in known
    ] + [
        f"generator.options.{key} must be a whole number of 1 or more, got {value!r}"
        for key, value in options.items()
        if key in known and not (isinstance(value, int) and value >= 1)
    ]
    if problems:
        raise ConfigError(problems)
    return known | dict(options)


def find_base(config: TrainConfig) -> None:
    """Refuse a `base_model` that is no file.

    Raises:
        ConfigError: names the key.
    """
    if config.base_model is not None and not Path(config.base_model).is_file():
        raise ConfigError(
            f"base_model: there is no file {config.base_model}; give a weight file of the same generator, or "
            "base_model=null for random weights"
        )


def _start_from(module: nn.Module, path: Path) -> None:
    advice = "change generator.options to the sizes of the file"
    tensors = read_fitting(path, module.state_dict(), key="base_model", what="generator", advice=advice)
    module.load_state_dict(tensors)
