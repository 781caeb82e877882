"""The extra ControlNets that a user asks for, with what makes their pictures."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ....conditions.base import ConditionSettings, Make
from ....conditions.catalog import load_condition
from ....conditions.guide import parse_guides
from ....models.sd.controlnet import load_controlnet
from ....weights.download.sources import Fetch
from ....weights.search.locate_controlnet import locate_controlnet
from .making import Guide
from .options import SeesrOptions


def load_guides(options: SeesrOptions, device: torch.device, fetch: Fetch | None) -> tuple[Guide, ...]:
    """Find and load them; those of strength 0 are left out.

    Raises:
        WeightsNotFoundError, WeightsError, SpecMismatchError: a ControlNet cannot be found or used.
        ConfigError, UnknownNameError: a guide is not understood.
        HypirError: what makes a guide's picture cannot be loaded.
    """
    settings = ConditionSettings(
        edge_low=options.edge_low, edge_high=options.edge_high, depth_model=options.depth_model
    )
    guides = []
    for asked in parse_guides(options.guides, options.guide_weights):
        if asked.strength == 0:
            continue
        path = locate_controlnet(asked.kind, asked.weights, offline=options.offline, fetch=fetch)
        make = load_condition(asked.kind, asked.source, settings=settings, device=device)
        guides.append(
            Guide(
                name=asked.kind,
                net=load_controlnet(path),
                strength=asked.strength,
                picture=partial(_picture, make),
                label=path.name,
            )
        )
    return tuple(guides)


def _picture(make: Make, image_01: Tensor, size_px: tuple[int, ...]) -> tuple[Tensor, tuple[str, ...]]:
    made = make(image_01, (size_px[0], size_px[1]))
    return made.picture_01, made.notes
