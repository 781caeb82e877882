"""What is missing before a diffusion engine can be used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from ...errors import WeightsNotFoundError
from ...tags.find import missing_for_tagger
from ...weights.search.locate import LORA_COMMANDS, locate_base, locate_lora
from ...weights.search.locate_seesr import SEESR_COMMANDS, locate_seesr
from ...weights.search.wanted_base import SD21_BASE, SD_TURBO
from ..optional import OPTIONAL


def missing_for_one_step() -> tuple[str, ...]:
    """Return one line for each thing, with the command that gets it."""
    return (
        *_packages("diffusers", "transformers"),
        *_files(
            (SD21_BASE.what, locate_base, SD21_BASE.commands[0]),
            ("a HYPIR-style LoRA", locate_lora, LORA_COMMANDS[0]),
        ),
    )


def missing_for_seesr() -> tuple[str, ...]:
    """Return one line for each thing, with the command that gets it."""
    return (
        *_packages("diffusers", "transformers"),
        *_files(
            (SD_TURBO.what, partial(locate_base, wanted=SD_TURBO), SD_TURBO.commands[0]),
            ("SeeSR's UNet and ControlNet", locate_seesr, SEESR_COMMANDS[0]),
        ),
        *(f"{OPTIONAL}{line}" for line in missing_for_tagger()),
    )


def missing_for_unet() -> tuple[str, ...]:
    """Return one line where the networks of pixels cannot be made; their weights are always named."""
    return _packages("diffusers")


def _packages(*names: str) -> tuple[str, ...]:
    return tuple(
        f"the package {name}: pip install 'onestep-restore[diffusion]'"
        for name in names
        if find_spec(name) is None
    )


def _files(*wanted: tuple[str, Callable[[], object], str]) -> tuple[str, ...]:
    lines = []
    for what, locate, command in wanted:
        try:
            locate()
        except WeightsNotFoundError:
            lines.append(f"{what}: {command}")
    return tuple(lines)
