"""What was made of a million pictures, in 80 MB: a row of numbers for each, in place of objects."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

from .numbered import Numbered

_DONE, _WRITTEN, _ASIDE, _ODD_KEY = 1, 2, 4, 8
_KEY_BYTES = 16
_NO_STAMP = (-1, 0)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size and time of an input: where both are as they were, nobody reads it again to see whether it changed."""

    bytes: int
    mtime_ns: int

    @staticmethod
    def of(path: Path) -> Stamp | None:
        """Return a file's; None for a folder, and where nothing is there."""
        try:
            found = path.stat()
        except (OSError, ValueError):
            return None  # reading it says why
        is_file = (found.st_mode & 0o170000) == 0o100000
        return Stamp(found.st_size, found.st_mtime_ns) if is_file else None


class Made:
    """How the jobs of earlier runs ended, by the place of their output in the folder."""

    __slots__ = (
        "_keys",
        "_numbered",
        "_odd_keys",
        "_settings",
        "_settings_of",
        "_sizes",
        "_states",
        "_times",
    )

    def __init__(self) -> None:
        self._numbered = Numbered()
        self._states = bytearray()
        self._keys = bytearray()
        """16 bytes each: keys are 32 hexadecimal digits."""
        self._odd_keys: dict[int, str] = {}
        """Keys that are not."""
        self._sizes, self._times = array("q"), array("q")
        self._settings: dict[str, int] = {}
        self._settings_of = array("I")

    def done(self, place: str, key: str, settings: str, stamp: Stamp | None) -> None:
        """A result was made."""
        number = self._number(place)
        raw = _packed(key)
        self._odd_keys.pop(number, None)
        if raw is None:
            self._odd_keys[number] = key
        else:
            self._keys[number * _KEY_BYTES : (number + 1) * _KEY_BYTES] = raw
        written = self._states[number] & _WRITTEN
        self._states[number] = written | _DONE | (_ODD_KEY if raw is None else 0)
        self._settings_of[number] = self._settings.setdefault(settings, len(self._settings))
        self._sizes[number], self._times[number] = (
            _NO_STAMP if stamp is None else (stamp.bytes, stamp.mtime_ns)
        )

    def wrote(self, place: str) -> None:
        """A file was written that is not the result of a finished job."""
        self._states[self._number(place)] |= _WRITTEN

    def failed(self, place: str, *, set_aside: bool) -> None:
        """A job failed; what an earlier run wrote there is still no input."""
        if not set_aside and self._numbered.find(place) is None:
            return
        number = self._number(place)
        written = _WRITTEN if self._states[number] & (_DONE | _WRITTEN) else 0
        self._states[number] = written | (_ASIDE if set_aside else 0)

    def key_of(self, place: str) -> str | None:
        """Return the key under which an output was finished; None if it was not."""
        number = self._finished(place)
        return None if number is None else self._key(number)

    def unchanged(self, place: str, settings: str, stamp: Stamp) -> str | None:
        """Return the key of a finished output if settings, size and time of its input are as they were; else None."""
        number = self._finished(place)
        if number is None or self._settings.get(settings) != self._settings_of[number]:
            return None
        same = (self._sizes[number], self._times[number]) == (stamp.bytes, stamp.mtime_ns)
        return self._key(number) if same else None

    def is_set_aside(self, place: str) -> bool:
        """Say whether an output is not to be tried again."""
        return bool(self._state(place) & _ASIDE)

    def was_written(self, place: str) -> bool:
        """Say whether a run wrote a file."""
        return bool(self._state(place) & (_DONE | _WRITTEN))

    def _number(self, place: str) -> int:
        number = self._numbered.add(place)
        if number == len(self._states):
            self._states.append(0)
            self._keys += bytes(_KEY_BYTES)
            self._sizes.append(_NO_STAMP[0])
            self._times.append(_NO_STAMP[1])
            self._settings_of.append(0)
        return number

    def _state(self, place: str) -> int:
        number = self._numbered.find(place)
        return 0 if number is None else self._states[number]

    def _finished(self, place: str) -> int | None:
        number = self._numbered.find(place)
        return number if number is not None and self._states[number] & _DONE else None

    def _key(self, number: int) -> str:
        if self._states[number] & _ODD_KEY:
            return self._odd_keys[number]
        return self._keys[number * _KEY_BYTES : (number + 1) * _KEY_BYTES].hex()


def _packed(key: str) -> bytes | None:
    """Return a key's 16 bytes; None if it would not come back as it was."""
    if len(key) != 2 * _KEY_BYTES or not key.isascii():
        return None
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        return None
    return raw if raw.hex() == key else None
