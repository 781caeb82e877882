"""Files that only pretend to be weights: what a failed or half download leaves under a weight file's name."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 64
"""How much of a file's start is needed to tell."""

_AGAIN = "get it again"


def not_weights(path: Path) -> str | None:
    """Say what a file is that holds no weights, and what to do; None: it may hold some."""
    with path.open("rb") as file:
        return what_it_is(file.read(HEAD_BYTES))


def what_it_is(head: bytes) -> str | None:
    """Do what `not_weights` does for the first `HEAD_BYTES` of a file."""
    text = head.lstrip().lower()
    if not head:
        return f"an empty file; {_AGAIN}"
    if text.startswith(b"version https://git-lfs"):
        return f"a Git LFS pointer, not the file itself; run `git lfs pull` there or {_AGAIN}"
    if text.startswith((b"<!doctype", b"<html")):
        return f"a web page, not weights; {_AGAIN}"
    if text.startswith(b"gguf"):
        return "a GGUF file; use a .safetensors version"
    return None
