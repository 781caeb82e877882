"""PyTorch's pickles, read by its restricted unpickler: tensors and plain containers, everything else is refused."""

from __future__ import annotations

import pickle
import re
import struct
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError
from .file_names import is_safetensors

# What a damaged pickle makes the unpickler raise, next to the refusals themselves.
_UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
)


def unpickled(path: Path, *, zipped: bool) -> Any:
    """Read a pickle on the CPU; nothing of it is run.

    Args:
        path: of a file that begins like a pickle.
        zipped: it is a zip archive, as torch writes it today.

    Raises:
        WeightsError: it is damaged, or holds more than tensors and plain containers.
    """
    try:
        if zipped and not is_safetensors(path):  # torch takes a path with this ending at its word
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except _UNPICKLING_ERRORS as err:
        asked = re.search(r"GLOBAL ([\w.]+)", str(err))
        if asked:
            raise WeightsError(
                f"{path}: expected plain tensors, got a pickle that would run {asked[1]}; it was refused and "
                "nothing was run; use a .safetensors version of this file"
            ) from err
        reason = re.sub(r"\s+", " ", str(err))[:120] or type(err).__name__
        raise WeightsError(
            f"{path}: expected a PyTorch file of plain tensors, got one that is truncated, damaged or of "
            f"another kind ({reason}); get the file again, or use a .safetensors version"
        ) from err
