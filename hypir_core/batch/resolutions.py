"""Rasters of two resolutions in one run: weights were made for one.

What can be looked at is, before the work. Of very many, or of those that lie elsewhere, a few are looked at, and each of
the others is held against them when it is read.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..engines.base import EngineSpec
from ..errors import ConfigError, HypirError
from ..files.scenes.axes import Wanted
from ..files.scenes.cell import Cell
from ..files.scenes.geotiff import cell_of
from ..files.scenes.recognise import scene_format
from .carrying import Carrier
from .naming import Job
from .restoring import Writing
from .scene_chain import wanted_of

NAMED = 8
"""So many files of a resolution are named."""

ADVICE = "restore these by a command of their own, with weights made for them"


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The cells of a run's rasters, as far as they were looked at; every raster is held against them when it is read."""

    wanted: Wanted
    file_values: bool
    """Whether the engine takes the file's own numbers: which files are rasters depends on it."""
    known: dict[str, tuple[Cell, str]] = field(default_factory=dict)
    """Unit → the smallest cell, and the name of its file. Empty where nothing is left to be checked."""

    def check(self, job: Job) -> None:
        """Look at a job's source, which is here.

        Raises:
            ConfigError: it is a raster of another resolution than the run's.
        """
        if not self.known or not _is_tiff(job):
            return
        cell = self.cell(job.source)
        fine, name = (None, "") if cell is None else self.known.get(cell.unit, (None, ""))
        if cell is None or fine is None or cell.is_like(fine):
            return
        raise ConfigError(f"{job.source}: {_expected(fine, name)} of {cell.told()}; {ADVICE}")

    def cell(self, path: Path) -> Cell | None:
        """Return the cell of a raster; None of other files, and of those that cannot be read."""
        try:
            if path.exists() and scene_format(path, self.wanted, file_values=self.file_values) == "geotiff":
                return cell_of(path)
        except HypirError:
            return None  # whoever restores it says what is wrong
        return None


def look_at_resolution(
    jobs: Sequence[Job], spec: EngineSpec, writing: Writing, carrier: Carrier
) -> Resolution:
    """Look at the rasters of a run, or at some, spread evenly; it shall take seconds.

    Args:
        jobs: of the run.
        spec: of the engine.
        writing: what a person says of bands and axes.
        carrier: brings what lies elsewhere, and says how many may be looked at.

    Returns:
        What the others are to be held against.

    Raises:
        ConfigError: there are two resolutions; names the files with the coarser cells.
    """
    wanted = wanted_of(spec, bands=writing.bands, axes=writing.axes, dataset=writing.dataset)
    nothing = Resolution(wanted=wanted, file_values=spec.file_values)
    tiffs = array("Q", (n for n, job in enumerate(jobs) if _is_tiff(job)))
    if len(tiffs) < 2:
        return nothing
    some = tiffs[:: -(-len(tiffs) // carrier.looks)]
    found: dict[str, list[tuple[Cell, Path]]] = {}
    for number in some:
        path = jobs[number].source
        try:
            with carrier.here(jobs[number]):
                cell = nothing.cell(path)
        except HypirError:
            continue  # it cannot be brought: told when its turn comes
        if cell is not None:
            found.setdefault(cell.unit, []).append((cell, path))
    if problems := [problem for cells in found.values() if (problem := _problem(cells, carrier))]:
        raise ConfigError(problems)
    if len(some) == len(tiffs):
        return nothing
    finest = {unit: min(cells, key=_length) for unit, cells in found.items()}
    return Resolution(
        wanted=wanted,
        file_values=spec.file_values,
        known={unit: (cell, path.name) for unit, (cell, path) in finest.items()},
    )


def _is_tiff(job: Job) -> bool:
    return job.page is None and job.source.suffix.lower() in {".tif", ".tiff"}


def _length(found: tuple[Cell, Path]) -> float:
    return found[0].length


def _problem(found: list[tuple[Cell, Path]], carrier: Carrier) -> str | None:
    finest, first = min(found, key=_length)
    coarse = [(cell, path) for cell, path in found if not cell.is_like(finest)]
    if not coarse:
        return None
    told = {cell.length: cell.told() for cell, _ in coarse}
    lengths = " and ".join(told[length] for length in sorted(told))
    named = ", ".join(carrier.told(str(path)) for _, path in coarse[:NAMED])
    more = f" and {len(coarse) - NAMED} more" if len(coarse) > NAMED else ""
    return f"{_expected(finest, first.name)} of {lengths} ({named}{more}); {ADVICE}"


def _expected(fine: Cell, name: str) -> str:
    return f"expected rasters of one resolution, got cells of {fine.told()} ({name} …) and"
