"""What a LATENT remembers of its picture, so that Tiled Decode can undo it: what was mirrored, and the size asked for.

Stock nodes copy what a LATENT carries and change its samples: a sampler paints anew, a flip or a rotation moves the
picture about. The plan therefore holds a small copy of the samples it was made for. Where these are found flipped or
rotated later, the plan is turned with them; where the size is another, there is no plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..hypir_core.image.resize import resize
from ..hypir_core.tiling.plan import TileWish

PLAN = "hypir_plan"
"""Under this key a LATENT carries its plan."""

MARK_CELLS = 16
"""Side of the small copy: coarse enough to last through a sampler."""

SURE = 0.7
"""Turned samples are taken for turned when they are off by less than this part of what they are off unturned."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A flip along the rows, then quarter turns."""

    flipped: bool = False
    quarters: int = 0

    def of(self, x: Tensor) -> Tensor:
        """Return [… h w], turned."""
        return torch.rot90(x.flip(-1) if self.flipped else x, self.quarters, (-2, -1))

    def undone(self, x: Tensor) -> Tensor:
        """Return [… h w], turned back."""
        back = torch.rot90(x, -self.quarters, (-2, -1))
        return back.flip(-1) if self.flipped else back

    def sides(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return what becomes of a height and a width."""
        h, w = size
        return (w, h) if self.quarters % 2 else (h, w)


TURNS = tuple(Turn(flipped=flipped, quarters=n) for flipped, n in product((False, True), range(4)))
"""All there are; the first changes nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentPlan:
    """How a picture lies on its latent."""

    cells: tuple[int, int]
    """Of the latent."""
    content_px: tuple[int, int]
    """The picture's part of the canvas, top left; the rest was mirrored."""
    size_px: tuple[int, int]
    """What was asked for; the content is resized to it where it differs."""
    wish: TileWish
    mark: Tensor
    """[b c MARK_CELLS MARK_CELLS], the small copy."""
    turn: Turn = TURNS[0]
    """What has been done to the samples since."""

    def undo(self, image: Tensor) -> Tensor:
        """Return a decoded canvas [b c H W] as the picture alone, in the size asked for, turned as the samples are."""
        content = self.turn.undone(image)[..., : self.content_px[0], : self.content_px[1]]
        return self.turn.of(resize(content, self.size_px))


def planned(
    samples: Tensor, *, content_px: tuple[int, int], size_px: tuple[int, int], wish: TileWish
) -> LatentPlan:
    """Return the plan of freshly encoded samples [b c h w]."""
    h, w = samples.shape[-2:]
    return LatentPlan(cells=(h, w), content_px=content_px, size_px=size_px, wish=wish, mark=marked(samples))


def plan_of(latent: Mapping[str, Any]) -> LatentPlan | None:
    """Return the plan that a LATENT carries, turned as its samples are; None where it has none, or another size."""
    plan, samples = latent.get(PLAN), latent["samples"]
    if not isinstance(plan, LatentPlan) or samples.ndim != 4 or samples.shape[1] != plan.mark.shape[1]:
        return None
    possible = [turn for turn in TURNS if turn.sides(plan.cells) == tuple(samples.shape[-2:])]
    if not possible:
        return None
    mark = marked(samples)
    off = {turn: _off(mark, turn.of(plan.mark)) for turn in possible}
    best = min(possible, key=off.__getitem__)
    if TURNS[0] in off and off[best] >= SURE * off[TURNS[0]]:
        best = TURNS[0]
    return replace(plan, turn=best)


def marked(samples: Tensor) -> Tensor:
    """Return a small copy of samples [b c h w], each picture and channel with mean 0 and, all channels, length 1."""
    small = F.adaptive_avg_pool2d(samples.detach().float().cpu(), MARK_CELLS)
    small = small - small.mean((-2, -1), keepdim=True)
    return small / small.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]


def _off(mark: Tensor, wanted: Tensor) -> float:
    """Return how far pictures are from the nearest of those wanted, on average: a batch may be picked from."""
    return float(torch.cdist(mark.flatten(1), wanted.flatten(1)).amin(1).mean())
