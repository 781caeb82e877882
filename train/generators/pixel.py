"""A diffusion model of pixels: many steps from noise to picture with ``task: denoising``, or one with ``task: gan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypir_core.config import to_plain
from hypir_core.diffusion.catalog import SCHEDULERS
from hypir_core.diffusion.prediction import predict_x0
from hypir_core.diffusion.schedule import a_bar_at
from hypir_core.engines.pixel.network import build_network, component_versions
from hypir_core.errors import ConfigError, WeightsError
from hypir_core.models.architectures import options_of as architecture_options
from hypir_core.weights.pixel_spec import PixelSpec

from ..config import DegradeOn, ExportConfig, TrainConfig
from ..data.batch import Batch
from ..data.measured import Measured, camera_of
from ..run.warm_start import read_fitting
from .base import Generator, GeneratorKind
from .feed_forward import find_base
from .light import file_range, light_of, saved_range

OWN = ("architecture", "out_channels", "conditional")
"""Options of the generator that are not the architecture's."""


def pixel(config: TrainConfig, device: torch.device) -> Generator:
    """Make a diffusion model; nothing of it is frozen, so `device` is not used.

    Raises:
        ConfigError: options, ranges or data that it does not take.
        WeightsError: `base_model` cannot be read or does not fit.
    """
    del device
    _check_settings(config)
    made = spec_of(config, ExportConfig(), "")
    module = build_network(made, where="generator.options")
    if config.base_model is not None:
        advice = "change generator.options to the sizes of the file"
        path = Path(config.base_model)
        module.load_state_dict(
            read_fitting(path, module.state_dict(), key="base_model", what="generator", advice=advice)
        )
    values, grain_px = file_range(config), getattr(module, "fold", 1)
    schedule = SCHEDULERS.create(config.denoising.schedule, config.denoising.schedule_options).as_schedule()

    def restore(prepared: nn.Module, batch: Batch) -> Tensor:
        """Take the measurement for a noised picture, and what the network finds in it for the clean one."""
        t = config.denoising.one_step_t
        if t is None:
            raise ConfigError(
                "denoising.one_step_t: task gan restores in one step; set the timestep, or task"
            )
        light = light_of(config, batch)
        x = light.to_net(batch.lq)
        predicted = prepared(
            torch.cat([x, light.condition(batch.lq)], 1) if made.conditional else x, float(t)
        )
        x0 = predict_x0(x, predicted, a_bar=a_bar_at(schedule, t), kind=config.denoising.prediction)
        return values.apply(light.to_file(x0))

    return Generator(
        module=module,
        scale=1,
        restore=restore,
        spec=lambda export, trained_with: spec_of(config, export, trained_with),
        in_channels=made.channels,
        out_channels=made.channels,
        gives=values,
        grain_px=int(grain_px),
    )


def spec_of(config: TrainConfig, export: ExportConfig, trained_with: str) -> PixelSpec:
    """Return what travels with the weights."""
    options, denoising, physics = config.generator.options, config.denoising, config.data.physics
    measured = None if physics is None else Measured(physics)
    camera = denoising.camera if physics is None else camera_of(physics)
    psf = None if measured is None else measured.middle_psf
    spec = PixelSpec(
        name=export.name,
        architecture=architecture_of(options),
        options=own_options(options),
        channels=channels_of(options),
        conditional=bool(options.get("conditional", True)),
        prediction=denoising.prediction,
        schedule=denoising.schedule,
        schedule_options=dict(denoising.schedule_options),
        one_step_t=denoising.one_step_t,
        value_range=saved_range(config),
        background_e=0.0 if physics is None else physics.background_e,
        camera={key: value for key, value in to_plain(camera).items() if isinstance(value, (int, float))},
        psf=None if psf is None else tuple(tuple(round(x, 9) for x in row) for row in psf.tolist()),
        peaks_e=None if physics is None else physics.photons,
        trained_on=export.trained_on,
        trained_with=trained_with,
        licence=export.licence,
    )
    return replace(spec, components=component_versions(spec))


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what the architecture does not take.

    Raises:
        ConfigError: lists the unknown keys and the wrong values.
        UnknownNameError: no such architecture.
    """
    n, conditional = channels_of(options), bool(options.get("conditional", True))
    sizes = own_options(options) | {
        "in_channels": n * (3 if conditional else 1),
        "out_channels": n,
        "scale": 1,
    }
    architecture_options(architecture_of(options), sizes, where="generator.options")


def architecture_of(options: Mapping[str, Any]) -> str:
    """Return the name of the network."""
    return str(options.get("architecture", "unet"))


def channels_of(options: Mapping[str, Any]) -> int:
    """Return the channels of the pictures."""
    n = options.get("out_channels", 1)
    if not isinstance(n, int) or n < 1:
        raise ConfigError(f"generator.options.out_channels must be a whole number of 1 or more, got {n!r}")
    return n


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the architecture itself."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in options.items()
        if key not in OWN
    }


def _check_settings(config: TrainConfig) -> None:
    problems = []
    data = config.data
    if config.export.original_pth:
        problems.append("export.original_pth: only a LoRA has an original layout; set it to false")
    if data.physics is None and not all(share.source.may_be_paired for share in data.places.values()):
        problems.append("data.physics: set a microscope that measures the targets, or give pairs")
    if data.physics is None and data.bounded:
        problems.append(
            "data.source.kind: given pairs must be scenes, so that their numbers are the camera's, got pictures in [0,1]"
        )
    if data.physics is not None and data.degrade_on is DegradeOn.device:
        problems.append("data.degrade_on must be worker with data.physics, which draws on the CPU")
    if problems:
        raise ConfigError(problems)
    if config.base_model is not None and not Path(config.base_model).is_file():
        raise WeightsError(f"base_model: there is no file {config.base_model}")


PIXEL_KIND = GeneratorKind(make=pixel, check=check_options, find=find_base)
