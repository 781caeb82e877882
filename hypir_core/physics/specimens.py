"""Pictures as a fluorescence microscope would see them without blur or noise, made from nothing but numbers.

Three kinds of specimen, because what a network learns on one alone it does badly on the others: beads (points of light),
filaments (thin bent lines, as of a cytoskeleton) and cells (bright shapes with a grain and dark nuclei). No download.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UnknownNameError


def beads(side_px: int, generator: torch.Generator) -> Tensor:
    """Return beads of different brightness and size on a dark field, [side side], 0 or more."""
    count = 4 + _below(generator, max(2, side_px * side_px // 150))
    places = torch.rand(count, 2, generator=generator) * side_px
    light = torch.rand(count, generator=generator) * 0.8 + 0.2
    points = _splat(places, light, side_px)
    return _blurred(points, _between(generator, 0.6, 1.3))


def filaments(side_px: int, generator: torch.Generator) -> Tensor:
    """Return thin bent lines that cross, [side side], 0 or more."""
    count = 3 + _below(generator, max(2, side_px // 8))
    steps = 3 * side_px
    headings = torch.rand(count, generator=generator) * 2 * math.pi
    stiffness = _between(generator, 0.02, 0.12)
    turns = torch.randn(count, steps, generator=generator).mul(stiffness).cumsum(1)
    angles = headings[:, None] + turns
    starts = torch.rand(count, 2, generator=generator) * side_px
    moves = torch.stack([angles.sin(), angles.cos()], -1) * 0.5
    places = starts[:, None] + moves.cumsum(1) - moves.sum(1, keepdim=True) / 2
    light = (torch.rand(count, 1, generator=generator) * 0.7 + 0.3).expand(count, steps)
    lines = _splat(places.reshape(-1, 2), light.reshape(-1), side_px)
    return _blurred(lines, _between(generator, 0.5, 1.0))


def cells(side_px: int, generator: torch.Generator) -> Tensor:
    """Return shapes with soft edges, a grain and a darker nucleus, [side side], 0 or more."""
    picture = torch.zeros(side_px, side_px)
    rows, columns = torch.meshgrid(torch.arange(side_px), torch.arange(side_px), indexing="ij")
    grain = _blurred(torch.randn(side_px, side_px, generator=generator), _between(generator, 0.8, 2.0))
    grain = 1 + _between(generator, 0.1, 0.4) * grain / grain.std().clamp(min=1e-6)
    for _ in range(1 + _below(generator, max(2, side_px * side_px // 1500))):
        middle = torch.rand(2, generator=generator) * side_px
        radii = 4 + torch.rand(2, generator=generator) * max(2.0, min(side_px / 5, 16.0))
        turn = _between(generator, 0, math.pi)
        down, right = rows - middle[0], columns - middle[1]
        along = down * math.cos(turn) + right * math.sin(turn)
        across = right * math.cos(turn) - down * math.sin(turn)
        far = ((along / radii[0]).square() + (across / radii[1]).square()).sqrt()
        edge = float(radii.min())
        shape = torch.sigmoid((1 - far) * edge)
        nucleus = torch.sigmoid((0.4 - far) * edge)
        light = _between(generator, 0.3, 1.0)
        picture = torch.maximum(picture, light * shape * (1 - _between(generator, 0.3, 0.8) * nucleus))
    return (picture * grain).clamp(min=0)


SPECIMENS = {"beads": beads, "filaments": filaments, "cells": cells}
"""Name → a function of side and generator."""


def specimen(kind: str, side_px: int, generator: torch.Generator) -> Tensor:
    """Return light [1 side side], float32, from 0 to 1.

    Raises:
        UnknownNameError: no such kind.
    """
    if kind not in SPECIMENS:
        raise UnknownNameError("kind of specimen", kind, SPECIMENS)
    light = SPECIMENS[kind](side_px, generator)
    return (light / light.max().clamp(min=1e-6))[None]


def _splat(places: Tensor, light: Tensor, side_px: int) -> Tensor:
    """Return points of light [n 2] shared among the four cells around each; those outside are lost."""
    picture = torch.zeros(side_px * side_px)
    low = places.floor()
    part = places - low
    for down in (0, 1):
        for right in (0, 1):
            cell = low.long() + torch.tensor([down, right])
            share = (part[:, 0] if down else 1 - part[:, 0]) * (part[:, 1] if right else 1 - part[:, 1])
            inside = ((cell >= 0) & (cell < side_px)).all(1)
            picture.index_add_(0, (cell[:, 0] * side_px + cell[:, 1])[inside], (light * share)[inside])
    return picture.view(side_px, side_px)


def _blurred(picture: Tensor, sigma_px: float) -> Tensor:
    """Return [h w] blurred by a Gaussian, dark outside."""
    reach = math.ceil(3 * sigma_px)
    place = torch.arange(-reach, reach + 1, dtype=torch.float32)
    line = torch.exp(-place.square() / (2 * sigma_px**2))
    line = line / line.sum()
    rows = F.conv2d(picture[None, None], line.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(rows, line.view(1, 1, 1, -1), padding=(0, reach))[0, 0]


def _between(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def _below(generator: torch.Generator, end: int) -> int:
    return int(torch.randint(end, (), generator=generator))
