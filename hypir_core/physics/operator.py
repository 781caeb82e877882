"""Convolution with a point spread function, then sums over cells if wanted, and the exact adjoint; any number of axes.

Convention: the origin of the point spread is the cell ``size // 2`` of every axis; A is a convolution (the point
spread is flipped against the picture), so a single bright cell comes out as the point spread itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from .choices import Boundary


class PsfOperator:
    """A: what the microscope makes of light x [b c *spatial]. Linear; A x has the shape of x, a smaller with `shrink`.

    Args:
        psf: [*spatial], no negative values, a sum above 0; it is scaled to the sum 1 (no light is lost). Any size,
            also even, also larger than the picture where the boundary allows it.
        boundary: how the picture goes on.
        shrink: pixels of the measurement are so many times as long as those of x: blur, then sums of cells. Sums of
            counts follow Poisson's law; means would not.

    Raises:
        ConfigError: the point spread is empty, negative, not finite, or of sum 0; `shrink` is below 1.
    """

    def __init__(self, psf: Tensor, *, boundary: Boundary = Boundary.reflect, shrink: int = 1):
        if shrink < 1:
            raise ConfigError(f"shrink must be a whole number of 1 or more, got {shrink}")
        self.psf, self.boundary, self.shrink = unit_sum(psf), Boundary(boundary), shrink

    @property
    def radius_px(self) -> tuple[int, ...]:
        """Return how far light spreads along every axis."""
        return tuple(max(size // 2, size - 1 - size // 2) for size in self.psf.shape)

    def A(self, x: Tensor) -> Tensor:  # noqa: N802  # the operator's name in every paper
        """Return A x of `x` [b c *spatial], float32 or float64, in its type: sides are divided by `shrink`."""
        self._check(x)
        if any(size % self.shrink for size in x.shape[2:]):
            raise ShapeError(
                f"sums over {self.shrink} px need sides that it divides, got {list(x.shape[2:])}; crop the picture"
            )
        wide = x
        for axis in range(x.ndim - self.psf.ndim, x.ndim):
            wide = wide.index_select(axis, self._source(axis - x.ndim, x.shape[axis], x.device))
        if self.boundary is Boundary.zero:
            wide = self._darken(wide, x.shape)
        return self._summed(self._convolve(wide, x.shape, adjoint=False))

    def At(self, z: Tensor) -> Tensor:  # noqa: N802  # the operator's name in every paper
        """Return Aᵀ z, for which ⟨A x, z⟩ = ⟨x, Aᵀ z⟩: what was continued is folded back onto the picture."""
        for axis in range(2, z.ndim):
            z = z.repeat_interleave(self.shrink, axis) if self.shrink > 1 else z
        self._check(z)
        wide = self._convolve(z, z.shape, adjoint=True)
        if self.boundary is Boundary.zero:
            wide = self._darken(wide, z.shape)
        for axis in range(z.ndim - self.psf.ndim, z.ndim):
            source = self._source(axis - z.ndim, z.shape[axis], z.device)
            shape = [*wide.shape[:axis], z.shape[axis], *wide.shape[axis + 1 :]]
            wide = torch.zeros(shape, dtype=z.dtype, device=z.device).index_add(axis, source, wide)
        return wide

    def _summed(self, x: Tensor) -> Tensor:
        for axis in range(2, x.ndim if self.shrink > 1 else 2):
            x = x.unflatten(axis, (-1, self.shrink)).sum(axis + 1)
        return x

    def _check(self, x: Tensor) -> None:
        axes = self.psf.ndim
        if x.ndim != axes + 2 or 0 in x.shape or not x.is_floating_point():
            raise ShapeError(
                f"a point spread of {axes} axes needs floating pictures [b c] and {axes} axes, none empty, "
                f"got {list(x.shape)} {x.dtype}"
            )
        if self.boundary is not Boundary.reflect:
            return
        for size, reach in zip(x.shape[2:], self.radius_px, strict=True):
            if reach >= size > 1:
                raise ShapeError(
                    f"light spreads {reach} px, a mirrored picture needs more than that along every axis, got "
                    f"{list(x.shape[2:])}; crop the point spread or take the boundary edge"
                )

    def _margins(self, axis: int) -> tuple[int, int]:
        """Return the cells needed before and after the picture along an axis counted from the end."""
        size = self.psf.shape[axis]
        return size - 1 - size // 2, size // 2

    def _source(self, axis: int, cells: int, device: torch.device) -> Tensor:
        """Return, for every cell of the continued picture, which cell of the picture it shows."""
        before, after = self._margins(axis)
        place = torch.arange(-before, cells + after, device=device)
        if self.boundary is Boundary.periodic:
            return place % cells
        if self.boundary is Boundary.reflect and cells > 1:
            return cells - 1 - (cells - 1 - place.abs()).abs()
        return place.clamp(0, cells - 1)

    def _darken(self, wide: Tensor, shape: torch.Size) -> Tensor:
        """Return `wide` with zeros outside the picture."""
        inside = torch.zeros_like(wide)
        for_picture = tuple(
            slice(self._margins(axis)[0], self._margins(axis)[0] + shape[axis])
            for axis in range(-self.psf.ndim, 0)
        )
        inside[(..., *for_picture)] = wide[(..., *for_picture)]
        return inside

    def _convolve(self, x: Tensor, picture: torch.Size, *, adjoint: bool) -> Tensor:
        """Return the valid part of the convolution with the continued picture, or its transpose."""
        axes = tuple(range(-self.psf.ndim, 0))
        sizes = [picture[axis] + self.psf.shape[axis] - 1 for axis in axes]
        spectrum = torch.fft.rfftn(self.psf.to(x), s=sizes, dim=axes)
        if adjoint:
            # the valid part begins where the whole point spread fits in: its transpose puts z there
            placed = x.new_zeros([*x.shape[: -len(axes)], *sizes])
            placed[(..., *self._valid(picture))] = x
            return torch.fft.irfftn(torch.fft.rfftn(placed, dim=axes) * spectrum.conj(), s=sizes, dim=axes)
        full = torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * spectrum, s=sizes, dim=axes)
        return full[(..., *self._valid(picture))]

    def _valid(self, picture: torch.Size) -> tuple[slice, ...]:
        return tuple(
            slice(self.psf.shape[axis] - 1, self.psf.shape[axis] - 1 + picture[axis])
            for axis in range(-self.psf.ndim, 0)
        )


def unit_sum(psf: Tensor) -> Tensor:
    """Return `psf` in float64, scaled to the sum 1.

    Raises:
        ConfigError: it is empty, negative, not finite, or of sum 0.
    """
    psf = psf.detach().double()
    if psf.numel() == 0 or psf.ndim == 0:
        raise ConfigError(f"a point spread needs cells, got the shape {list(psf.shape)}")
    if not bool(psf.isfinite().all()):
        raise ConfigError("a point spread must be finite, got NaN or infinity")
    if bool((psf < 0).any()):
        raise ConfigError(
            f"a point spread has no negative values, got {psf.min():g}; subtract the background"
        )
    if float(psf.sum()) == 0:
        raise ConfigError("a point spread must let light through, got a sum of 0")
    return psf / psf.sum()
