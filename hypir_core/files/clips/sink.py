"""The result of a clip: packets are kept beside the file to be until the last is there, also over a kill.

Part after part is packed by an encoder of its own. Behind each, a journal says under which key how much there is, and
what the next part must know of the earlier ones; a run with the same key goes on there. At the end packets, sound and
subtitles become one file.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from ...atomic import atomic_path, explain_os_error
from ...errors import ImageFileError
from .encoder import Encoder, Look, Packet
from .joining import join
from .source import ClipSource

HEAD = struct.Struct("<qqq?I")
"""Of a packet on the disk: shown, decoded, length, is_key, bytes."""

ENDINGS = (".packets", ".frames", ".frames-new", ".carried")


@dataclass(kw_only=True, eq=False)
class ClipSink:
    """Takes frames in the order in which they are shown."""

    path: Path
    look: Look
    source: ClipSource
    """Whose sound, subtitles, chapters and words are copied."""
    key: str = ""
    """Hash of all that the result depends on; parts of a run with another key are of no use. Empty: never resumed."""
    frames: int = 0
    """Frames in finished parts."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What a resumed run must know of the first; saved with every part."""
    notes: tuple[str, ...] = ()
    """What the file lacks; complete after `commit`."""
    _bytes: int = 0
    _encoder: Encoder | None = None
    _taken: int = 0

    def __post_init__(self) -> None:
        stem = f".{self.path.name[:40]}.{self.key[:16] or 'new'}"
        self._packets, self._journal, _, self._hand = (
            self.path.with_name(f"{stem}{ending}") for ending in ENDINGS
        )
        self._carried = self._hand
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._resume()
        except (OSError, ValueError) as err:
            raise ImageFileError(explain_os_error(self.path, err)) from err

    def write(self, image_01: Tensor, at: int, length: int) -> None:
        """Take a frame [1 3 H W] in [0,1], shown from `at` on for `length` units of the source's time.

        Raises:
            ConfigError: the encoder cannot be had.
            ImageFileError: the disk is full …; finished parts stay.
        """
        encoder = self._encoder = self._encoder or Encoder(self.look)
        self._keep(encoder.take(image_01, at, length))
        self._taken += 1

    def end_part(self, carried: Mapping[str, Tensor] | None = None) -> None:
        """Finish a part: what was written is there, also if the program is killed.

        Args:
            carried: what the next part must know of the earlier ones; `carried` gives it back in a later run.

        Raises:
            ImageFileError: the disk is full …; finished parts stay.
        """
        if self._encoder is None:
            return
        self._keep(self._encoder.rest())
        self._encoder = None
        self.frames, self._taken = self.frames + self._taken, 0
        if self.key:
            self._say(carried or {})

    def carried(self) -> dict[str, Tensor]:
        """Return what the last finished part handed on."""
        from safetensors.torch import load_file

        return load_file(self._carried)

    def commit(self) -> None:
        """Write the file and give it its name.

        Raises:
            ImageFileError: the disk is full, or the sound cannot be read …; the parts stay.
        """
        self.end_part()
        with atomic_path(self.path) as hidden:
            self.notes = join(hidden, self.path, self._read(), self.look, self.source)
        self.abort()

    def abort(self) -> None:
        """Leave nothing."""
        self._encoder = None
        for path in self._files():
            path.unlink(missing_ok=True)

    def _keep(self, packets: Iterator[Packet]) -> None:
        try:
            with self._packets.open("r+b" if self._bytes else "wb") as file:
                file.seek(self._bytes)
                for packet in packets:
                    head = HEAD.pack(
                        packet.shown, packet.decoded, packet.length, packet.is_key, len(packet.data)
                    )
                    self._bytes += file.write(head) + file.write(packet.data)
        except OSError as err:
            raise ImageFileError(explain_os_error(self.path, err)) from err

    def _read(self) -> Iterator[Packet]:
        with self._packets.open("rb") as file:
            while file.tell() < self._bytes:
                yield _packet(file)

    def _say(self, carried: Mapping[str, Tensor]) -> None:
        """Tell how much there is; whatever the moment of a kill, journal and `carried` are of one part."""
        from safetensors.torch import save

        said = {"key": self.key, "frames": self.frames, "bytes": self._bytes, "facts": self.facts}
        fresh = self._journal.with_suffix(".frames-new")
        try:
            fresh_carried = self._hand.with_name(f"{self._hand.name}-{self.frames}")
            fresh_carried.write_bytes(save({name: value.contiguous() for name, value in carried.items()}))
            fresh.write_text(json.dumps(said | {"carried": fresh_carried.name}), encoding="utf-8")
            os.replace(fresh, self._journal)  # noqa: PTH105
            if self._carried != fresh_carried:
                self._carried.unlink(missing_ok=True)
            self._carried = fresh_carried
        except OSError as err:
            raise ImageFileError(explain_os_error(self.path, err)) from err

    def _resume(self) -> None:
        if not self.key or not self._journal.exists():
            return
        try:
            said = json.loads(self._journal.read_text(encoding="utf-8"))
            frames, size, facts = int(said["frames"]), int(said["bytes"]), dict(said["facts"])
            carried = self.path.with_name(str(said["carried"]))
        except (ValueError, KeyError, TypeError):
            return  # a journal that cannot be read is none: the work begins anew
        there = self._packets.stat().st_size if self._packets.exists() else 0
        if said.get("key") == self.key and there >= size and carried.exists():
            self.frames, self._bytes, self.facts, self._carried = frames, size, facts, carried

    def _files(self) -> list[Path]:
        """Return the files of this run that are there."""
        stem = self._packets.name.removesuffix(".packets")
        return [Path(entry.path) for entry in os.scandir(self.path.parent) if _is_part(entry.name, stem)]

    def _sweep(self) -> None:
        """Remove the parts of runs that were killed and had another key."""
        mine = set(self._files()) if self.key else set()
        for entry in os.scandir(self.path.parent):
            if _is_part(entry.name, f".{self.path.name[:40]}") and Path(entry.path) not in mine:
                Path(entry.path).unlink(missing_ok=True)


def _is_part(name: str, head: str) -> bool:
    return name.startswith(f"{head}.") and any(ending in name[len(head) :] for ending in ENDINGS)


def _packet(file: BinaryIO) -> Packet:
    shown, decoded, length, is_key, size = HEAD.unpack(file.read(HEAD.size))
    return Packet(data=file.read(size), shown=shown, decoded=decoded, length=length, is_key=is_key)
