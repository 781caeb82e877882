"""In which units a loss compares, and an image with its target in all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from hypir_core.image.ranges import UNIT, AnyRange

from ..config import Domain

L = TypeVar("L", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Works:
    """What a loss is meant for."""

    domain: Domain = Domain.pm1
    """The units in which it compares unless the settings say otherwise."""
    only: bool = False
    """Other units make no sense to it."""
    axes: tuple[int, ...] = (2, 3)
    """Numbers of spatial axes that it takes; another number is taken slice by slice."""


def works_in(
    domain: Domain = Domain.pm1, *, only: bool = False, axes: tuple[int, ...] = (2, 3)
) -> Callable[[L], L]:
    """Return a decorator that says what a loss is meant for; without it: `Works`' defaults."""

    def mark(loss: L) -> L:
        loss.works = Works(domain=domain, only=only, axes=axes)  # pyright: ignore[reportFunctionMemberAccess]
        return loss

    return mark


def works_of(loss: Callable[..., Any]) -> Works:
    """Return what a loss, a function or a class, is meant for."""
    return getattr(loss, "works", Works())


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """An image and its target in network values, both [b c *spatial], float32."""

    image: Tensor
    target: Tensor
    values: AnyRange = UNIT
    """The range that made the target's network values out of file values."""
    valid: Tensor | None = None
    """[b 1|c *spatial], true where there is something to compare; None: everywhere."""

    def pair(self, domain: Domain, *, masked: bool = True) -> tuple[Tensor, Tensor]:
        """Return image and target in the units of `domain`.

        With `masked`, the image is the target where that is not valid, and the target is black where it is not even
        finite: nothing differs there, and no gradient comes from there.
        """
        image, target = self.image, self.target
        if masked and self.valid is not None:
            valid = self.valid.bool()
            black = torch.full_like(target, self.values.black_white[0])
            target = torch.where(valid | torch.isfinite(target), target, black)
            image = torch.where(valid, image, target)
        return self._in(domain, image), self._in(domain, target)

    def mask(self) -> Tensor | None:
        """Return 1 where the target is valid, else 0, [b c *spatial]; None if it is everywhere."""
        return None if self.valid is None else self.valid.to(self.target.dtype).expand(self.target.shape)

    def _in(self, domain: Domain, x: Tensor) -> Tensor:
        if domain is Domain.net:
            return x
        if domain is Domain.file:
            return self.values.undo(x)
        black, white = self.values.black_white
        if domain is Domain.unit:
            return x if (black, white) == (0.0, 1.0) else (x - black) / (white - black)
        return x if (black, white) == (-1.0, 1.0) else (x - black) * (2 / (white - black)) - 1
