"""A camera's numbers: from electrons to what it writes (ADU), and back.

ADU = offset + gain·(electrons + read noise), rounded and cut to the camera's bits (EMVA standard 1288, section 2).
Photon noise is Poisson in electrons only: never in ADU, and never in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import config
from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What turns electrons into written numbers."""

    __pydantic_config__ = config.strict

    offset_adu: float = 0.0
    """What it writes in the dark."""
    gain: float = 1.0
    """ADU per electron, above 0. Data sheets often give electrons per ADU: 1 over that."""
    read_noise_e: float = 0.0
    """Standard deviation of the reading, in electrons."""
    bits: int = 16
    """Depth: it writes 0 to 2^bits − 1."""

    def __post_init__(self) -> None:
        problems = []
        if not (self.gain > 0 and math.isfinite(self.gain)):
            problems.append(f"camera: gain must be above 0 ADU per electron, got {self.gain:g}")
        if not (self.read_noise_e >= 0 and math.isfinite(self.read_noise_e)):
            problems.append(f"camera: read_noise_e must be 0 or more, got {self.read_noise_e:g}")
        if not 1 <= self.bits <= 32:
            problems.append(f"camera: bits must lie in 1 … 32, got {self.bits}")
        elif not 0 <= self.offset_adu < self.white_adu:
            problems.append(
                f"camera: offset_adu must lie in 0 … {self.white_adu}, below the brightest number, "
                f"got {self.offset_adu:g}"
            )
        if problems:
            raise ConfigError(problems)

    @property
    def white_adu(self) -> int:
        """Return the brightest number that can be written."""
        return 2**self.bits - 1

    def to_electrons(self, adu: Tensor) -> Tensor:
        """Return (ADU − offset)/gain, float32 or float64 as given, else float32. May be below 0; NaN stays NaN."""
        return (_floating(adu) - self.offset_adu) / self.gain

    def to_adu(self, electrons: Tensor) -> Tensor:
        """Return offset + gain·electrons: not rounded, not cut."""
        return self.offset_adu + self.gain * _floating(electrons)

    def written(self, adu: Tensor) -> Tensor:
        """Return what a file of this camera holds: rounded, cut to 0 … `white_adu`; NaN stays NaN."""
        return adu.round().clamp(0, self.white_adu)

    def expose(self, expected_e: Tensor, generator: torch.Generator) -> Tensor:
        """Return one exposure in ADU: Poisson of the expected electrons, read noise, gain, offset, bits.

        Shapes: any. The numbers come from `generator` on the CPU, the same for every device.
        """
        expected = _floating(expected_e).cpu()
        electrons = torch.poisson(expected.clamp(min=0), generator=generator)
        if self.read_noise_e:
            noise = torch.randn(expected.shape, generator=generator, dtype=expected.dtype)
            electrons = electrons + self.read_noise_e * noise
        return self.written(self.to_adu(electrons)).to(expected_e.device)

    def saturated(self, adu: Tensor) -> Tensor:
        """Return where the brightest number is reached, a mask like `adu`: the true light there is unknown."""
        return adu >= self.white_adu


def _floating(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
