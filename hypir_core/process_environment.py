"""The environment variables of this process; left out of the archive for ComfyUI's registry, where nothing asks them."""

from __future__ import annotations

import os
from collections.abc import Mapping


def process_variables() -> Mapping[str, str]:
    """Return the variables, live."""
    return os.environ
