"""A place under a URL: a bucket, a container, a server; through fsspec, one put or one rename for each file."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import FileError, MissingDependencyError
from .manifest import Stamp

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"})
"""There an object is whole or not there. Elsewhere a file gets its name when it is whole, in one rename."""

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


def is_url(text: str) -> bool:
    """Say whether an input or output is a URL."""
    return _URL.match(text) is not None


class Store:
    """Files below one URL."""

    def __init__(self, url: str):
        """Find who speaks the protocol.

        Raises:
            MissingDependencyError: the package for it is not installed.
            FileError: nobody does.
        """
        self.url = url.rstrip("/")
        protocol = url.partition("://")[0].lower()
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as err:
            raise MissingDependencyError("fsspec", "cloud", f"{protocol}://") from err
        try:
            with _named(self.url):
                self._fs, root = url_to_fs(self.url)
        except ImportError as err:
            raise MissingDependencyError(PACKAGES.get(protocol, protocol), "cloud", f"{protocol}://") from err
        self._root = root.rstrip("/")
        self._is_one_file = False
        self._is_object_store = protocol in OBJECT_STORES

    def holds(self, other: Store) -> bool:
        """Say whether another store lies in this one, or is the same."""
        same = type(self._fs) is type(other._fs)
        return same and f"{other._root}/".startswith(f"{self._root}/")

    def files(self, *, missing_ok: bool = False) -> Iterator[tuple[str, Stamp]]:
        """Yield path below the URL, size and time of each file, sorted in each folder at the top, files before folders.

        Of a folder at the top all is listed at once, of the others nothing is kept.

        Raises:
            FileError: it is not there, or cannot be listed: credentials, network.
        """
        with _named(self.url):
            if not self._fs.exists(self._root):
                if missing_ok:
                    return
                raise FileNotFoundError("no such bucket, folder or file")
            top: list[dict[str, Any]] = self._fs.ls(self._root, detail=True)
        self._is_one_file = [_name(info) for info in top if info["type"] == "file"] == [self._root]
        folders: list[str] = []
        for info in sorted(top, key=_name):
            if info["type"] == "directory":
                folders.append(_name(info))
            else:
                yield self._place(_name(info)), _stamp(info)
        del top
        for folder in folders:
            if folder != self._root:  # some stores list the folder that was asked for
                yield from self._below(folder)

    def _below(self, folder: str) -> Iterator[tuple[str, Stamp]]:
        with _named(f"{self.url}/{self._place(folder)}"):
            found: dict[str, Any] = self._fs.find(folder, detail=True)
            self._fs.invalidate_cache()  # a store may keep all that it ever listed
        for name in sorted(found):
            yield self._place(name), _stamp(found[name])

    def _place(self, name: str) -> str:
        """Return a name as seen from the URL."""
        return name[len(self._root) + 1 :] or name.rpartition("/")[2]

    def fetch(self, place: str, path: Path) -> None:
        """Bring a file to this disk.

        Raises:
            FileError: it cannot be brought, or this disk is full.
        """
        with _named(f"{self.url}/{place}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(self._path(place), str(path))

    def put(self, path: Path, place: str) -> None:
        """Send a file; its name is there when all of it is.

        Raises:
            FileError: it cannot be sent; nothing is there under its name then.
        """
        self._write(place, lambda target: self._fs.put_file(str(path), target))

    def put_bytes(self, place: str, content: bytes) -> None:
        """Send a file's content, as `put` does."""
        self._write(place, lambda target: self._fs.pipe_file(target, content))

    def _write(self, place: str, send: Any) -> None:
        target = self._path(place)
        folder, _, name = target.rpartition("/")
        with _named(f"{self.url}/{place}"):
            if self._is_object_store:
                send(target)
                return
            hidden = f"{folder}/.{name[:40]}.{secrets.token_hex(6)}.tmp"
            self._fs.makedirs(folder, exist_ok=True)
            try:
                send(hidden)
                self._fs.mv(hidden, target)
            except BaseException:
                if self._fs.exists(hidden):
                    self._fs.rm_file(hidden)
                raise

    def _path(self, place: str) -> str:
        return self._root if self._is_one_file else f"{self._root}/{place}"


def _name(info: dict[str, Any]) -> str:
    return info["name"].rstrip("/")


def _stamp(info: dict[str, Any]) -> Stamp:
    """Return size and time of an object; where no time is told, a number that its ETag makes."""
    when = next(
        (
            info[name]
            for name in ("LastModified", "last_modified", "mtime", "updated", "created")
            if info.get(name)
        ),
        None,
    )
    if isinstance(when, datetime):
        when = when.timestamp()
    if isinstance(when, (int, float)):
        return Stamp(int(info.get("size") or 0), int(when * 1e9))
    told = str(when or info.get("ETag") or info.get("etag") or info.get("md5Hash") or "")
    return Stamp(
        int(info.get("size") or 0), int.from_bytes(hashlib.sha256(told.encode()).digest()[:7], "big")
    )


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Whatever a store raises becomes one line that names the URL. Packages raise errors of their own kinds."""
    try:
        yield
    except ImportError:
        raise
    except Exception as err:
        said = " ".join(str(err).split()) or type(err).__name__
        raise FileError(
            f"{url}: expected a place that can be reached with the credentials at hand, got "
            f"{type(err).__name__}: {said[:300]}; check the URL, the credentials and the network"
        ) from err
