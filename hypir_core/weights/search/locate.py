"""Find the base model and the LoRA on this machine; download them only where the caller allows it.

Order: the path a user gives (and then nothing else) → this project's own downloads and the Hugging Face
cache → ComfyUI's model folders → a download.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from ...errors import WeightsNotFoundError
from ..download.sources import Fetch, Source, cache_folder, load_source, load_sources, offline_by_environment
from ..file_names import WEIGHT_ENDINGS
from .base_files import BaseFiles
from .base_layout import Missing, read_base, read_single_file
from .comfy_search import base_in_comfy, lora_in, lora_in_comfy, ranked
from .hub_cache import hub_cache_folder, is_repo_id, snapshots
from .lora_layout import read_lora_place
from .wanted_base import SD21_BASE, WantedBase

Found = TypeVar("Found")

Results: TypeAlias = Iterator[tuple[str, "Found | Missing"]]
"""Places that were looked at, as a person would name them, and what is there."""

LORA_SOURCE = "hypir-lora"

_RESTORE = "hypir restore photo.jpg -o out.png --engine one-step"
LORA_COMMANDS = (f"{_RESTORE} --download", f"{_RESTORE} --lora FILE")
"""What mends a missing file: download it; use a copy one already has."""


def locate_base(
    custom: str | Path | None = None,
    *,
    wanted: WantedBase = SD21_BASE,
    comfy_models: Sequence[Path] | None = None,
    offline: bool = False,
    fetch: Fetch | None = None,
) -> BaseFiles:
    """Find a base model.

    Args:
        custom: a diffusers folder, a folder of separate files, one .safetensors or .ckpt file, or the id
            ``owner/name`` of a repository in the Hugging Face cache. When given, nothing else is tried.
        wanted: the model that is looked for where nothing is given; what is given may be any.
        comfy_models: ComfyUI folders (or their ``models`` folders) to look into; None: those of this machine.
        offline: never use `fetch`; also set by HF_HUB_OFFLINE=1.
        fetch: called with the source and a folder when nothing is found; None: nothing is downloaded.

    Raises:
        WeightsNotFoundError: lists every place that was tried and the two commands that would mend it.
        WeightsError, Cancelled: from `fetch`.
    """
    return locate_file(
        wanted.sources,
        custom,
        partial(_recognise_base, wanted),
        what=wanted.what,
        commands=wanted.commands,
        in_comfy=lambda name: iter(()) if name else base_in_comfy(comfy_models, wanted),
        offline=offline,
        fetch=fetch,
    )


def locate_lora(
    custom: str | Path | None = None,
    *,
    comfy_models: Sequence[Path] | None = None,
    offline: bool = False,
    fetch: Fetch | None = None,
) -> Path:
    """Find a HYPIR-style LoRA file (``HYPIR_sd2.safetensors``, ``HYPIR_sd2.pth`` …).

    Args:
        custom: a file, a folder that holds HYPIR's, or the bare name of a file in a ComfyUI folder. When
            given, nothing else is tried.
        comfy_models: as for `locate_base`.
        offline: as for `locate_base`.
        fetch: as for `locate_base`. The licence of the published file forbids commercial use.

    Raises:
        WeightsNotFoundError: lists every place that was tried and the two commands that would mend it.
        WeightsError, Cancelled: from `fetch`.
    """

    def recognise(path: Path, place: str) -> Results[Path]:
        # A person who names a place means what lies there, whatever it is called.
        yield place, read_lora_place(path) if custom is not None else lora_in(path)

    return locate_file(
        (LORA_SOURCE,),
        custom,
        recognise,
        what="a HYPIR-style LoRA file",
        commands=LORA_COMMANDS,
        in_comfy=lambda name: lora_in_comfy(comfy_models, name),
        offline=offline,
        fetch=fetch,
    )


def locate_file(
    sources: Sequence[str],
    custom: str | Path | None,
    recognise: Callable[[Path, str], Results[Found]],
    *,
    what: str,
    commands: tuple[str, str],
    in_comfy: Callable[[str | None], Results[Found]],
    offline: bool = False,
    fetch: Fetch | None = None,
) -> Found:
    """Find weights of any kind, in the order of this module's first lines.

    Args:
        sources: names in the list of sources, all of them equally good; the first is what is downloaded.
        custom: a path, the id ``owner/name`` of a repository in the Hugging Face cache, or the bare name of a file
            in a ComfyUI folder. When given, nothing else is tried.
        recognise: looks at a path, a file or folder that may be missing, and yields what it finds there.
        what: names the weights, with their article.
        commands: the two that mend a missing file: download it; use a copy one already has.
        in_comfy: looks into ComfyUI's folders, for a file of the name that is given or, with None, for the usual ones.
        offline: never use `fetch`; also set by HF_HUB_OFFLINE=1.
        fetch: called with the source and a folder when nothing is found; None: nothing is downloaded.

    Raises:
        WeightsNotFoundError: lists every place that was tried and the two commands.
        WeightsError, Cancelled: from `fetch`.
    """
    tried: list[str] = []
    places = (
        _custom_places(custom, recognise, in_comfy)
        if custom is not None
        else _usual_places(sources, recognise, in_comfy)
    )
    for place, result in places:
        if not isinstance(result, Missing):
            return result
        tried.append(f"{place}: {result.reason}")
    if custom is None:
        folder = _fetched(sources[0], offline=offline, fetch=fetch, tried=tried)
        for _, result in recognise(folder, _own_download(folder)) if folder else ():
            if not isinstance(result, Missing):
                return result
    raise WeightsNotFoundError(_not_found(what, tried, commands))


def _custom_places(
    custom: str | Path,
    recognise: Callable[[Path, str], Results[Found]],
    in_comfy: Callable[[str | None], Results[Found]],
) -> Results[Found]:
    path, name = Path(custom).expanduser(), str(custom)
    yield from recognise(path, f"given path: {path}")
    if not path.exists():
        if is_repo_id(name) and not name.lower().endswith(WEIGHT_ENDINGS):
            yield from _in_hub_cache(name, None, recognise)
        if path.name == name:
            yield from in_comfy(name)


def _usual_places(
    names: Sequence[str],
    recognise: Callable[[Path, str], Results[Found]],
    in_comfy: Callable[[str | None], Results[Found]],
) -> Results[Found]:
    sources = load_sources(names)
    for source in sources:
        folder = _own_folder(source)
        yield from recognise(folder, _own_download(folder))
    pins = {mirror.repo: mirror.revision for source in sources for mirror in source.mirrors if mirror.pinned}
    for repo in dict.fromkeys(repo for source in sources for repo in source.repos):
        yield from _in_hub_cache(repo, pins.get(repo), recognise)
    yield from in_comfy(None)


def _in_hub_cache(
    repo: str, revision: str | None, recognise: Callable[[Path, str], Results[Found]]
) -> Results[Found]:
    cache = f"Hugging Face cache {hub_cache_folder()}: {repo}"
    there = snapshots(repo, prefer=revision)
    if not there:
        yield cache, Missing("not downloaded")
    for snapshot in there:
        yield from recognise(snapshot, f"{cache}@{snapshot.name[:8]}")


def _recognise_base(wanted: WantedBase, path: Path, place: str) -> Results[BaseFiles]:
    yield place, read_base(path, found_in=place)
    for file in (
        ranked(file for file in path.iterdir() if wanted.is_checkpoint(file)) if path.is_dir() else ()
    ):
        yield f"{place}: {file.name}", read_single_file(file, found_in=place)


def _own_folder(source: Source) -> Path:
    return cache_folder() / source.name


def _own_download(folder: Path) -> str:
    return f"own download: {folder}"


def _fetched(name: str, *, offline: bool, fetch: Fetch | None, tried: list[str]) -> Path | None:
    """Download a source where that is allowed and return its folder; else note in `tried` why not."""
    source = load_source(name)
    if offline or offline_by_environment():
        tried.append("download: not tried, offline (--offline or HF_HUB_OFFLINE)")
        return None
    if fetch is None:
        tried.append("download: not asked for")
        return None
    folder = _own_folder(source)
    fetch(source, folder)
    tried.append(f"download: {source.title} was fetched into {folder}, but cannot be used from there")
    return folder


def _not_found(what: str, tried: list[str], commands: tuple[str, str]) -> str:
    places = "\n".join(f"  - {line}" for line in tried)
    return (
        f"expected {what}, found none; tried:\n{places}\n"
        f"download it (size and licence are shown first):\n  {commands[0]}\n"
        f"or use a copy you already have:\n  {commands[1]}"
    )
