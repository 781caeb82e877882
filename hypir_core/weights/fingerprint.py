"""Short hashes that say which weights made a picture."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import WeightsError
from .file_names import is_index
from .search.base_files import BaseFiles, Packaging
from .shards import shards_of

if TYPE_CHECKING:
    from torch import Tensor

_DIGITS = 16
_READ_BYTES = 1 << 20

SAMPLE_BLOCKS = 512
SAMPLE_BLOCK_BYTES = 1 << 15
"""A file larger than this many blocks of this size (16 MiB) is hashed by so many of them."""


SAMPLE_NUMBERS = 1024
"""Of every tensor where there is no file."""


def short_hash(path: str | Path) -> str:
    """Return ``sha256:`` and 16 digits of the hash of a whole file.

    Raises:
        WeightsError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with _opened(Path(path)) as file:
        feed(digest, file)
    return _short(digest.hexdigest())


def feed(digest: hashlib._Hash, file: BinaryIO) -> None:
    """Put the rest of an open file into a hash, a piece at a time."""
    while block := file.read(_READ_BYTES):
        digest.update(block)


def fingerprint_of_base(files: BaseFiles) -> str:
    """Return ``sha256:`` and 16 digits that tell base models apart, in a moment also for files of many gigabytes.

    It covers the size of every weight file, evenly spaced blocks of its content (the first and the last among them),
    and all of the networks' and the scheduler's configurations. Where the files lie, what they are
    called and the tokenizer, which is the same for all, do not count. Two files of one size that
    differ only between the blocks get the same fingerprint: every training or merging changes far
    more than that.

    Raises:
        WeightsError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for role, path in _parts(files):
        digest.update(f"{role}:{sampled_hash(path)}\n".encode())
    return _short(digest.hexdigest())


def fingerprint(path: Path) -> str:
    """Return ``sha256:`` and 16 digits for one weight file, in a moment also for many gigabytes (`sampled_hash`).

    Raises:
        WeightsError: the file cannot be read.
    """
    return _short(sampled_hash(path))


def fingerprint_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return ``sha256:`` and 16 digits for weights whose file is not known: names, shapes and evenly spaced numbers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // SAMPLE_NUMBERS)].double().cpu().numpy()
        digest.update(f"{name}:{list(tensor.shape)}\n".encode() + some.tobytes())
    return _short(digest.hexdigest())


def sampled_hash(path: Path) -> str:
    """Return the SHA-256, in hexadecimal, of a file's size and its sampled blocks (of all of it, if it is small).

    Raises:
        WeightsError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode() + b"\n")
        if size <= SAMPLE_BLOCKS * SAMPLE_BLOCK_BYTES:
            feed(digest, file)
            return digest.hexdigest()
        for index in range(SAMPLE_BLOCKS):
            file.seek(index * (size - SAMPLE_BLOCK_BYTES) // (SAMPLE_BLOCKS - 1))
            digest.update(file.read(SAMPLE_BLOCK_BYTES))
    return digest.hexdigest()


def _parts(files: BaseFiles) -> Iterator[tuple[str, Path]]:
    """Yield (role, file) for everything that makes this base model what it is, in a fixed order."""
    networks = {"model": files.single_file, "unet": files.unet, "vae": files.vae, "text": files.text_encoder}
    for role, path in networks.items():
        if path is None:
            continue
        yield from ((role, shard) for shard in (shards_of(path) if is_index(path) else (path,)))
        if files.packaging is Packaging.diffusers_folder:
            yield f"{role} config", path.with_name("config.json")
    if files.scheduler_config is not None:
        yield "scheduler", files.scheduler_config


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as err:
        raise WeightsError(
            f"{path}: cannot be read ({err.strerror or err}); check the path and its permissions"
        ) from err


def _short(digest: str) -> str:
    return f"sha256:{digest[:_DIGITS]}"
