"""What may be downloaded: files, mirrors in order, licence. The list itself is ``presets/sources.yaml``."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...config import PRESETS, build, load_yaml, strict
from ...environment import variables
from ...errors import ConfigError, UnknownNameError

HUB = "https://huggingface.co"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a source."""

    __pydantic_config__ = strict

    path: str
    """Path inside the repository, and below the folder it is downloaded into."""
    size_bytes: int | None = None
    """Exact size; None: taken from the server."""
    sha256: str | None = None
    """None: not pinned; the file is checked against the hash that the server states."""

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or "\\" in self.path or ":" in self.path:
            raise ConfigError(f"path {self.path!r}: expected a relative path inside the repository")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ConfigError(f"sha256 {self.sha256!r}: expected 64 lower-case hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """One place that serves the files of a source at ``endpoint/repo/resolve/revision/path``."""

    __pydantic_config__ = strict

    repo: str
    """``owner/name``."""
    revision: str
    """A full commit (pinned) or a branch."""
    endpoint: str = HUB
    """Address of the hub; the environment variable HF_ENDPOINT replaces the default one."""

    def __post_init__(self) -> None:
        if not self.endpoint.startswith(("https://", "http://")):
            raise ConfigError(f"endpoint {self.endpoint!r}: expected an http(s) address")

    @property
    def pinned(self) -> bool:
        """Whether the revision can never change."""
        return _COMMIT.fullmatch(self.revision) is not None

    def url(self, path: str) -> str:
        """Return the address of one file."""
        hub = variables().get("HF_ENDPOINT", "").rstrip("/") or HUB
        endpoint = hub if self.endpoint == HUB else self.endpoint
        return f"{endpoint}/{self.repo}/resolve/{self.revision}/{path}"

    def __str__(self) -> str:
        host = self.url("").split("/")[2]
        revision = self.revision[:8] if self.pinned else f"{self.revision}, not pinned"
        return f"{host}/{self.repo} ({revision})"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files that belong together, and every place that has them."""

    __pydantic_config__ = strict

    name: str
    """Key in the list; also the folder below `cache_folder`."""
    title: str
    about_bytes: int
    """Roughly how much is downloaded in all."""
    licence: str
    licence_url: str
    terms: str
    """What the licence means for a user, in one or two sentences."""
    mirrors: tuple[Mirror, ...]
    """Tried in this order; all files come from one of them."""
    files: tuple[SourceFile, ...]
    also_cached_as: tuple[str, ...] = ()
    """Further repositories of the hub whose local copy holds the same files."""

    @property
    def repos(self) -> tuple[str, ...]:
        """Repositories of the Hugging Face hub with these files, each once."""
        return tuple(dict.fromkeys((*(mirror.repo for mirror in self.mirrors), *self.also_cached_as)))


Fetch = Callable[[Source, Path], object]
"""Downloads a source into a folder, or raises: `download` with its questions and progress filled in."""


def load_source(name: str, *, path: Path | None = None) -> Source:
    """Read one source of the list (`path`: another list than the one that ships).

    Raises:
        UnknownNameError: no source has that name.
        ConfigError: the list is broken.
    """
    return load_sources((name,), path=path)[0]


def load_sources(names: Sequence[str], *, path: Path | None = None) -> list[Source]:
    """Read several sources at once; raises as `load_source`."""
    path = path or PRESETS / "sources.yaml"
    listed = load_yaml(path)
    unknown = [name for name in names if name not in listed]
    if unknown:
        raise UnknownNameError("source", unknown[0], listed)
    return [build(Source, {"name": name, **listed[name]}, where=f"{path.name}: {name}") for name in names]


def source_names() -> tuple[str, ...]:
    """Return the names of all sources, in the order of the list."""
    return tuple(load_yaml(PRESETS / "sources.yaml"))


def describe(source: Source, into: Path | None = None) -> str:
    """Say what would be downloaded, how big it is, from where, where to, and under which licence."""
    unpinned = [file.path for file in source.files if file.sha256 is None]
    if not unpinned:
        check = "sha256 pinned"
    elif len(unpinned) == len(source.files):
        check = "sha256 not pinned: checked against what the server states"
    else:
        check = "sha256 of the weights pinned, small files checked against what the server states"
    lines = [
        f"Download: {source.title}",
        f"  size:    about {human_size(source.about_bytes)} in {_files(len(source.files))} ({check})",
        f"  from:    {source.mirrors[0]}",
        *(f"  or from: {mirror}" for mirror in source.mirrors[1:]),
        f"  to:      {into or cache_folder() / source.name}",
        f"  licence: {source.licence}, {source.licence_url}",
        textwrap.fill(source.terms, 100, initial_indent=" " * 11, subsequent_indent=" " * 11),
    ]
    return "\n".join(lines)


def cache_folder() -> Path:
    """Return the folder below which downloads of this project lie; it need not exist yet.

    ``XDG_CACHE_HOME/onestep-restore`` where that variable is set, else the platform's own cache folder
    (``~/.cache``, ``~/Library/Caches``, ``%LOCALAPPDATA%``).
    """
    stated = variables().get("XDG_CACHE_HOME")
    if stated:
        base = Path(stated).expanduser()
    elif sys.platform == "win32":
        base = Path(variables().get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "onestep-restore"


def offline_by_environment() -> bool:
    """Return whether HF_HUB_OFFLINE forbids the network."""
    return variables().get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def human_size(size_bytes: float) -> str:
    """Return ``5.2 GB``, ``335 MB``, ``912 kB`` (decimal units, as shops and hubs count) or ``61 bytes``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            number = size_bytes / factor
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{int(size_bytes)} bytes"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
