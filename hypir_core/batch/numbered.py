"""Numbers for a million texts, in 30 MB: a hash of each is kept, not the text."""

from __future__ import annotations

import struct
from array import array
from hashlib import blake2b

_PAIR = struct.Struct("=QQ")
_FIRST_SLOTS = 1 << 10


class Numbered:
    """Gives each text a number, from 0, in the order in which they come.

    Two texts are taken for one where 128 bits of their hashes are equal: among a million that happens once in 10²⁶ runs.
    """

    __slots__ = ("_high", "_low", "_slots")

    def __init__(self) -> None:
        self._high, self._low = array("Q"), array("Q")
        self._slots = _empty(_FIRST_SLOTS)
        """Number + 1 of the text whose hash leads here, or to a slot before it; 0: free."""

    def __len__(self) -> int:
        return len(self._high)

    def find(self, text: str) -> int | None:
        """Return a text's number; None where it never came."""
        number = self._slots[self._slot(*_hash(text))]
        return number - 1 if number else None

    def add(self, text: str) -> int:
        """Return a text's number, a new one where it never came."""
        high, low = _hash(text)
        slot = self._slot(high, low)
        if self._slots[slot]:
            return self._slots[slot] - 1
        self._high.append(high)
        self._low.append(low)
        self._slots[slot] = len(self._high)
        if 3 * len(self._high) > 2 * len(self._slots):
            self._grow()
        return len(self._high) - 1

    def _slot(self, high: int, low: int) -> int:
        """Return where a hash stands, or the free slot where it would."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = low & mask
        while (number := slots[slot]) and (self._low[number - 1] != low or self._high[number - 1] != high):
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        slots = _empty(2 * len(self._slots))
        mask = len(slots) - 1
        for number, low in enumerate(self._low, 1):
            slot = low & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = number
        self._slots = slots


def _empty(slots: int) -> array[int]:
    return array("I", bytes(4 * slots))


def _hash(text: str) -> tuple[int, int]:
    high, low = _PAIR.unpack(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
    return high, low
