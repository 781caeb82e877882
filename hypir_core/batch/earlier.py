"""What an earlier run wrote is no input of the next."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import FileError, HypirError
from ..files.reading import read_text
from .finding import Finding
from .manifest import Manifest

MARKS = ("hypir.report", "hypir.compare", "hypir.degrade")
"""Names of the texts in pictures that this program made."""


def without_results(finding: Finding, out: Path, manifests: Iterable[Manifest] = ()) -> Finding:
    """Leave out what earlier runs wrote; what a person named stays.

    A picture is left out if one of the manifests names it, or one that lies in a folder below those that are
    searched; or if it lies in the output folder and says itself that it was made.

    Args:
        finding: what was found.
        out: where results go.
        manifests: those of the output folder.
    """
    known = list(manifests)
    problems = list(finding.passed_over)
    for path in finding.manifests:
        try:
            known.append(Manifest(path))
        except FileError as err:
            problems.append(f"{err}; all pictures beside it are taken")
    folder = os.path.join(os.path.abspath(out), "")  # noqa: PTH100, PTH118

    def is_wanted(path: str, named: bool) -> bool:
        if named:
            return True
        whole = os.path.abspath(path)  # noqa: PTH100
        if any(manifest.wrote(whole) for manifest in known):
            return False
        return not (whole.startswith(folder) and _says_so(Path(path)))

    kept = finding.pictures.kept(is_wanted)
    count = len(finding.pictures) - len(kept)
    if count:
        what = "1 picture was" if count == 1 else f"{count} pictures were"
        problems.append(f"{what} passed over: results of earlier runs")
    return replace(finding, pictures=kept, passed_over=tuple(problems))


def _says_so(path: Path) -> bool:
    try:
        text = read_text(path)
    except HypirError:
        return False  # it is tried, and told, as any other
    return any(mark in text for mark in MARKS)
