"""The one place that opens weight files: safetensors and PyTorch pickles in, safetensors out.

Pickles are only ever read by torch's restricted unpickler (`pickles`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..atomic import atomic_file
from ..errors import WeightsError, WeightsNotFoundError
from .file_names import is_index
from .not_weights import HEAD_BYTES, what_it_is
from .pickles import unpickled
from .shards import shards_of

WRAPPERS = ("params_ema", "params", "ema_state_dict", "state_dict", "model_state_dict", "model")
"""Keys under which trainers wrap the weights, the preferred one first (EMA weights before raw ones)."""

KEY_PREFIXES = ("module.", "_orig_mod.")
"""Added to every key by DistributedDataParallel and torch.compile; removed when all keys have them."""

SAFETENSORS_HEADER_LIMIT_BYTES = 100_000_000
"""What the format allows. The header's length comes first in the file and may look like a pickle's start."""

LISTED = 8
"""How many names an error message lists before it only counts."""

_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True, eq=False)
class TensorFile:
    """What a weight file holds. Large tensors may still lie on disk (memory-mapped) until they are used."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    """The text metadata of a safetensors file; empty for a pickle."""
    path: Path


def read_tensors(path: str | Path) -> TensorFile:
    """Read a weight file on the CPU; the content decides the format, not the file's ending.

    Wrappers (`WRAPPERS`) are opened and prefixes that every key has (`KEY_PREFIXES`) are removed. The index of a
    network in several files (``….index.json``) gives the tensors of all of them.

    Raises:
        WeightsNotFoundError: there is no such file.
        WeightsError: the file is empty, truncated, no weight file, holds something other than named tensors,
            or is a pickle that would run code (which is refused, not run).
    """
    path = Path(path)
    tensors, metadata = _read_shards(path) if is_index(path) else _read_file(path)
    if not tensors:
        raise WeightsError(f"{path}: expected named tensors, got none; get the file again")
    return TensorFile(_strip_prefixes(tensors), metadata, path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read all that a trainer's checkpoint holds; of a safetensors file, its tensors as ``state_dict``.

    Raises:
        WeightsNotFoundError: there is no such file.
        WeightsError: it is no checkpoint, or would run code (which is refused, not run).
    """
    path = Path(path)
    head, _ = _head(path)
    if _is_safetensors(head) or not _is_pickle(head):
        return {"state_dict": read_tensors(path).tensors}
    content = unpickled(path, zipped=head[:1] == b"P")
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: expected a checkpoint, got a pickled {type(content).__name__}; use another file"
        )
    return content


def misfits(own: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
    """Return the names, sorted, that only one side has or that have different shapes."""
    return sorted(
        name
        for name in own.keys() | got.keys()
        if name not in own or name not in got or own[name].shape != got[name].shape
    )


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    head, size = _head(path)
    if _is_safetensors(head):
        return _read_safetensors(path, size)
    if _is_pickle(head):
        return _named_tensors(unpickled(path, zipped=head[:1] == b"P"), path), {}
    raise WeightsError(f"{path}: expected safetensors or a PyTorch file, got {_guess(head, size)}")


def _read_shards(index: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every file of an index; the first metadata stand for all."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for shard, names in shards_of(index).items():
        there, stated = _read_file(shard)
        metadata = metadata or stated
        missing = [name for name in names if name not in there]
        if missing:
            raise WeightsError(f"{shard}: lacks {listed(missing)} of {index.name}; get the model again")
        tensors |= {name: there[name] for name in names}
    return tensors, metadata


def check_finite(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Refuse tensors with NaN or infinity.

    Raises:
        WeightsError: lists the first names and their number.
    """
    bad = not_finite(tensors)
    if bad:
        raise WeightsError(
            f"{where}: expected finite numbers, got NaN or infinity in {listed(bad)} of {len(tensors)}; "
            "the file is damaged or its training diverged: use another one"
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not _is_finite(tensor)]


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; the same content always gives the same bytes.

    The file appears under its name only when it is complete. No second copy of the tensors is held.

    Raises:
        WeightsError: a dtype that safetensors does not know, or the file cannot be written.
    """
    path = Path(path)
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header = _safetensors_header(path, {name: tensors[name] for name in order}, metadata)
    with _replacing(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in order:
            file.write(_bytes_of(tensors[name]))


def write_original_pth(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a flat dict of CPU tensors as a PyTorch file, the container of the published one-step LoRA.

    Raises:
        WeightsError: the file cannot be written.
    """
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    with _replacing(Path(path)) as file:
        torch.save(plain, file)


def listed(names: list[str]) -> str:
    """Return ``3 (a, b, c)``: the number of names and the first few of them."""
    more = ", …" if len(names) > LISTED else ""
    return f"{len(names)} ({', '.join(names[:LISTED])}{more})"


def _head(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as err:
        raise WeightsNotFoundError(f"{path}: no such file; check the path") from err
    except IsADirectoryError as err:
        raise WeightsError(f"{path}: expected a weight file, got a folder; name the file inside it") from err
    except OSError as err:
        raise WeightsError(
            f"{path}: cannot be read ({err.strerror or err}); check the path and its permissions"
        ) from err
    return head, size


def _is_safetensors(head: bytes) -> bool:
    """Say whether a file begins like one. To be asked before `_is_pickle`, whose mark the header's length may have."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < SAFETENSORS_HEADER_LIMIT_BYTES


def _is_pickle(head: bytes) -> bool:
    return head[:4] == b"PK\x03\x04" or head[:1] == b"\x80"


def _guess(head: bytes, size: int) -> str:
    if (known := what_it_is(head)) is not None:
        return known
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return f"text ({head[:24].decode('ascii')!r}); get the file again"
    return f"{size} unknown bytes; get the file again"


def _read_safetensors(path: Path, size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as err:
        raise WeightsError(
            f"{path}: expected a whole safetensors file, got {size} bytes, truncated or damaged ({err}); "
            "get the file again"
        ) from err


def _named_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: expected a dict of named tensors, got {type(content).__name__}; use another file"
        )
    strange = [
        f"{key!r}: {type(value).__name__}"
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if strange:
        raise WeightsError(
            f"{path}: expected a dict of named tensors, possibly under one of {', '.join(WRAPPERS)}; "
            f"got entries that are something else: {listed(strange)}; use another file"
        )
    return {key: value.detach() for key, value in content.items()}


def _strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in KEY_PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all())


def _safetensors_header(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(sorted({"format": "pt", **metadata}.items()))}
    offset = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _SAFETENSORS_DTYPES:
            raise WeightsError(
                f"{path}: {name} has the dtype {tensor.dtype}, which safetensors cannot hold; cast it"
            )
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _SAFETENSORS_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file in an existing folder that takes the name `path` when the block ends well."""
    if not path.parent.is_dir():
        raise WeightsError(
            f"{path}: cannot be written, the folder {path.parent} does not exist; create it first"
        )
    with atomic_file(path, sync=True, error=WeightsError) as file:
        yield file
