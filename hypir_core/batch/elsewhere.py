"""Pictures under a URL: found there, and the manifests of their results."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import ConfigError
from ..files.formats import is_picture_name
from ..files.scenes.recognise import is_scene_path
from .ferry import Ferry
from .finding import Finding, Pictures
from .listed import Listed
from .shards import is_manifest_name
from .store import Store, is_url

SHIP_LINES, SHIP_S = 1000, 30.0
"""So many lines of a manifest are sent together, at most, and so long after the first of them."""


class Elsewhere(Ferry):
    """The ferry of a run: finds the pictures, brings and sends the manifests."""

    def __init__(self, stage: Path, inputs: Sequence[str], out: str, *, force: bool):
        """Look at the stores.

        Raises:
            ConfigError: local and other inputs are mixed, or results would lie among the inputs.
            FileError: a store cannot be listed.
        """
        remote = [is_url(given) for given in inputs]
        if any(remote) and (not all(remote) or len(inputs) > 1):
            raise ConfigError(f"expected one URL as input, got {', '.join(inputs)}; run once for each")
        source = Store(inputs[0]) if any(remote) else None
        target = Store(out) if is_url(out) else None
        if source and target and source.holds(target):
            raise ConfigError(
                f"--out {out} lies in the input {inputs[0]}; choose another place for the results"
            )
        self._found, there = Listed(), Listed()
        self._manifests: list[str] = []
        for place, stamp in () if target is None else target.files(missing_ok=True):
            there.add(place, stamp)
            if is_manifest_name(place):
                self._manifests.append(place)
        super().__init__(stage, source, target, found=self._found, there=there, force=force)
        self.out = stage / "out" if target else Path(out)
        self._manifest = _Shipped()

    def find(self) -> Finding | None:
        """Return the pictures of the source; None where it is local.

        Raises:
            ConfigError: there are none.
            FileError: it cannot be listed.
        """
        if self._source is None:
            return None
        found, hidden = Pictures(), 0
        for place, stamp in self._source.files():
            if not (is_picture_name(place) or is_scene_path(Path(place))):
                continue
            if any(part.startswith(".") for part in place.split("/")):
                hidden += 1
                continue
            self._found.add(place, stamp)
            found.add(str(self._stage / "in" / place), place, named=False)
        if not found:
            raise ConfigError(f"no pictures found in {self._source.url!r}")
        passed_over = (f"{hidden} in hidden folders passed over: name one to include it",) if hidden else ()
        return Finding(pictures=found, passed_over=passed_over)

    def fetch_manifests(self) -> None:
        """Bring the manifests of earlier runs.

        Raises:
            FileError: one cannot be brought.
        """
        if self._target is not None:
            for name in self._manifests:
                self._target.fetch(name, self.out / name)

    def follow(self, manifest: Path) -> None:
        """Send what is added to a manifest from now on."""
        if self._target is not None:
            self._manifest.begin(manifest)

    def listed(self) -> None:
        """Send the new lines of the manifest, when they are many or old enough.

        Raises:
            FileError: they cannot be sent.
        """
        self._manifest.lines += 1
        if self._manifest.is_due():
            self._ship()

    def close(self) -> None:
        """End the threads, and send the last lines.

        Raises:
            FileError: they cannot be sent.
        """
        super().close()
        if self._manifest.lines:
            self._ship()

    def _ship(self) -> None:
        if self._target is not None and (part := self._manifest.cut()) is not None:
            self._target.put_bytes(*part)


class _Shipped:
    """A manifest on this disk, and how much of it was sent: each part is an object of its own."""

    def __init__(self) -> None:
        self.lines = 0
        self._path, self._offset, self._parts, self._since = Path(), 0, 0, time.monotonic()
        self._run = f"{int(time.time()) & 0xFFFFFFFF:08x}{secrets.token_hex(2)}"  # in the order of time

    def begin(self, path: Path) -> None:
        """Send what is added from now on."""
        self._path, self._offset = path, path.stat().st_size if path.exists() else 0

    def is_due(self) -> bool:
        """Say whether the new lines are many or old enough."""
        if self.lines == 1:
            self._since = time.monotonic()
        return self.lines >= SHIP_LINES or time.monotonic() - self._since >= SHIP_S

    def cut(self) -> tuple[str, bytes] | None:
        """Return the name and the bytes of the next part; None where there is nothing new."""
        if not self._path.name or not self._path.exists():
            return None
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        self._parts, self.lines = self._parts + 1, 0
        return f"{self._path.stem}.{self._run}-{self._parts:06}.jsonl", new


@contextmanager
def elsewhere(inputs: Sequence[str], out: str, *, force: bool) -> Iterator[Elsewhere | None]:
    """Give who carries between URLs and this disk; None where nothing lies elsewhere."""
    if not is_url(out) and not any(map(is_url, inputs)):
        yield None
        return
    with TemporaryDirectory(prefix="hypir-") as stage:
        carrier = Elsewhere(Path(stage), inputs, out, force=force)
        try:
            yield carrier
        finally:
            carrier.close()
