"""Find the base model and the LoRA on this machine; download them only where the caller allows it.

Order: the path a user gives (and then nothing else) → this project's own downloads and the Hugging Face
cache → ComfyUI's model folders → a download.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import WeightsNotFoundError
from ..download.sources import Fetch, cache_folder, load_source, load_sources, offline_by_environment
from .base_files import BaseFiles
from .base_layout import Missing, not_weights, read_base, read_single_file
from .comfy_search import base_in_comfy, is_sd21_checkpoint, lora_in, lora_in_comfy, ranked
from .hub_cache import hub_cache_folder, is_repo_id, snapshots

BASE_SOURCES = ("sd21-base", "sd21-base-fp16", "sd21-base-checkpoint")
"""Sources that hold the base model; the first one is what is downloaded."""

LORA_SOURCE = "hypir-lora"

_RESTORE = "hypir restore photo.jpg -o out.png --engine one-step"
BASE_COMMANDS = (f"{_RESTORE} --download", f"{_RESTORE} --base PATH")
LORA_COMMANDS = (f"{_RESTORE} --download", f"{_RESTORE} --lora FILE")
"""What mends a missing file: download it; use a copy one already has."""


def locate_base(
    custom: str | Path | None = None,
    *,
    comfy_models: Sequence[Path] | None = None,
    offline: bool = False,
    fetch: Fetch | None = None,
) -> BaseFiles:
    """Find an SD 2.1-base model.

    Args:
        custom: a diffusers folder, a folder of separate files, one .safetensors or .ckpt file, or the id
            ``owner/name`` of a repository in the Hugging Face cache. When given, nothing else is tried.
        comfy_models: ComfyUI folders (or their ``models`` folders) to look into; None: those of this machine.
        offline: never use `fetch`; also set by HF_HUB_OFFLINE=1.
        fetch: called with the source and a folder when nothing is found; None: nothing is downloaded.

    Raises:
        WeightsNotFoundError: lists every place that was tried and the two commands that would mend it.
        WeightsError, Cancelled: from `fetch`.
    """
    tried: list[str] = []
    for place, result in _custom_base(custom) if custom is not None else _base_places(comfy_models):
        if isinstance(result, BaseFiles):
            return result
        tried.append(f"{place}: {result.reason}")
    if custom is None:
        folder = _fetched(BASE_SOURCES[0], offline=offline, fetch=fetch, tried=tried)
        result = read_base(folder, found_in=f"own download: {folder}") if folder else None
        if isinstance(result, BaseFiles):
            return result
    raise WeightsNotFoundError(_not_found("an SD 2.1-base model", tried, BASE_COMMANDS))


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
    tried: list[str] = []
    search = _custom_lora(custom, comfy_models) if custom is not None else _lora_places(comfy_models)
    for place, result in search:
        if isinstance(result, Path):
            return result
        tried.append(f"{place}: {result.reason}")
    if custom is None:
        folder = _fetched(LORA_SOURCE, offline=offline, fetch=fetch, tried=tried)
        result = lora_in(folder) if folder else None
        if isinstance(result, Path):
            return result
    raise WeightsNotFoundError(_not_found("a HYPIR-style LoRA file", tried, LORA_COMMANDS))


def _custom_base(custom: str | Path) -> Iterator[tuple[str, BaseFiles | Missing]]:
    path = Path(custom).expanduser()
    yield str(path), read_base(path, found_in=f"given path: {path}")
    if not path.exists() and is_repo_id(str(custom)):
        yield from _base_in_hub_cache(str(custom), None)


def _base_places(comfy_models: Sequence[Path] | None) -> Iterator[tuple[str, BaseFiles | Missing]]:
    sources = load_sources(BASE_SOURCES)
    for source in sources:
        folder = cache_folder() / source.name
        yield str(folder), read_base(folder, found_in=f"own download: {folder}")
    pins = {mirror.repo: mirror.revision for source in sources for mirror in source.mirrors if mirror.pinned}
    for repo in dict.fromkeys(repo for source in sources for repo in source.repos):
        yield from _base_in_hub_cache(repo, pins.get(repo))
    yield from base_in_comfy(comfy_models)


def _base_in_hub_cache(repo: str, revision: str | None) -> Iterator[tuple[str, BaseFiles | Missing]]:
    there = snapshots(repo, prefer=revision)
    if not there:
        yield _in_hub_cache(repo), Missing("not downloaded")
    for snapshot in there:
        place = _in_hub_cache(repo, snapshot)
        yield place, read_base(snapshot, found_in=place)
        for path in ranked(path for path in snapshot.iterdir() if is_sd21_checkpoint(path)):
            yield f"{place}: {path.name}", read_single_file(path, found_in=place)


def _custom_lora(
    custom: str | Path, comfy_models: Sequence[Path] | None
) -> Iterator[tuple[str, Path | Missing]]:
    path = Path(custom).expanduser()
    if path.is_dir():
        yield str(path), lora_in(path)
    elif path.is_file():
        fault = not_weights(path)
        yield str(path), Missing(fault) if fault else path
    else:
        yield str(path), Missing("no such file")
        if path.name == str(custom):
            yield from lora_in_comfy(comfy_models, path.name)


def _lora_places(comfy_models: Sequence[Path] | None) -> Iterator[tuple[str, Path | Missing]]:
    source = load_source(LORA_SOURCE)
    yield str(cache_folder() / source.name), lora_in(cache_folder() / source.name)
    for repo in source.repos:
        there = snapshots(repo)
        if not there:
            yield _in_hub_cache(repo), Missing("not downloaded")
        for snapshot in there:
            yield _in_hub_cache(repo, snapshot), lora_in(snapshot)
    yield from lora_in_comfy(comfy_models)


def _fetched(name: str, *, offline: bool, fetch: Fetch | None, tried: list[str]) -> Path | None:
    """Download a source where that is allowed and return its folder; else note in `tried` why not."""
    source = load_source(name)
    if offline or offline_by_environment():
        tried.append("download: not tried, offline (--offline or HF_HUB_OFFLINE)")
        return None
    if fetch is None:
        tried.append("download: not asked for")
        return None
    folder = cache_folder() / source.name
    fetch(source, folder)
    tried.append(f"download: {source.title} was fetched into {folder}, but cannot be used from there")
    return folder


def _in_hub_cache(repo: str, snapshot: Path | None = None) -> str:
    revision = f"@{snapshot.name[:8]}" if snapshot else ""
    return f"Hugging Face cache {hub_cache_folder()}: {repo}{revision}"


def _not_found(what: str, tried: list[str], commands: tuple[str, str]) -> str:
    places = "\n".join(f"  - {line}" for line in tried)
    return (
        f"expected {what}, found none; tried:\n{places}\n"
        f"download it (size and licence are shown first):\n  {commands[0]}\n"
        f"or use a copy you already have:\n  {commands[1]}"
    )
