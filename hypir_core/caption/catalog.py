"""The one list of captioners. Adding one is one file, one entry here, one group of tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import build, strict
from ..errors import ConfigError
from ..registry import Registry, lazy
from .base import INSTRUCTION, Captioner


@dataclass(frozen=True, kw_only=True)
class CaptionerEntry:
    """One line of the catalog."""

    options: type
    """Dataclass of the captioner's settings; its fields hold the defaults."""
    load: Callable[[], Callable[[Any], Captioner]]
    """Import what makes the captioner from its settings: nothing heavy is imported to list them."""


@dataclass(frozen=True, kw_only=True)
class EmptyOptions:
    """The empty caption has no settings."""

    __pydantic_config__ = strict


@dataclass(frozen=True, kw_only=True)
class FixedOptions:
    """Settings of `fixed`."""

    __pydantic_config__ = strict

    text: str
    """The caption of every picture."""


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Settings of `file`."""

    __pydantic_config__ = strict

    path: Path | None = None
    """A text file for every picture; None reads the one beside each picture: photo.txt for photo.jpg."""


@dataclass(frozen=True, kw_only=True)
class OpenAIOptions:
    """Settings of `openai`. The key is no setting: it is read from the environment at each request."""

    __pydantic_config__ = strict

    base_url: str | None = None
    """Address of the server up to and with ``/v1``; None takes HYPIR_CAPTION_BASE_URL, else OPENAI_BASE_URL,
    else OpenAI's own. A server other than those the environment names is never sent a key."""
    model: str | None = None
    """The server's name of the model; None takes HYPIR_CAPTION_MODEL, else gpt-4o-mini."""
    instruction: str = INSTRUCTION
    """What the model is asked."""
    longest_side_px: int = 1024
    """64 to 1024: larger pictures are shrunk to this before they are sent."""
    timeout_s: float = 60.0
    """How long one try may wait for the server."""
    retries: int = 3
    """0 to 10: tries after the first; only when the server is busy (429), fails (5xx) or is too slow."""
    pause_s: float = 1.0
    """Wait before the first retry; doubles each time. A Retry-After of the server counts instead."""

    def __post_init__(self) -> None:
        problems = []
        if not 64 <= self.longest_side_px <= 1024:
            problems.append(f"longest_side_px must be from 64 to 1024, got {self.longest_side_px}")
        if not 0 < self.timeout_s <= 3600:
            problems.append(f"timeout_s must be above 0 and at most 3600, got {self.timeout_s:g}")
        if not 0 <= self.retries <= 10:
            problems.append(f"retries must be from 0 to 10, got {self.retries}")
        if not 0 <= self.pause_s <= 60:
            problems.append(f"pause_s must be from 0 to 60, got {self.pause_s:g}")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class VlmOptions:
    """Settings of `vlm`."""

    __pydantic_config__ = strict

    model: str = "Salesforce/blip-image-captioning-base"
    """A transformers image-text-to-text model: a folder, or a repository id in the Hugging Face cache."""
    instruction: str | None = None
    """What the model is asked. None asks chat models for a sentence of at most 50 words, and other models
    nothing; some of those take a word of their own, such as Florence-2's ``<DETAILED_CAPTION>``."""
    max_new_tokens: int = 128
    """8 to 1024: the caption ends here at the latest."""
    longest_side_px: int = 1024
    """64 to 4096: larger pictures are shrunk to this before the model's own preparation."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    dtype: str = "auto"
    """``auto``, ``float32``, ``bfloat16`` or ``float16``."""
    download: bool = False
    """Fetch the model where it is not in the cache."""

    def __post_init__(self) -> None:
        problems = []
        if not 8 <= self.max_new_tokens <= 1024:
            problems.append(f"max_new_tokens must be from 8 to 1024, got {self.max_new_tokens}")
        if not 64 <= self.longest_side_px <= 4096:
            problems.append(f"longest_side_px must be from 64 to 4096, got {self.longest_side_px}")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, kw_only=True)
class TagsOptions:
    """Settings of `tags`."""

    __pydantic_config__ = strict

    file: str | None = None
    """RAM's weights: ``ram_swin_large_14m.pth``, or what ``hypir convert --to tagger`` made of it; None looks for it on
    this machine."""
    lora: str = "auto"
    """DAPE, SeeSR's LoRA that keeps tags right on degraded pictures: a file, ``auto`` to look for it and do without
    where there is none, ``off``."""
    tag_list: Path | None = None
    """A folder with ``tag_list.txt`` and ``thresholds.txt`` of another tagger; None takes RAM's 4585 tags."""
    threshold: float | None = None
    """0 to 1: a tag is kept above this probability; None takes each tag's own threshold."""
    max_tags: int = 20
    """0 to 1000: the surest tags that are kept."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    dtype: str = "auto"
    """``auto``, ``float32``, ``bfloat16`` or ``float16``."""
    download: bool = False
    """Fetch what is not on this machine: RAM is 5.6 GB."""

    def __post_init__(self) -> None:
        problems = []
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            problems.append(f"threshold must be from 0 to 1, got {self.threshold:g}")
        if not 0 <= self.max_tags <= 1000:
            problems.append(f"max_tags must be from 0 to 1000, got {self.max_tags}")
        if problems:
            raise ConfigError(problems)


CAPTIONERS: Registry[CaptionerEntry] = Registry("captioner")
CAPTIONERS.add(
    "empty",
    CaptionerEntry(options=EmptyOptions, load=lazy(".empty:EmptyCaptioner", __package__)),
    summary="no words",
)
CAPTIONERS.add(
    "fixed",
    CaptionerEntry(options=FixedOptions, load=lazy(".fixed:FixedCaptioner", __package__)),
    summary="the same words for every picture (text=…)",
)
CAPTIONERS.add(
    "file",
    CaptionerEntry(options=FileOptions, load=lazy(".file:FileCaptioner", __package__)),
    summary="a text file beside the picture: photo.txt for photo.jpg",
)
CAPTIONERS.add(
    "openai",
    CaptionerEntry(options=OpenAIOptions, load=lazy(".openai:OpenAICaptioner", __package__)),
    summary="a server that speaks OpenAI's protocol, in the cloud or on this machine",
)
CAPTIONERS.add(
    "tags",
    CaptionerEntry(options=TagsOptions, load=lazy(".tags:TagsCaptioner", __package__)),
    summary="the names of the things in a picture (RAM on this machine), as SeeSR reads them",
)
CAPTIONERS.add(
    "vlm",
    CaptionerEntry(options=VlmOptions, load=lazy(".vlm:VlmCaptioner", __package__)),
    summary="a transformers model on this machine (model=ID)",
)


def captioner_names() -> tuple[str, ...]:
    """Return the names that `load_captioner` takes."""
    return CAPTIONERS.names()


def load_captioner(name: str, options: Mapping[str, Any]) -> Captioner:
    """Make the captioner called `name`; models are loaded and servers asked only when it is called.

    Args:
        name: one of `captioner_names()`.
        options: the captioner's own settings; unknown keys are errors.

    Raises:
        UnknownNameError: no such captioner.
        ConfigError: an option is unknown or wrong.
    """
    entry = CAPTIONERS.get(name)
    try:
        settings = build(entry.options, options, where=f"captioner {name}")
    except ConfigError as err:
        raise ConfigError([f"{problem} (set with --option KEY=VALUE)" for problem in err.problems]) from err
    return entry.load()(settings)
