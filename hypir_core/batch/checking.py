"""Mistakes that can be known before the work are told before the work."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError, HypirError
from ..files.clips.formats import is_clip_path
from ..files.formats import format_for_output
from ..files.reading import pages, read_picture
from ..files.scenes.catalog import scene_ending
from .clip_files import ClipWriting
from .naming import Plan, with_pages
from .restoring import Writing


def every_page(plan: Plan) -> Plan:
    """Return a plan with a job for each page or frame; a file that cannot be read keeps its one job."""
    counts = []
    for job in plan.jobs:
        try:
            counts.append(pages(job.source))
        except HypirError:
            counts.append(1)  # it fails, and is told, when its turn comes
    return with_pages(plan, counts)


def check_before(plan: Plan, writing: Writing, *, report: Path | None = None) -> None:
    """Refuse before the work what no picture could survive.

    Raises:
        ConfigError: the output's name does not fit its format, the report exists or would overwrite a picture, a
            folder cannot be written to, or the mask is no picture.
    """
    problems = []
    try:
        if plan.is_folder and writing.clip != ClipWriting():
            first = next((job for job in plan.jobs if is_clip_path(job.source)), plan.jobs[0])
            writing.clip.check(first)
        is_single = not plan.is_folder and scene_ending(plan.jobs[0].output) is None
        if is_single and not writing.clip.check(plan.jobs[0]):
            format_for_output(plan.jobs[0].output, writing.format)
    except HypirError as err:
        problems.append(str(err))
    beside = plan.jobs[0].compare
    if beside is not None and not plan.is_folder:
        try:
            format_for_output(beside, "png")
        except HypirError as err:
            problems.append(f"--compare {err}")
    problems += [] if report is None else _problems_of_report(report, plan, writing)
    files = [plan.jobs[0].output] + [path for path in (beside, report) if path is not None]
    problems += [
        f"{place} is {'not a folder' if not place.is_dir() else 'a folder that cannot be written to'}; choose another"
        for place in sorted({_first_that_is(file.parent) for file in files})
        if not place.is_dir() or not os.access(place, os.W_OK)
    ]
    if writing.mask is not None:
        try:
            read_picture(writing.mask)
        except HypirError as err:
            problems.append(f"--mask: {err}")
    if problems:
        raise ConfigError(problems)


def _problems_of_report(report: Path, plan: Plan, writing: Writing) -> list[str]:
    if os.path.isdir(report):  # noqa: PTH112
        return [f"--report {report} is a folder; name a file in it"]
    whole = os.path.abspath(report)  # noqa: PTH100
    if writing.is_input(report):
        return [f"{report} is an input; name another --report"]
    paths = (path for job in plan.jobs for path in (job.output, job.compare) if path)
    if any(os.path.abspath(path) == whole for path in paths):  # noqa: PTH100
        return [f"--report {report} would overwrite a picture; choose another name"]
    if os.path.exists(report) and not writing.force:  # noqa: PTH110
        return [f"{report} exists; use --force to overwrite it, or name another --report"]
    return []


def _first_that_is(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if os.path.exists(place)), Path())  # noqa: PTH110
