"""Generators that go from pixels to pixels in one pass, trained as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hypir_core.errors import ConfigError
from hypir_core.models.architectures import ARCHITECTURES, tensors_from_file
from hypir_core.models.architectures import options_of as architecture_options
from hypir_core.models.architectures.sizes import Sizes
from hypir_core.weights.spec import GeneratorSpec

from ..config import ExportConfig, TrainConfig
from ..run.warm_start import read_fitting
from .base import Generator


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
    options = options_of(architecture, config.generator.options)
    bands, ranges = config.export.bands, config.ranges
    if bands and len(bands) != options.in_channels:
        raise ConfigError(
            f"export.bands: expected a name for each of {options.in_channels} channels, got {', '.join(bands)}"
        )
    taken, given = ranges.lr.fixed, (ranges.hr or ranges.lr).fixed
    module = ARCHITECTURES.get(architecture)(options)
    if config.base_model is not None:
        _start_from(architecture, module, Path(config.base_model))

    def spec(export: ExportConfig, trained_with: str) -> GeneratorSpec:
        return GeneratorSpec(
            name=export.name,
            architecture=architecture,
            dims=options.dims,
            scale=options.scale,
            in_channels=options.in_channels,
            out_channels=options.makes,
            bands=bands,
            options=options.own,
            value_range=ranges.lr,
            out_range=ranges.hr,
            trained_on=export.trained_on,
            trained_with=trained_with,
            licence=export.licence,
        )

    return Generator(
        module=module,
        scale=options.scale,
        restore=lambda prepared, batch: prepared(taken.apply(batch.lq)),
        spec=spec,
        dims=options.dims,
        gives=given,
        grain_px=max(options.scales),
        in_channels=options.in_channels,
        out_channels=options.makes,
    )


def options_of(architecture: str, options: Mapping[str, Any]) -> Sizes:
    """Return the options of an architecture that ``generator.options`` states.

    Raises:
        ConfigError: lists the unknown keys and the wrong values.
    """
    return architecture_options(architecture, options, where="generator.options")


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


def _start_from(architecture: str, module: nn.Module, path: Path) -> None:
    tensors = read_fitting(
        path,
        module.state_dict(),
        key="base_model",
        what="generator",
        advice="change generator.options to the sizes of the file",
        unpack=lambda held: tensors_from_file(architecture, held),
    )
    module.load_state_dict(tensors)
