"""Random crops of photographs, held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from hypir_core import read_picture, to_planes
from hypir_core.errors import ConfigError
from hypir_core.files.formats import is_picture_path


def read_photos(folder: Path) -> list[Tensor]:
    """Return every picture of a folder as uint8 [3 h w], sorted by name.

    Raises:
        ConfigError: there is none.
    """
    paths = sorted(path for path in folder.iterdir() if is_picture_path(path))
    if not paths:
        raise ConfigError(f"{folder}: expected a folder of photographs, found none in it")
    planes = (to_planes(read_picture(path))[0][0] for path in paths)
    return [plane.expand(3, -1, -1).mul(255).round().byte() for plane in planes]


def random_crops(maps: Sequence[Tensor], count: int, side: int, generator: Generator) -> Tensor:
    """Cut `count` squares out of randomly chosen maps [c h w], sides of at least `side` cells.

    Returns [count c side side] in the maps' format.
    """
    return torch.stack([_crop(maps[_below(len(maps), generator)], side, generator) for _ in range(count)])


def random_flips(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each of [b c h w] left to right with probability ½."""
    flipped = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flipped, images.flip(-1), images)


def _crop(one: Tensor, side: int, generator: Generator) -> Tensor:
    y, x = (_below(length - side + 1, generator) for length in one.shape[-2:])
    return one[:, y : y + side, x : x + side]


def _below(limit: int, generator: Generator) -> int:
    return int(torch.randint(limit, (1,), generator=generator))
