"""Rasters of two resolutions in one run: weights were made for one, so it is said before the work."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..engines.base import EngineSpec
from ..errors import ConfigError, HypirError
from ..files.scenes.geotiff import Cell, cell_of
from ..files.scenes.recognise import scene_format
from .naming import Job
from .restoring import Writing
from .scene_chain import wanted_of

MOST_LOOKED_AT = 1000
"""Of more rasters so many are looked at, spread evenly: it shall take seconds."""

ALIKE = 1.25
"""Cells whose lengths differ by a smaller factor count as of one resolution: degrees of neighbours are never equal."""

NAMED = 8
"""So many files of a resolution are named."""


def check_resolution(jobs: Sequence[Job], spec: EngineSpec, writing: Writing) -> None:
    """Refuse rasters of two resolutions; files that cannot be read are told when their turn comes.

    Args:
        jobs: of the run.
        spec: of the engine; which files are rasters depends on it.
        writing: what a person says of bands and axes.

    Raises:
        ConfigError: names the files with the coarser cells.
    """
    tiffs = array("Q", (n for n, job in enumerate(jobs) if _is_tiff(job)))
    if len(tiffs) < 2:
        return
    wanted = wanted_of(spec, bands=writing.bands, axes=writing.axes, dataset=writing.dataset)
    cells: defaultdict[str, list[tuple[float, Path]]] = defaultdict(list)
    for number in tiffs[:: -(-len(tiffs) // MOST_LOOKED_AT)]:
        path = jobs[number].source
        try:
            if path.exists() and scene_format(path, wanted, file_values=spec.file_values) == "geotiff":
                cell = cell_of(path)
                if cell is not None:
                    cells[cell.unit].append((cell.length, path))
        except HypirError:
            continue  # whoever restores it says what is wrong
    problems = [problem for unit, found in cells.items() if (problem := _problem(found, unit))]
    if problems:
        raise ConfigError(problems)


def _is_tiff(job: Job) -> bool:
    return job.page is None and job.source.suffix.lower() in {".tif", ".tiff"}


def _problem(found: list[tuple[float, Path]], unit: str) -> str | None:
    finest = min(length for length, _ in found)
    coarse = [(length, path) for length, path in found if length > ALIKE * finest]
    if not coarse:
        return None
    fine = next(path for length, path in found if length == finest)
    lengths = " and ".join(Cell(length, unit).told() for length in sorted({length for length, _ in coarse}))
    named = ", ".join(str(path) for _, path in coarse[:NAMED])
    more = f" and {len(coarse) - NAMED} more" if len(coarse) > NAMED else ""
    return (
        f"expected rasters of one resolution, got cells of {Cell(finest, unit).told()} ({fine.name} …) and of {lengths} "
        f"({named}{more}); restore these by a command of their own, with weights made for them"
    )
