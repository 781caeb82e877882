"""The tagger on this machine, with SeeSR's LoRA where that is found too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import WeightsNotFoundError
from ..weights.download.sources import Fetch
from ..weights.search.locate_tagger import (
    TAGGER_COMMANDS,
    TAGGER_LORA_COMMANDS,
    locate_tagger,
    locate_tagger_lora,
)
from .files import read_tagger
from .names import read_tag_list
from .tagger import MAX_TAGS, Tagger


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundTagger:
    """A tagger, not loaded yet."""

    tagger: Tagger
    notes: tuple[str, ...] = ()
    """What the user should know about it."""


def find_tagger(
    file: str | Path | None = None,
    lora: str | Path | None = None,
    *,
    want_lora: bool = True,
    tag_list: Path | None = None,
    threshold: float | None = None,
    max_tags: int = MAX_TAGS,
    device: torch.device | None = None,
    dtype: str = "auto",
    comfy_models: Sequence[Path] | None = None,
    offline: bool = False,
    fetch: Fetch | None = None,
    commands: tuple[str, str] = TAGGER_COMMANDS,
    lora_commands: tuple[str, str] = TAGGER_LORA_COMMANDS,
) -> FoundTagger:
    """Find the tagger's files and open them; the network is loaded for the first picture.

    Args:
        file: RAM's, as `locate_tagger` takes it; None looks for it.
        lora: as `locate_tagger_lora` takes it; None looks for it, and does without where there is none.
        want_lora: whether SeeSR's LoRA is looked for at all. A file that it is merged into needs none.
        tag_list: a folder with names and thresholds of another tagger; None: RAM's.
        threshold: as `Tagger` takes it.
        max_tags: as `Tagger` takes it.
        device: as `Tagger` takes it.
        dtype: as `Tagger` takes it.
        comfy_models: as for `locate_base`.
        offline: as for `locate_base`.
        fetch: as for `locate_base`.
        commands: the two that mend a missing file.
        lora_commands: the two that mend a missing LoRA.

    Raises:
        WeightsNotFoundError: the tagger, or the LoRA that is given, is nowhere to be found; lists the places.
        WeightsError, SpecMismatchError: a file cannot be used.
        ConfigError: the tag list cannot be read, or a number is out of its range.
        Cancelled: from `fetch`.
    """
    names = None if tag_list is None else read_tag_list(tag_list)
    path = locate_tagger(file, comfy_models=comfy_models, offline=offline, fetch=fetch, commands=commands)
    opened = read_tagger(path)
    notes: tuple[str, ...] = ()
    if lora is not None or (want_lora and opened.spec.lora is None):
        try:
            found = locate_tagger_lora(
                lora, comfy_models=comfy_models, offline=offline, fetch=fetch, commands=lora_commands
            )
            opened = read_tagger(path, found)
        except WeightsNotFoundError:
            if lora is not None:
                raise
            notes = (
                "the tagger looks without DAPE, SeeSR's LoRA for degraded pictures, which is not on this machine; "
                f"get it with: {lora_commands[0]}",
            )
    tagger = Tagger(opened, names=names, threshold=threshold, max_tags=max_tags, device=device, dtype=dtype)
    return FoundTagger(tagger=tagger, notes=notes)


def missing_for_tagger() -> tuple[str, ...]:
    """Return one line for each file of the tagger that is not on this machine, with the command that gets it."""
    lines = []
    for what, locate, command in (
        ("the tagger (RAM); without it no tags and no image blocks", locate_tagger, TAGGER_COMMANDS[0]),
        ("DAPE, the tagger's LoRA for degraded pictures", locate_tagger_lora, TAGGER_LORA_COMMANDS[0]),
    ):
        try:
            locate()
        except WeightsNotFoundError:
            lines.append(f"{what}: {command}")
    return tuple(lines)
