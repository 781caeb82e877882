"""How long listing, planning and resuming a run of very many pictures take, and how much memory; no network runs.

    uv run python -m benchmarks.million FOLDER --count 1000000 --json benchmarks/results/million.json

FOLDER gets COUNT names of one small JPEG (hard links, a thousand to a folder). Then, each in a process of its own: the
pictures are found and their results named, as `hypir restore FOLDER/in -o FOLDER/out` does before the first of them; a
manifest is written that says all are done, line by line; it is asked about every picture, as a resumed run does; the
same folders are listed as URLs (file://), as a bucket is; and `hypir manifest merge` goes through the lines. The
outputs are hard links too, so that every one is really looked for on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hypir_core.batch.earlier import without_results
from hypir_core.batch.elsewhere import elsewhere
from hypir_core.batch.finding import find_pictures
from hypir_core.batch.manifest import MANIFEST, Manifest, Result, Stamp
from hypir_core.batch.manifests import merge
from hypir_core.batch.naming import Plan, name_outputs

PER_FOLDER = 1000
PARTS = ("plan", "append", "resume", "url", "merge")


def make(folder: Path, count: int) -> None:
    """Make the names; does nothing where they are."""
    first = folder / "photo.jpg"
    first.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(first)
    for part in range(-(-count // PER_FOLDER)):
        for side in ("in", "out"):
            place = folder / side / f"{part:05d}"
            if place.is_dir():
                continue
            place.mkdir(parents=True)
            source = folder / f"photo{part // 30}.jpg"  # a file may have some 65 000 names
            if not source.exists():
                source.write_bytes(first.read_bytes())
            for i in range(min(PER_FOLDER, count - part * PER_FOLDER)):
                os.link(source, place / f"picture{i:04d}.jpg")


def plan(folder: Path) -> Plan:
    """Find and name, as the command line does."""
    out = folder / "out"
    manifest = Manifest(out / MANIFEST)
    finding = without_results(find_pictures([str(folder / "in")]), out, [manifest])
    return name_outputs(finding.pictures, out, format_name=None, several=True)


def run(part: str, folder: Path) -> dict[str, Any]:
    """Do one part, and return its seconds and the peak of the process."""
    if part == "plan":
        begun = time.perf_counter()
        count = len(plan(folder).jobs)
        seconds = time.perf_counter() - begun
    elif part == "url":
        begun = time.perf_counter()
        with elsewhere(
            [f"file://{folder.absolute()}/in"], f"file://{folder.absolute()}/out", force=False
        ) as there:
            finding = there.find()
            there.fetch_manifests()
            manifest = Manifest(there.out / MANIFEST)
            jobs = name_outputs(finding.pictures, there.out, format_name=None, several=True).jobs
            count = sum(map(there.is_there, jobs))
            assert manifest.key_of(jobs[-1].output) is not None
        seconds = time.perf_counter() - begun
    elif part == "merge":
        begun = time.perf_counter()
        count = merge(folder / "out")
        seconds = time.perf_counter() - begun
        assert count == 1
        count = sum(1 for _ in (folder / "out" / MANIFEST).open())
    else:
        jobs = plan(folder).jobs
        count = len(jobs)
        begun = time.perf_counter()
        manifest = Manifest(folder / "out" / MANIFEST)
        for number, job in enumerate(jobs):
            stamp = Stamp.of(job.source)
            if part == "append":
                key = f"{number:032x}"
                manifest.add(
                    Result(
                        input=str(job.source),
                        output=str(job.output),
                        status="done",
                        key=key,
                        stamp=stamp,
                        settings="0" * 32,
                    )
                )
            else:
                made = manifest.unchanged(job.output, "0" * 32, stamp)
                assert made is not None, job
                assert os.path.exists(job.output), job  # noqa: PTH110  # as the run does it
        seconds = time.perf_counter() - begun
    return {
        "part": part,
        "count": count,
        "seconds": round(seconds, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """Read the command line; make the names, then start each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=PARTS, help="one part in this process")
    given = parser.parse_args()
    if given.part:
        print(json.dumps(run(given.part, given.folder)))
        return
    make(given.folder, given.count)
    rows = []
    for part in PARTS:
        words = [sys.executable, "-m", "benchmarks.million", str(given.folder), "--part", part]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "python": sys.version.split()[0]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
