"""What travels with a LoRA of the tagger that was trained here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import config
from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggerLoraSpec:
    """What keeps a tagger's tokens and tags right on degraded pictures; its tensors are named as DAPE's are."""

    __pydantic_config__ = config.strict
    kind: ClassVar[str] = "tagger_lora"
    newest: ClassVar[int] = 1

    schema: int = newest
    name: str
    """What a person calls it."""
    rank: int
    tagger: str
    """The tagger that it was trained on, by name and content."""
    trained_on: str
    """The data, as a person would cite it."""
    trained_with: str
    """The trainer and its commit."""
    licence: str

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError([f"rank must be 1 or more, got {self.rank}"])
