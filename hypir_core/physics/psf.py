"""Point spread functions: how a microscope shows one point, from numbers, from a file, or from beads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import atomic_file
from ..errors import ConfigError, FileError, MissingDependencyError, ShapeError
from .operator import unit_sum

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian of σ = 1."""

REACH = 4
"""A Gaussian is cut at this many σ: 6·10⁻⁵ of the light of one axis lies beyond."""


def gaussian_psf(sigma_px: Sequence[float], *, size_px: Sequence[int] | None = None) -> Tensor:
    """Return a Gaussian of the sum 1, float64, sampled at the centres of cells; its origin is the cell size // 2.

    Args:
        sigma_px: σ along every axis, above 0.
        size_px: cells along every axis; None: odd, up to 4 σ on both sides.
    """
    if not sigma_px or any(not (sigma > 0 and math.isfinite(sigma)) for sigma in sigma_px):
        raise ConfigError(f"a Gaussian needs a sigma above 0 for every axis, got {list(sigma_px)}")
    sizes = [2 * math.ceil(REACH * sigma) + 1 for sigma in sigma_px] if size_px is None else list(size_px)
    if len(sizes) != len(sigma_px) or any(size < 1 for size in sizes):
        raise ConfigError(f"size_px must have 1 cell or more for every of {len(sigma_px)} axes, got {sizes}")
    psf = torch.ones([], dtype=torch.float64)
    for sigma, size in zip(sigma_px, sizes, strict=True):
        place = torch.arange(size, dtype=torch.float64) - size // 2
        psf = psf[..., None] * torch.exp(-place.square() / (2 * sigma**2))
    return unit_sum(psf)


def sigma_px(*, pixel_nm: float, sigma_nm: float | None = None, fwhm_nm: float | None = None) -> float:
    """Return σ in pixels of a width in nanometres: give σ or the full width at half maximum."""
    if (sigma_nm is None) == (fwhm_nm is None):
        raise ConfigError("a width is needed once, as sigma_nm or as fwhm_nm")
    width = sigma_nm if sigma_nm is not None else (fwhm_nm or 0.0) / FWHM_PER_SIGMA
    if not (pixel_nm > 0 and width > 0):
        raise ConfigError(f"widths and pixels must be above 0 nm, got {width:g} and {pixel_nm:g}")
    return width / pixel_nm


def read_psf(path: Path, *, axes: int = 2) -> Tensor:
    """Read a TIFF of a point spread: [*spatial] of `axes` axes, sum 1, float64.

    A stack where 2 axes are wanted gives its sharpest plane, the one with the brightest cell.

    Raises:
        FileError: the file cannot be read, or holds another number of axes.
        MissingDependencyError: tifffile is not installed.
        ConfigError: it is no point spread; see `unit_sum`.
    """
    try:
        import tifffile
    except ImportError as err:
        raise MissingDependencyError("tifffile", "cli", "reading a point spread from TIFF") from err
    try:
        data = torch.from_numpy(tifffile.imread(path).astype("float64")).squeeze()
    except (OSError, ValueError, tifffile.TiffFileError) as err:
        raise FileError(f"{path}: expected a TIFF of a point spread, cannot read it ({err})") from err
    if data.ndim == 3 and axes == 2:
        data = data[int(data.flatten(1).amax(1).argmax())]
    if data.ndim != axes:
        raise FileError(f"{path}: expected a point spread of {axes} axes, got {list(data.shape)}")
    return unit_sum(data)


def write_psf(path: Path, psf: Tensor) -> None:
    """Write a point spread as a TIFF that `read_psf` reads: float32, of the sum 1.

    Raises:
        FileError: the file cannot be written.
        MissingDependencyError: tifffile is not installed.
        ConfigError: it is no point spread; see `unit_sum`.
    """
    try:
        import tifffile
    except ImportError as err:
        raise MissingDependencyError("tifffile", "cli", "writing a point spread as TIFF") from err
    with atomic_file(path, error=FileError) as file:
        tifffile.imwrite(file, unit_sum(psf).float().numpy(), metadata={"axes": "ZYX"[-psf.ndim :]})


