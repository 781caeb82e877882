"""Find what the Hugging Face libraries already downloaded, without those libraries and without network."""

from __future__ import annotations

import re
from pathlib import Path

from ...environment import variables

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repo_id(text: str) -> bool:
    """Return whether `text` reads as ``owner/name``."""
    return _REPO_ID.fullmatch(text) is not None


def hub_cache_folder() -> Path:
    """Return the cache: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME, ~/.cache."""
    given = variables()
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if given.get(name):
            return Path(given[name]).expanduser()
    if given.get("HF_HOME"):
        return Path(given["HF_HOME"]).expanduser() / "hub"
    caches = Path(given.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser()
    return caches / "huggingface" / "hub"


def snapshots(repo: str, *, prefer: str | None = None) -> list[Path]:
    """Return the local snapshot folders of one repository, the best first.

    Args:
        repo: ``owner/name``.
        prefer: a revision (commit or branch) that comes first where it is there; then the branch ``main``,
            then the newest.
    """
    folder = hub_cache_folder() / f"models--{repo.replace('/', '--')}"
    wanted = [revision for name in (prefer, "main") if name for revision in (_resolve(folder, name),)]
    try:
        there = [path for path in (folder / "snapshots").iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    there.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return sorted(there, key=lambda path: wanted.index(path.name) if path.name in wanted else len(wanted))


def _resolve(folder: Path, revision: str) -> str:
    """Return the commit that a branch pointed at when last downloaded; a commit is returned as it is."""
    ref = folder / "refs" / revision
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
