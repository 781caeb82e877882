"""What travels with SeeSR's image blocks and ControlNet that were trained here: a folder of two files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .. import config
from ..errors import ConfigError
from .prediction import Prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class SeesrSpec:
    """Image blocks of a UNet and a ControlNet for one base model; both files of the folder carry it."""

    __pydantic_config__ = config.strict
    kind: ClassVar[str] = "seesr"
    newest: ClassVar[int] = 1

    schema: int = newest
    name: str
    """What a person calls them."""
    engine: str = "seesr"
    """Name of the engine that runs them."""
    base_model: str
    """The model they were trained on."""
    prediction: Prediction = Prediction.eps
    token_width: int = 512
    """Of the tagger's tokens that the image blocks read."""
    tagger: str
    """The tagger whose tokens they learned to read, by name and content."""
    controlnet: Mapping[str, Any] = field(default_factory=dict)
    """The ControlNet's settings, as ``config.json`` beside its file has them."""
    trained_on: str
    """The data, as a person would cite it."""
    trained_with: str
    """The trainer and its commit."""
    licence: str

    def __post_init__(self) -> None:
        if self.token_width < 1:
            raise ConfigError([f"token_width must be 1 or more, got {self.token_width}"])
