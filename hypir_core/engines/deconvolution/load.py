"""From a microscope's description to the engine."""

from __future__ import annotations

import torch

from ...config import to_plain
from ...device import pick_dtype
from ...physics.camera import Camera
from ...physics.operator import PsfOperator
from ...physics.psf import gaussian_psf, read_psf
from ...weights.download.sources import Fetch
from ...weights.fingerprint import short_hash
from ..base import EngineSpec
from ..pixel.microscope import Microscope
from .engine import Deconvolution
from .options import DeconvolutionOptions


def load_deconvolution(
    options: DeconvolutionOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> Deconvolution:
    """Make the engine; there are no weights, and it computes in float32 whatever is asked for.

    Raises:
        FileError: the point spread cannot be read.
        ConfigError: it is none, or the camera cannot be.
    """
    del fetch
    pick_dtype(dtype, device, ("float32",))
    psf = gaussian_psf([options.psf_sigma_px or 0.0] * 2) if options.psf is None else read_psf(options.psf)
    microscope = Microscope(
        camera=Camera(
            offset_adu=options.offset_adu,
            gain=options.gain,
            read_noise_e=options.read_noise_e,
            bits=options.bits,
        ),
        operator=PsfOperator(psf),
        background_e=options.background_e,
        white_adu=options.white_adu,
    )
    settings = to_plain(options) | {"psf": None if options.psf is None else short_hash(options.psf)}
    return Deconvolution(
        spec=EngineSpec(
            name="richardson-lucy",
            weights="none",
            settings=settings,
            in_channels=1,
            out_channels=1,
            default_scale=1.0,
            file_values=True,
            streams=True,
            licence="Apache-2.0",
        ),
        microscope=microscope,
        steps=options.steps,
    )
