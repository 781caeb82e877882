"""What can be trained to restore, in one list."""

from __future__ import annotations

from functools import partial

import torch

from hypir_core.models.architectures import ARCHITECTURES
from hypir_core.registry import Registry, lazy

from ..config import TrainConfig
from .base import Generator, GeneratorKind
from .feed_forward import feed_forward, find_base, sizes_of

__all__ = ["GENERATORS", "Generator", "GeneratorKind", "build_generator"]

GENERATORS: Registry[GeneratorKind] = Registry("generator")

GENERATORS.add(
    "sd2_lora",
    lazy(".sd2_lora:SD2_LORA", __name__),
    summary="one step of Stable Diffusion 2.1, frozen, with a LoRA that is trained",
    lazy=True,
)
for _name in ("compact", "rrdb"):
    GENERATORS.add(
        _name,
        GeneratorKind(
            make=partial(feed_forward, _name),
            check=partial(sizes_of, _name),
            find=find_base,
        ),
        summary=ARCHITECTURES.entry(_name).summary,
    )


def build_generator(config: TrainConfig, device: torch.device) -> Generator:
    """Make the generator that `config` names, with the weights of `base_model` when it is given.

    Raises:
        UnknownNameError: no such generator.
        ConfigError: an option that the generator does not take.
        WeightsError: `base_model` or a warm start cannot be read or does not fit.
    """
    return GENERATORS.get(config.generator.name).make(config, device)
