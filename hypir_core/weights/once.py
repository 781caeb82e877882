"""Networks that are read once: whoever asks for a file again, while somebody still has what was made of it, gets that.

Nothing is kept for its own sake: with the last engine that uses a network, the network goes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class Once(Generic[T]):
    """What was made of files, by their content's place, size and time. For what nobody changes after it is made."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[tuple[object, ...], T] = WeakValueDictionary()

    def of(self, path: Path, make: Callable[[], T], *how: object) -> T:
        """Return what `make` returns, or what it returned before for the same file.

        Args:
            path: of the file; one that is changed is read again.
            make: reads it.
            how: what else the result depends on, such as number format and device; must be hashable.

        Raises:
            OSError: there is no such file; and whatever `make` raises.
        """
        facts = path.stat()
        key = (path.resolve(), facts.st_size, facts.st_mtime_ns, *how)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
        return made