def off_centre_px(psf: Tensor) -> tuple[float, ...]:
    """Return how far the centre of mass lies from the origin (size // 2) along every axis, in cells.

    A point spread that is off centre moves the picture: worth a note above half a cell.
    """
    psf = unit_sum(psf)
    found = []
    for axis, size in enumerate(psf.shape):
        profile = psf.sum([each for each in range(psf.ndim) if each != axis]) if psf.ndim > 1 else psf
        found.append(float((profile * torch.arange(size, dtype=psf.dtype)).sum()) - size // 2)
    return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Beads:
    """A point spread measured from beads."""

    psf: Tensor
    """[*spatial], sum 1, centred, float64."""
    places_px: tuple[tuple[int, ...], ...]
    """The brightest cells of the beads that were averaged."""


def psf_from_beads(recording: Tensor, *, size_px: int, most: int = 100, brightness: float = 0.3) -> Beads:
    """Find single beads, cut them out, centre them to a part of a cell, and average them.

    The background is the median. A bead is a local top of at least `brightness` times the brightest one, both over
    the background. Beads are left out that lie nearer than `size_px` to another, or nearer than
    half of it to an edge. Each is centred by its centre of mass (a shift of the Fourier phase) and scaled to the
    same light.

    Args:
        recording: [*spatial], any number of axes.
        size_px: side of the result along every axis; odd.
        most: how many beads are averaged, the brightest first.
        brightness: 0 to 1.

    Raises:
        ConfigError: an even size, or no bead is left.
        ShapeError: the recording is smaller than the result along an axis.
    """
    if size_px < 3 or size_px % 2 == 0:
        raise ConfigError(f"size_px must be odd and 3 or more, so that there is a middle cell, got {size_px}")
    if any(cells < size_px for cells in recording.shape):
        raise ShapeError(
            f"the recording must be {size_px} px or more along every axis, got {list(recording.shape)}"
        )
    light = recording.double()
    light = torch.where(light.isfinite(), light, light[light.isfinite()].median())
    light = light - light.median()
    places = _single_beads(light, size_px, brightness)[:most]
    if not places:
        raise ConfigError(
            f"expected beads that stand alone, found none {size_px} px apart and as far from the edges; "
            "give a smaller size_px, or a recording with fewer beads"
        )
    half = size_px // 2
    cut = [light[tuple(slice(at - half, at + half + 1) for at in place)] for place in places]
    mean = torch.stack([_centred(bead) for bead in cut]).mean(0)
    return Beads(psf=unit_sum(mean.clamp(min=0)), places_px=tuple(places))


def _single_beads(light: Tensor, size_px: int, brightness: float) -> list[tuple[int, ...]]:
    """Return the places of beads that stand alone, the brightest first.

    Neighbours count from a third of `brightness` on, and from a sixth of `size_px` away: nearer, two tops are one bead.
    """
    half, near, top = size_px // 2, max(1, size_px // 6), float(light.max())
    candidates = torch.nonzero(light >= brightness / 3 * top).tolist() if top > 0 else []
    peaks = []
    for place in candidates:
        around = light[tuple(slice(max(0, at - near), at + near + 1) for at in place)]
        if float(light[tuple(place)]) == float(around.max()):
            peaks.append(tuple(place))
    alone = []
    for peak in peaks:
        close = sum(max(abs(a - b) for a, b in zip(peak, other, strict=True)) < size_px for other in peaks)
        inside = all(half <= at < cells - half for at, cells in zip(peak, light.shape, strict=True))
        if close == 1 and inside and float(light[peak]) >= brightness * top:
            alone.append(peak)
    return sorted(alone, key=lambda place: -float(light[place]))


def _centred(bead: Tensor) -> Tensor:
    """Return a bead of the sum 1 whose centre of mass is the middle cell."""
    bead = bead / bead.sum()
    spectrum = torch.fft.fftn(bead)
    for axis, off in enumerate(off_centre_px(bead.clamp(min=0))):
        size = bead.shape[axis]
        turn = torch.exp(2j * math.pi * torch.fft.fftfreq(size, dtype=torch.float64) * off)
        spectrum = spectrum * turn.reshape([-1 if each == axis else 1 for each in range(bead.ndim)])
    return torch.fft.ifftn(spectrum).real
