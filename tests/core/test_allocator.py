"""What is freed stays in the process, where glibc serves it and nobody forbids it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
from hypir_core.cli.allocator import keep_freed_memory
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
