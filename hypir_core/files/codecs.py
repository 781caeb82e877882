"""The optional packages for what Pillow cannot do: imagecodecs (16-bit PNG) and tifffile (deep TIFF)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import MissingDependencyError


def codec_package(name: str, *, purpose: str) -> Any:
    """Import and return a package of the extra ``cli``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as err:
        raise MissingDependencyError(name, "cli", purpose) from err
