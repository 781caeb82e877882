"""What is freed stays in the process, where glibc serves it and nobody forbids it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
from hypir_core.allocator import keep_freed_memory
kept = keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def fill():
    before = faults()
    block = bytearray(b"x") * (32 << 20)
    del block
    return faults() - before
fill()
print(kept, fill())
"""


BACK = """
from pathlib import Path
from hypir_core.allocator import give_back_freed_memory, keep_freed_memory
keep_freed_memory()
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024
before = resident()
blocks = [bytearray(b"x") * (8 << 20) for _ in range(9)]
last = blocks.pop()
del blocks
held = resident() - before
give_back_freed_memory()
print(held, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_is_kept_can_be_given_back():
    done = subprocess.run([sys.executable, "-c", BACK], capture_output=True, text=True, check=True)
    held_mib, left_mib = map(int, done.stdout.split())
    assert held_mib >= 70  # kept, although the last block is all that is used
    assert left_mib < 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize("forbidden", [False, True])
def test_memory_is_kept_unless_forbidden(forbidden):
    environment = {**os.environ, "HYPIR_KEEP_MEMORY": "0" if forbidden else "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment
    )
    kept, faults = done.stdout.split()
    assert kept == str(not forbidden)
    assert (int(faults) < 100) == (not forbidden)  # 32 MiB are 8192 pages
