"""Settings of `richardson-lucy`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...config import strict
from ...errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DeconvolutionOptions:
    """A microscope, and how long is deconvolved."""

    __pydantic_config__ = strict

    FLAGS: ClassVar[Mapping[str, str]] = {"bits": "--camera-bits"}
    """Where a flag is not called as its option: `--bits` is the format of a result."""

    TRIED: ClassVar[Mapping[str, tuple[int, ...]]] = {"steps": (1, 2, 3, 5, 8, 12, 18, 27)}
    """What `hypir tune` tries."""

    steps: int = 10
    """Rounds: more are sharper and noisier."""
    psf: Path | None = None
    """A TIFF of the point spread, in the pixels of the stack: measured, or made by `hypir psf`."""
    psf_sigma_px: float | None = None
    """Instead of a file: a Gaussian point spread of this width."""
    offset_adu: float = 0.0
    """What the camera writes in the dark."""
    gain: float = 1.0
    """Numbers of the file per electron; data sheets often give 1 over that."""
    read_noise_e: float = 0.0
    """Standard deviation of the reading, in electrons."""
    bits: int = 16
    """Depth of the camera, which may be less than the file's: its brightest number counts as saturated."""
    white_adu: float = 65535.0
    """The number of the file that reads as white, for pictures such as PNG; a stack's numbers are taken as they are."""
    background_e: float = 0.0
    """Electrons per pixel that do not come from the picture."""

    def __post_init__(self) -> None:
        problems = []
        if self.steps < 1:
            problems.append(f"steps must be 1 or more, got {self.steps}")
        if self.psf is not None and self.psf_sigma_px is not None:
            problems.append("psf and psf_sigma_px exclude each other")
        if self.psf is None and self.psf_sigma_px is None:
            problems.append(
                "a deconvolution needs a point spread: psf=FILE (`hypir psf` makes one) or psf_sigma_px=PIXELS"
            )
        if problems:
            raise ConfigError(problems)
