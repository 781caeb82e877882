"""Find the tagger that SeeSR looks at pictures with, and its LoRA, in the order of `locate`.

A file is known by its name; what it holds is said when it is read, since the published ones are pickles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..download.sources import Fetch
from ..not_weights import not_weights
from .base_layout import Missing
from .comfy_paths import weight_files
from .comfy_search import comfy_folders, ranked
from .locate import Results, locate_file

_RESTORE = "hypir restore photo.jpg -o out.png --engine seesr"
TAGGER_COMMANDS = (f"{_RESTORE} --download", f"{_RESTORE} --tagger FILE")
TAGGER_LORA_COMMANDS = (f"{_RESTORE} --download", f"{_RESTORE} --tagger-lora FILE")
"""What mends a missing file: download it; use a copy one already has."""

_TAGGER_NAME = re.compile(r"ram_swin_large_14m|(?:ram|dape|seesr|hypir)[-_ ]?tagger")
_LORA_NAME = re.compile(r"dape(?![-_ ]?tagger)")


def locate_tagger(
    given: str | Path | None = None,
    *,
    comfy_models: Sequence[Path] | None = None,
    offline: bool = False,
    fetch: Fetch | None = None,
    commands: tuple[str, str] = TAGGER_COMMANDS,
) -> Path:
    """Find RAM's weights: the published ``ram_swin_large_14m.pth``, or what ``hypir convert --to tagger`` made of it.

    Args:
        given: the file, a folder that holds it, or the bare name of a file in a ComfyUI folder (``hypir``, ``rams``).
            When given, nothing else is tried.
        comfy_models: as for `locate_base`.
        offline: as for `locate_base`.
        fetch: as for `locate_base`.
        commands: the two that mend a missing file.

    Raises:
        WeightsNotFoundError, WeightsError, Cancelled: as for `locate_base`.
    """
    return _locate_named(
        "ram",
        given,
        _TAGGER_NAME,
        "ram_swin_large_14m.pth, or seesr_tagger.safetensors",
        what="the tagger's weights (RAM)",
        commands=commands,
        comfy_models=comfy_models,
        offline=offline,
        fetch=fetch,
    )


def locate_tagger_lora(
    given: str | Path | None = None,
    *,
    comfy_models: Sequence[Path] | None = None,
    offline: bool = False,
    fetch: Fetch | None = None,
    commands: tuple[str, str] = TAGGER_LORA_COMMANDS,
) -> Path:
    """Find SeeSR's LoRA for the tagger, ``DAPE.pth``; arguments and errors are `locate_tagger`'s."""
    return _locate_named(
        "dape",
        given,
        _LORA_NAME,
        "DAPE.pth",
        what="SeeSR's LoRA for the tagger (DAPE)",
        commands=commands,
        comfy_models=comfy_models,
        offline=offline,
        fetch=fetch,
    )


def _locate_named(
    source: str,
    given: str | Path | None,
    name: re.Pattern[str],
    examples: str,
    *,
    what: str,
    commands: tuple[str, str],
    comfy_models: Sequence[Path] | None,
    offline: bool,
    fetch: Fetch | None,
) -> Path:
    """Find a file that is known by its name, or any file that a person names."""

    def recognise(path: Path, place: str) -> Results[Path]:
        if given is not None and path.is_file():
            fault = not_weights(path)
            yield place, path if fault is None else Missing(f"is {fault}")
        else:
            yield place, _named_in([path], name, examples)

    def in_comfy(file_name: str | None) -> Results[Path]:
        wanted = name if file_name is None else re.compile(f"{re.escape(file_name.lower())}$")
        for root, folders in comfy_folders(comfy_models, "hypir", "rams", "loras"):
            if isinstance(folders, Missing):
                yield root, folders
            else:
                every = [place for kind in folders for place in kind]
                yield root, _named_in(every, wanted, file_name or examples)

    return locate_file(
        (source,),
        given,
        recognise,
        what=what,
        commands=commands,
        in_comfy=in_comfy,
        offline=offline,
        fetch=fetch,
    )


def _named_in(folders: Sequence[Path], name: re.Pattern[str], examples: str) -> Path | Missing:
    """Return the file of that name below some folders, safetensors before pickles."""
    if not any(folder.is_dir() for folder in folders):
        return Missing("no such file or folder" if len(folders) == 1 else "no folder called hypir or rams")
    reason = f"no {examples}"
    named = (file for file in weight_files(folders) if file.is_file() and name.match(file.name.lower()))
    for path in ranked(named):
        fault = not_weights(path)
        if fault is None:
            return path
        reason = f"{path.name} is {fault}"
    return Missing(reason)
