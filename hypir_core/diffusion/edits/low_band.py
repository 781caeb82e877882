"""Keep the low frequencies of a reference: the coarse picture is known, the detail is the network's."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, ShapeError
from ..prediction import wide
from ..samplers.base import Step

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LowBand:
    """Move the low band of the clean estimate towards that of a reference: x0 + w·low(reference − x0)."""

    reference: Tensor
    """[n c …] on the canvas, one to three spatial axes, in the units of the estimate. One image, or one channel,
    serves all."""
    factor: int
    """Cells of the canvas, along each spatial axis, that make one mean. More leaves more to the network."""
    weight: float
    """w, 0 to 1: 0 changes nothing, 1 takes the low band of the reference."""

    def __post_init__(self) -> None:
        if self.factor < 1 or not 0 <= self.weight <= 1:
            raise ConfigError(
                "the low band needs a factor of 1 or more and a weight in 0 … 1, "
                f"got factor {self.factor}, weight {self.weight}"
            )

    def __call__(self, x0: Tensor, step: Step) -> Tensor:
        """See `X0Edit`."""
        x0, reference = wide(x0), self.reference.to(x0)
        fits = x0.ndim == reference.ndim and all(
            has == wants or (has == 1 and axis < 2)
            for axis, (has, wants) in enumerate(zip(reference.shape, x0.shape, strict=True))
        )
        if not fits:
            raise ShapeError(
                f"the reference must fit the estimate's shape {list(x0.shape)}, got {list(reference.shape)}"
            )
        return x0 + self.weight * low_band(reference - x0, self.factor)


def low_band(canvas: Tensor, factor: int) -> Tensor:
    """Return the low frequencies of a canvas: means of `factor` cells along each axis, linearly between them.

    Shapes: [n c …] with one to three spatial axes of any size; returns the same. Linear in `canvas`; a constant
    comes back as it is.
    Convention: a size that `factor` does not divide has ⌈size / factor⌉ means, of windows that share cells
    (adaptive pooling); the linear interpolation keeps the centres of the windows (align_corners=False).
    """
    if canvas.ndim not in _LINEAR:
        raise ShapeError(
            f"the low band needs [n c …] with one to three spatial axes, got {list(canvas.shape)}"
        )
    sizes = canvas.shape[2:]
    means = F.interpolate(canvas, size=[-(-size // factor) for size in sizes], mode="area")
    return F.interpolate(means, size=list(sizes), mode=_LINEAR[canvas.ndim], align_corners=False)
