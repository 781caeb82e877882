"""Why one picture failed, in one line."""

from __future__ import annotations

import os
from pathlib import Path

from ..atomic import explain_os_error
from ..errors import HypirError


def why_it_failed(err: Exception, source: Path, output: Path) -> str:
    """Return what went wrong, one line, without the source's name at its head: whoever prints it names the picture.

    Args:
        err: whatever was raised while the picture was read, worked on or written.
        source: the picture.
        output: what was being written.
    """
    head = f"{source}: "
    if isinstance(err, OSError) and not isinstance(err, HypirError):
        path = Path(os.fsdecode(err.filename)) if isinstance(err.filename, (str, bytes)) else output
        return explain_os_error(path, err).removeprefix(head)
    text = "; ".join(str(err).removeprefix(head).splitlines())
    if isinstance(err, HypirError):
        return text
    return f"{type(err).__name__}: {text}" if text else type(err).__name__
