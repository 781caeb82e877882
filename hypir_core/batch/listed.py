"""What a store holds: a million objects in 50 MB, without their names."""

from __future__ import annotations

from array import array

from .made import Stamp
from .numbered import Numbered


class Listed:
    """Size and time of objects, by their place below the store's URL."""

    __slots__ = ("_numbered", "_sizes", "_times")

    def __init__(self) -> None:
        self._numbered = Numbered()
        self._sizes, self._times = array("q"), array("q")

    def add(self, place: str, stamp: Stamp) -> None:
        """Add an object, or say anew what it is."""
        number = self._numbered.add(place)
        if number == len(self._sizes):
            self._sizes.append(0)
            self._times.append(0)
        self._sizes[number], self._times[number] = stamp.bytes, stamp.mtime_ns

    def get(self, place: str) -> Stamp | None:
        """Return an object's size and time; None where there is none."""
        number = self._numbered.find(place)
        return None if number is None else Stamp(self._sizes[number], self._times[number])

    def __contains__(self, place: str) -> bool:
        return self._numbered.find(place) is not None

    def __len__(self) -> int:
        return len(self._numbered)
