"""How file values, electrons and network values of a batch hang together, and what the network is told of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hypir_core.errors import ConfigError
from hypir_core.image.ranges import PM1, AnyRange, Range, RangeConfig, RangeKind
from hypir_core.image.ranges.config import FitOn
from hypir_core.physics.condition import condition_of, straight
from hypir_core.weights.pixel_spec import LIGHT

from ..config import TrainConfig
from ..data.batch import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Light:
    """A straight line for every sample; each tensor is [b 1 1 1] or [1 1 1 1]."""

    per_unit: Tensor
    """Electrons per unit of the files."""
    dark: Tensor
    """File value of no electrons above the background."""
    middle: Tensor
    """Electrons above the background that the network sees as 0."""
    width: Tensor
    """Electrons per unit of the network."""
    background_e: float
    read_variance: float

    def to_net(self, file: Tensor) -> Tensor:
        """Return network values of file values [b c h w]."""
        return ((file - self.dark) * self.per_unit - self.middle) / self.width

    def to_file(self, net: Tensor) -> Tensor:
        """Return file values of network values [b c h w]."""
        return (net * self.width + self.middle) / self.per_unit + self.dark

    def electrons(self, lq: Tensor) -> Tensor:
        """Return what the camera counted, of measurements [b c h w] in file values."""
        return (lq - self.dark) * self.per_unit + self.background_e

    def condition(self, lq: Tensor) -> Tensor:
        """Return what the network is told of measurements [b c h w] in file values: [b 2c h w]."""
        b, c, *cells = lq.shape
        y_e = self.electrons(lq)
        # `condition_of` has one unit for a measurement, and one for each of its channels: here a channel is a sample.
        middle, width = (x.flatten().expand(b)[:, None].expand(b, c) for x in (self.middle, self.width))
        units = Range(middle=tuple(middle.flatten().tolist()), width=tuple(width.flatten().tolist()))
        told = condition_of(
            y_e.reshape(1, b * c, *cells),
            units,
            background_e=self.background_e,
            read_variance=self.read_variance,
        )
        return told.reshape(2, b, c, *cells).transpose(0, 1).reshape(b, 2 * c, *cells)


def light_of(config: TrainConfig, batch: Batch) -> Light:
    """Return the light of a batch: what the microscope wrote beside it, or that of the camera and the ranges."""
    if batch.light is not None and (physics := config.data.physics):
        per_unit, middle, width, cells = (x.view(-1, 1, 1, 1) for x in batch.light.unbind(1))
        pixels = float(cells.flatten()[0])  # of all samples of a batch
        return Light(
            per_unit=per_unit,
            dark=torch.zeros_like(per_unit),
            middle=middle,
            width=width,
            background_e=physics.background_e * pixels,
            read_variance=physics.read_noise_e**2 * pixels,
        )
    camera, (middle, width) = config.denoising.camera, electron_range(config)
    made = [torch.tensor(x, device=batch.lq.device).view(1, 1, 1, 1) for x in (middle, width)]
    return Light(
        per_unit=torch.full_like(made[0], 1 / camera.gain),
        dark=torch.full_like(made[0], camera.offset_adu),
        middle=made[0],
        width=made[1],
        background_e=0.0,
        read_variance=camera.read_noise_e**2,
    )


def file_range(config: TrainConfig) -> AnyRange:
    """Return the range from file values to [-1,1] that losses, validation and pictures know.

    Raises:
        ConfigError: it is no straight line for all channels with black as -1.
    """
    if physics := config.data.physics:
        half = physics.white / 2
        return PM1 if half == PM1.width[0] else replace(PM1, middle=(half,), width=(half,))
    found = straight(config.ranges.lr.fixed)
    if len(found.middle) != 1 or found.black_white[0] != -1.0:
        raise ConfigError(
            "ranges.lr: a diffusion model of pixels wants one line for all channels with black as -1; set "
            "{kind: percentile, fit: dataset, symmetric: true, per_channel: false}"
        )
    return replace(found, clip=None, file_clip=None)


def electron_range(config: TrainConfig) -> tuple[float, float]:
    """Return the middle and the width of given pairs' range, in electrons."""
    found, camera = straight(file_range(config)), config.denoising.camera
    return (found.middle[0] - camera.offset_adu) / camera.gain, found.width[0] / camera.gain


def saved_range(config: TrainConfig) -> RangeConfig:
    """Return what weights say of their range: fitted on every measurement, or the one of the data set, in electrons."""
    if config.data.physics:
        return LIGHT
    middle, width = electron_range(config)
    line = Range(kind=RangeKind.minmax, middle=(middle,), width=(width,), ends=(-1.0, 1.0))
    return RangeConfig(
        kind=RangeKind.minmax, fit=FitOn.dataset, symmetric=True, per_channel=False, saved=line
    )
