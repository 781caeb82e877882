"""One visit to the page: its folder, its wish to stop, and that nothing of it is left afterwards."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Cancelled

STALE_S = 3600
"""An upload that no page has asked for within this time was broken off."""


class Session:
    """One open page. Its folder is removed when the page is closed and nothing works in it any more."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.stop = threading.Event()
        """Set to stop what runs."""
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        self._made = 0

    @contextmanager
    def in_use(self) -> Iterator[Path]:
        """Keep the folder while the block runs.

        Raises:
            Cancelled: the page was closed.
        """
        with self._lock:
            if self._closed:
                raise Cancelled("the page was closed")
            self._users += 1
        try:
            yield self.folder
        finally:
            with self._lock:
                self._users -= 1
            self._remove_if_over()

    def new_folder(self) -> Path:
        """Return a new folder for files of this page."""
        with self._lock:
            self._made += 1
            folder = self.folder / f"{self._made:04}"
        folder.mkdir(parents=True)
        return folder

    def holds(self, path: Path) -> bool:
        """Say whether a file is this page's."""
        return self.folder.resolve() in path.resolve().parents

    def close(self) -> None:
        """Stop what runs and remove the folder, at once or when nothing works in it any more."""
        self.stop.set()
        with self._lock:
            self._closed = True
        self._remove_if_over()

    def _remove_if_over(self) -> None:
        with self._lock:
            if self._closed and not self._users and self.folder.exists():
                shutil.rmtree(self.folder)


class Sessions:
    """All open pages of one server, below one private folder."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hypir-web-")).resolve()
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}
        self._kept: set[Path] = set()

    def keep_what_is_there(self) -> None:
        """Keep what the page itself is made of as long as the server runs."""
        self._kept = set(self.root.iterdir())

    def of(self, name: str | None) -> Session:
        """Return a page's session. The name is the browser's word: no path is made from it."""
        with self._lock:
            if name not in self._open:
                self._open[name or ""] = Session(Path(tempfile.mkdtemp(prefix="page-", dir=self.root)))
            return self._open[name or ""]

    def close(self, name: str | None) -> None:
        """Forget a page and its files, and uploads that were broken off."""
        with self._lock:
            session = self._open.pop(name or "", None)
        if session is not None:
            session.close()
        for path in set(self.root.iterdir()) - self._kept:
            if not path.name.startswith("page-") and path.stat().st_mtime < time.time() - STALE_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def close_all(self) -> None:
        """Forget every page and remove everything."""
        with self._lock:
            sessions, self._open = tuple(self._open.values()), {}
        for session in sessions:
            session.close()
        shutil.rmtree(self.root, ignore_errors=True)  # a file that another thread removes at this moment
