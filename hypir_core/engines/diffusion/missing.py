"""What is missing before a diffusion engine can be used."""

from __future__ import annotations

from importlib.util import find_spec

from ...errors import WeightsNotFoundError
from ...weights.search.locate import BASE_COMMANDS, LORA_COMMANDS, locate_base, locate_lora


def missing_for_one_step() -> tuple[str, ...]:
    """Return one line for each thing, with the command that gets it."""
    lines = [
        f"the package {name}: pip install 'onestep-restore[diffusion]'"
        for name in ("diffusers", "transformers")
        if find_spec(name) is None
    ]
    for what, locate, command in (
        ("an SD 2.1-base model", locate_base, BASE_COMMANDS[0]),
        ("a HYPIR-style LoRA", locate_lora, LORA_COMMANDS[0]),
    ):
        try:
            locate()
        except WeightsNotFoundError:
            lines.append(f"{what}: {command}")
    return tuple(lines)
