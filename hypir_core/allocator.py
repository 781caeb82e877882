"""Keep freed memory in the process, where the C library is glibc.

Each tile allocates and frees the same large maps. glibc returns large blocks to the kernel at once and gets them
back page by page, each page zeroed anew. Kept pages save that. But what is kept is not all of a size that fits the
next request, and a program grows: where the sizes change, kept pages are better given back (`Runtime.tidy`).
For our own process only, never for a host's: the command line calls this, the library does not.
"""

from __future__ import annotations

import ctypes
import os
import platform

VARIABLE = "HYPIR_KEEP_MEMORY"
"""``0`` in this environment variable leaves the allocator as it is."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and to keep what is freed; return whether it did."""
    if os.environ.get(VARIABLE) == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def give_back_freed_memory() -> None:
    """Give what glibc keeps back to the system; nothing where there is another C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
