"""Pictures in files of their own, with or without partners and prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hypir_core.errors import ConfigError, ImageFileError

from .channels import read_channels, read_channels_size
from .endings import printable
from .pictures import Fit
from .source import COLOUR, Channels, Item, Weights
from .usable import misfit, nothing_usable, report_skipped, split_usable


@dataclass(frozen=True)
class Row:
    """One picture of a list or folder, before anything is known of its file."""

    name: str
    """How the list or folder calls it, printable."""
    path: Path
    lq_path: Path | None = None
    prompt: str = ""
    weight: float = 1.0
    """How often it is drawn, relative to the others."""
    problem: str = ""
    """Why it cannot be used, where that is known already."""


@dataclass(frozen=True)
class PictureFiles:
    """The usable pictures of a folder or list, in its order."""

    where: str
    rows: tuple[Row, ...]
    fit: Fit
    paired: bool
    skipped: tuple[str, ...]
    hash: str
    """SHA-256 over the names and byte sizes, and the partners' and prompts where there are any."""
    channels: Channels = COLOUR
    weights: Weights | None = None

    @property
    def left_out(self) -> int:
        """How many pictures were left out at the start."""
        return len(self.skipped)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Return how the list or folder calls this picture."""
        return self.rows[index].name

    def item(self, index: int) -> Item:
        """Read one picture, its partner and prompt.

        Raises:
            ImageFileError: it cannot be decoded, or does not fit.
        """
        row = self.rows[index]
        hq = read_channels(row.path, self.channels.hq, row.name)
        lq = None
        if row.lq_path:
            partner = f"{row.name}: its partner {printable(str(row.lq_path))}"
            lq = read_channels(row.lq_path, self.channels.lq, partner)
        if problem := misfit(self.fit, hq, lq):
            raise ImageFileError(f"{row.name}: {problem}")
        return Item(hq, lq, row.prompt)


def check_files(
    found: Sequence[Row],
    *,
    where: str,
    key: str,
    fit: Fit,
    paired: bool,
    check: bool,
    kind: str,
    channels: Channels = COLOUR,
) -> PictureFiles:
    """Keep the rows that can be used, and report the others.

    With `check` every picture's header is read now; without, what does not fit is found on the way. `kind`
    says what kind of place this is, for messages.

    Raises:
        ConfigError: no usable picture is left; names `key`.
    """

    def problem(row: Row) -> str:
        return row.problem or (_file_problem(row, fit, channels) if check else "")

    usable, skipped = split_usable(found, problem, lambda row: row.name)
    report_skipped(skipped, len(found), key=key)
    if not usable:
        raise nothing_usable(key, f"{where} {kind}", skipped)
    digest = hashlib.sha256()
    for row in usable:
        digest.update("\0".join(_identity(row)).encode("utf-8", "backslashreplace") + b"\n")
    weights = None
    if any(row.weight != 1 for row in usable):
        numbers = torch.tensor([row.weight for row in usable], dtype=torch.float64)
        if not float(numbers.sum()) > 0:
            raise ConfigError(f"{key}: no usable picture of {where} has a weight above 0")
        weights = Weights(numbers)
    return PictureFiles(where, tuple(usable), fit, paired, skipped, digest.hexdigest(), channels, weights)


def _file_problem(row: Row, fit: Fit, channels: Channels) -> str:
    try:
        width, height = read_channels_size(row.path, channels.hq)
        if problem := fit.problem(width, height):
            return problem
        if not row.lq_path:
            return ""
        return fit.pair_problem(width, height, *read_channels_size(row.lq_path, channels.lq))
    except ImageFileError as err:
        return str(err)


def _identity(row: Row) -> Iterator[str]:
    yield row.name
    yield _size_bytes(row.path)
    if row.lq_path:
        yield _size_bytes(row.lq_path)
    if row.prompt:
        yield row.prompt
    if row.weight != 1:
        yield repr(row.weight)


def _size_bytes(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:
        return "absent"
