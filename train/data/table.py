"""A list of pictures: one row each, with columns for the path, the prompt and the partner."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypir_core.errors import ConfigError, MissingDependencyError, nearest_hint

from ..config import SourceConfig
from .endings import printable
from .files import PictureFiles, Row, check_files
from .pictures import Fit
from .source import COLOUR, Channels
from .usable import sibling

_ONLY_COLUMN = "path"


@dataclass(frozen=True)
class Table:
    """The wanted columns of a list, and the names of all."""

    known: Sequence[str]
    columns: dict[str, list[Any]]


def open_list(
    path: Path, config: SourceConfig, *, key: str, fit: Fit, channels: Channels = COLOUR
) -> PictureFiles:
    """Read a list of pictures: .parquet, .csv, .jsonl, .json, or .txt and .list with one path per line.

    Relative paths start from `config.path_prefix`, by default from the folder of the list.

    Raises:
        ConfigError: no such file, not what its ending says, a column is missing, or no usable picture.
    """
    table = _read_table(path, _wanted(config), key)
    _check_columns(path, table, config, key)
    start = config.path_prefix or path.parent
    names = table.columns[config.path_column]
    nothing = [None] * len(names)
    partners = table.columns[config.lq_column] if config.lq_column else nothing
    prompts = table.columns[config.prompt_column] if config.prompt_column else nothing
    weights = table.columns[config.weight_column] if config.weight_column else nothing
    cells = zip(names, partners, prompts, weights, strict=True)
    return check_files(
        [_row(number, start, *row, paired=config.paired) for number, row in enumerate(cells, 1)],
        where=printable(str(path)),
        key=key,
        fit=fit,
        paired=config.paired,
        check=config.check,
        kind="lists no usable picture",
        channels=channels,
    )


def _wanted(config: SourceConfig) -> dict[str, str]:
    """Return the wanted columns by the setting that names them."""
    wanted = {
        "path_column": config.path_column,
        "lq_column": config.lq_column,
        "prompt_column": config.prompt_column,
        "weight_column": config.weight_column,
    }
    return {setting: name for setting, name in wanted.items() if name is not None}


def _check_columns(path: Path, table: Table, config: SourceConfig, key: str) -> None:
    missing = [
        f"{sibling(key, setting)}: {path} has no column {name!r}{nearest_hint(name, table.known)}; "
        f"it has: {', '.join(table.known) or 'none'}"
        for setting, name in _wanted(config).items()
        if name not in table.known
    ]
    if missing:
        raise ConfigError(missing)


def _row(number: int, start: Path, name: Any, partner: Any, prompt: Any, weight: Any, *, paired: bool) -> Row:
    if not isinstance(name, str) or not name:
        return Row(f"row {number}", start, problem=f"has no path, but {name!r}")
    shown = printable(name)
    if paired and not (isinstance(partner, str) and partner):
        return Row(shown, start / name, problem=f"has no path of a partner, but {partner!r}")
    if prompt is not None and not isinstance(prompt, str):
        return Row(shown, start / name, problem=f"has a prompt that is not text: {prompt!r}")
    try:
        often = 1.0 if weight is None else float(weight)
    except (TypeError, ValueError):
        often = -1.0
    if not 0 <= often < math.inf:
        return Row(shown, start / name, problem=f"has a weight that is no number of 0 or more: {weight!r}")
    return Row(shown, start / name, start / partner if paired else None, prompt or "", weight=often)


def _read_table(path: Path, wanted: dict[str, str], key: str) -> Table:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{key}: {path} does not end as a list does; known: {', '.join(_READERS)}")
    try:
        return reader(path, sorted(set(wanted.values())))
    except OSError as err:
        raise ConfigError(f"{key}: {path} cannot be read ({err.strerror or err})") from err
    except (ValueError, csv.Error) as err:
        raise ConfigError(f"{key}: {path} is not a readable {path.suffix} list ({err})") from err


def _read_parquet(path: Path, wanted: Sequence[str]) -> Table:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as err:
        raise MissingDependencyError("pyarrow", "train", f"the list {path.name}") from err
    with ParquetFile(path) as file:
        known = file.schema_arrow.names
        present = [name for name in wanted if name in known]
        return Table(known, file.read(columns=present).to_pydict())


def _read_csv(path: Path, wanted: Sequence[str]) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        known = list(rows.fieldnames or [])
        columns: dict[str, list[Any]] = {name: [] for name in wanted if name in known}
        for row in rows:
            for name, cells in columns.items():
                cells.append(row[name])
    return Table(known, columns)


def _read_jsonl(path: Path, wanted: Sequence[str]) -> Table:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as err:
                raise ValueError(f"line {number}: {err}") from err
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: expected an object, got {line.strip()[:40]}")
            rows.append(row)
    return _of_rows(rows, wanted)


def _read_json(path: Path, wanted: Sequence[str]) -> Table:
    """Read an array of objects, or of paths."""
    rows = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(rows, list):
        raise ValueError(f"expected an array of objects or of paths, got {type(rows).__name__}")
    if all(isinstance(row, str) for row in rows):
        return Table([_ONLY_COLUMN], {_ONLY_COLUMN: rows})
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"entry {number}: expected an object, got {json.dumps(row)[:40]}")
    return _of_rows(rows, wanted)


def _of_rows(rows: Sequence[dict[str, Any]], wanted: Sequence[str]) -> Table:
    known: dict[str, None] = {}
    for row in rows:
        known |= dict.fromkeys(row)
    return Table(list(known), {name: [row.get(name) for row in rows] for name in wanted})


def _read_lines(path: Path, wanted: Sequence[str]) -> Table:
    """Read one path per line; the only column is called "path". Names need not be UTF-8, as on disk."""
    lines = [line.strip() for line in path.read_text("utf-8-sig", "surrogateescape").splitlines()]
    return Table([_ONLY_COLUMN], {_ONLY_COLUMN: [line for line in lines if line]})


_READERS: dict[str, Callable[[Path, Sequence[str]], Table]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".txt": _read_lines,
    ".list": _read_lines,
}
