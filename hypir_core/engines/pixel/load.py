"""From a weight file to the engine of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...config import build, to_plain
from ...device import DTYPES, pick_dtype
from ...errors import ConfigError, SpecMismatchError
from ...physics.camera import Camera
from ...physics.operator import PsfOperator
from ...physics.psf import gaussian_psf, read_psf
from ...weights.download.sources import Fetch
from ...weights.fingerprint import short_hash
from ...weights.once import Once
from ...weights.pixel_spec import PixelSpec
from ..base import EngineSpec
from ..feed_forward.options import Result
from .built_in import weights_path
from .denoising import pixel_denoiser
from .engine import Pixel
from .microscope import Microscope
from .network import PixelFile, read_pixel
from .options import GUIDED_FROM, PixelOptions
from .steps import solver_of, steps_of

NAME = "pixel"

_READ: Once[PixelFile] = Once()


def load_pixel(options: PixelOptions, device: torch.device, dtype: str, fetch: Fetch | None = None) -> Pixel:
    """Read the weights, and set the microscope up.

    Raises:
        WeightsError: the file cannot be used.
        ConfigError: options that do not fit the weights, or a microscope that cannot be.
        UnknownNameError: no such solver.
        FileError: the point spread cannot be read.
    """
    del fetch
    path = weights_path(options.weights)
    chosen = pick_dtype(dtype, device, tuple(DTYPES))
    # Engines that differ in steps, guidance, optics … have one network.
    file = _READ.of(path, lambda: _read(path, chosen), chosen, device) if path.is_file() else read_pixel(path)
    return make_pixel(file, options, label=f"{path.name} {short_hash(path)}", dtype=chosen)


def pixel_skeleton(
    options: PixelOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> Pixel:
    """Return the engine on torch's meta device; the file is read, for its shapes."""
    del fetch
    path = weights_path(options.weights)
    chosen = pick_dtype(dtype, device, tuple(DTYPES))
    file = _read(path, chosen)
    file.net.to("meta")
    return make_pixel(file, options, label=f"{path.name} {short_hash(path)}", dtype=chosen)


def _read(path: Path, dtype: torch.dtype) -> PixelFile:
    file = read_pixel(path)
    file.net.to(dtype)
    return file


def make_pixel(file: PixelFile, options: PixelOptions, *, label: str, dtype: torch.dtype) -> Pixel:
    """Return the engine of a network in memory; errors as `load_pixel`.

    Args:
        file: the network, in the format it runs in, and its spec.
        options: `weights` is not read.
        label: names the weights in reports.
        dtype: the network's format.
    """
    spec, where = file.spec, label.split(" ", maxsplit=1)[0]
    if not spec.conditional and spec.one_step_t is None and options.guidance is None:
        raise ConfigError(f"{where}: these weights do not see the measurement; set guidance=pkl")
    if options.prior and not spec.conditional:
        options = replace(options, prior=False)
    if options.guidance_begins is None:
        told = spec.conditional and not options.prior
        options = replace(options, guidance_begins=GUIDED_FROM if told else 0.0)
    if spec.one_step_t is not None and options.samples > 1:
        raise ConfigError(
            f"{where}: these weights draw nothing, so samples are all the same; leave samples out"
        )
    psf = psf_of(options, spec)
    microscope = Microscope(
        camera=camera_of(options, spec, where=where),
        operator=PsfOperator(torch.ones(1, 1) if psf is None else psf, boundary=options.boundary),
        background_e=spec.background_e if options.background_e is None else options.background_e,
        white_adu=options.white_adu,
    )
    denoiser = pixel_denoiser(file.net, kind=spec.prediction)
    grain = denoiser.grain_px
    assert isinstance(grain, int)
    steps = steps_of(spec, options, where=where)
    settings = _settings(options, spec, microscope, steps=sum(map(len, steps)))
    return Pixel(
        spec=EngineSpec(
            name=NAME,
            weights=label,
            dtype=str(dtype).removeprefix("torch."),
            settings=settings,
            in_channels=spec.channels,
            out_channels=spec.channels * (2 if options.shown is Result.both else 1),
            default_scale=1.0,
            dtypes=tuple(DTYPES),
            one_by_one=True,
            file_values=True,
            licence=spec.licence,
            notes=(*file.notes, *microscope.optics_notes()),
        ),
        weights=spec,
        net=file.net,
        denoiser=denoiser,
        steps=steps,
        solver=solver_of(options),
        microscope=microscope,
        options=options,
        grain_px=grain * max((1, *options.cascade)),
        file=file,
    )


def psf_of(options: PixelOptions, spec: PixelSpec) -> Tensor | None:
    """Return the point spread that is asked for, else that of the training; None for none."""
    if options.psf is not None:
        return read_psf(options.psf)
    if options.psf_sigma_px is not None:
        return gaussian_psf((options.psf_sigma_px,) * 2) if options.psf_sigma_px > 0 else None
    return None if spec.psf is None else torch.tensor(spec.psf, dtype=torch.float64)


def camera_of(options: PixelOptions, spec: PixelSpec, *, where: str | Path) -> Camera:
    """Return the camera that is asked for; what is left out is as in the training."""
    try:
        trained = build(Camera, spec.camera, where="camera")
    except ConfigError as err:
        raise SpecMismatchError(f"{where}: {'; '.join(err.problems)}; get the file again") from err
    given = {name: getattr(options, name) for name in ("offset_adu", "gain", "read_noise_e", "bits")}
    return replace(trained, **{name: value for name, value in given.items() if value is not None})


def _settings(
    options: PixelOptions, spec: PixelSpec, microscope: Microscope, *, steps: int
) -> Mapping[str, Any]:
    """Return every setting that a result depends on, as it was resolved."""
    plain = {
        name: value
        for name, value in to_plain(options).items()
        if name not in {"weights", "psf", "psf_sigma_px"}
    }
    psf = microscope.operator.psf
    return {
        **plain,
        **to_plain(microscope.camera),
        "steps": steps,
        "result": options.shown.value,
        "background_e": microscope.background_e,
        "psf": f"{psf.shape[0]}×{psf.shape[1]} {sha256(psf.numpy().tobytes()).hexdigest()[:16]}",
        "value_range": to_plain(spec.value_range),
    }
