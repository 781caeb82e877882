"""What can be trained to restore, in one list."""

from __future__ import annotations

from functools import partial

import torch

from hypir_core.errors import UnknownNameError
from hypir_core.models.architectures import ARCHITECTURES
from hypir_core.registry import Registry, lazy

from ..config import PIXEL, TrainConfig
from .base import Generator, GeneratorKind
from .feed_forward import feed_forward, find_base, options_of

__all__ = ["GENERATORS", "Generator", "GeneratorKind", "build_generator", "generator_kind"]

GENERATORS: Registry[GeneratorKind] = Registry("generator")
"""Generators that are trained in a way of their own; every architecture is trained in the same one."""

GENERATORS.add(
    "sd2_lora",
    lazy(".sd2_lora:SD2_LORA", __name__),
    summary="one step of Stable Diffusion 2.1, frozen, with a LoRA that is trained",
    lazy=True,
)

GENERATORS.add(
    PIXEL,
    lazy(".pixel:PIXEL_KIND", __name__),
    summary="a diffusion model of pixels, for microscopes: many steps, or one",
    lazy=True,
)

GENERATORS.add(
    "seesr",
    lazy(".seesr:SEESR", __name__),
    summary="SeeSR's image blocks and ControlNet on Stable Diffusion 2, frozen: they learn to hold a picture",
    lazy=True,
)

GENERATORS.add(
    "tagger_lora",
    lazy(".tagger_lora:TAGGER_LORA", __name__),
    summary="a LoRA of SeeSR's tagger, as DAPE: it learns to see through damage",
    lazy=True,
)


def generator_kind(name: str) -> GeneratorKind:
    """Return what can be asked of the generator called `name`: one of `GENERATORS`, or an architecture.

    Raises:
        UnknownNameError: no such generator; with the nearest name and both lists.
    """
    if name in GENERATORS:
        return GENERATORS.get(name)
    if name not in ARCHITECTURES:
        raise UnknownNameError("generator", name, [*GENERATORS.names(), *ARCHITECTURES.names()])
    return GeneratorKind(make=partial(feed_forward, name), check=partial(options_of, name), find=find_base)


def build_generator(config: TrainConfig, device: torch.device) -> Generator:
    """Make the generator that `config` names, with the weights of `base_model` when it is given.

    Raises:
        UnknownNameError: no such generator.
        ConfigError: an option that the generator does not take.
        WeightsError: `base_model` or a warm start cannot be read or does not fit.
    """
    return generator_kind(config.generator.name).make(config, device)
