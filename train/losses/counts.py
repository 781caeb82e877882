"""Losses of counted light. Images float32 [b c *spatial]; each returns a scalar."""

from __future__ import annotations

from torch import Tensor

from ..config import Domain
from .domain import works_in

FLOOR = 1e-6
"""Rates count as at least this."""


@works_in(Domain.file)
def poisson_nll(image: Tensor, target: Tensor) -> Tensor:
    """Return the mean of λ − n·log λ: minus the log likelihood of counts n at rates λ, without what n alone decides.

    `image` are rates, `target` counts or expected counts, both in the units of the files, from 0 on. It is least, but
    not 0, where both are equal. Rates below 1e-6 count as that, so that dark pixels have a finite loss.
    """
    rate = image.clamp(min=FLOOR)
    return (rate - target * rate.log()).mean()
