"""The same pictures in one process, in shards and on Ray with kills: the same bytes, and what the orchestration costs.

uv run python benchmarks/many_pictures.py --count 2000 --folder /tmp/many --workers 4

Needs the extra `ray`, and a machine with a CPU more than workers. Cuts real pictures out of the example; ends with 1
if a byte differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

SIDE_PX = 48
EXAMPLE = Path(__file__).parents[1] / "hypir_core" / "examples" / "cat.jpg"


def main() -> None:
    """Run three times, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=4, help="Shards, and Ray workers.")
    parser.add_argument("--kills", type=int, default=3, help="Ray workers that are killed.")
    given = parser.parse_args()
    source = given.folder / "in"
    make_pictures(source, given.count)
    for name in ("one", "shards", "ray"):
        shutil.rmtree(given.folder / name, ignore_errors=True)
    seconds = {"one": timed(lambda: hypir(source, given.folder / "one"))}
    seconds["shards"] = timed(lambda: in_shards(source, given.folder / "shards", given.workers))
    begin = time.perf_counter()
    told = on_ray(source, given.folder / "ray", given.workers, given.kills)
    seconds["ray"] = time.perf_counter() - begin
    whole = contents(given.folder / "one")
    differing = {
        name: sum(contents(given.folder / name).get(key) != value for key, value in whole.items())
        for name in ("shards", "ray")
    }
    print(
        json.dumps(
            {"pictures": len(whole), "differing": differing, "workers": given.workers}
            | {"seconds": {name: round(value, 1) for name, value in seconds.items()}}
            | told
        )
    )
    if len(whole) != given.count or any(differing.values()):
        raise SystemExit(1)


def make_pictures(folder: Path, count: int) -> None:
    """Cut pictures out of the example, each from another place."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(EXAMPLE) as cat:
        for i in range(count):
            x, y = i * 7 % (cat.width - SIDE_PX), i * 3 % (cat.height - SIDE_PX)
            cat.crop((x, y, x + SIDE_PX, y + SIDE_PX)).save(folder / f"{i:06}.png")


def hypir(source: Path, out: Path, *words: str) -> None:
    """Run the command line in a process of its own."""
    subprocess.run(command(source, out, *words), check=True)


def command(source: Path, out: Path, *words: str) -> list[str]:
    """Return the words of a run."""
    program = [sys.executable, "-c", "import sys; from hypir_core.cli import main; sys.exit(main())"]
    return [*program, "restore", str(source), "-o", str(out), "--device", "cpu", *words]


def in_shards(source: Path, out: Path, count: int) -> None:
    """Run all shards at once."""
    runs = [subprocess.Popen(command(source, out, "--shard", f"{i}/{count}")) for i in range(count)]
    if any(run.wait() for run in runs):
        raise SystemExit("a shard failed")


def on_ray(source: Path, out: Path, workers: int, kills: int) -> dict[str, object]:
    """Run on a Ray of this machine, and kill workers on the way."""
    import ray

    from hypir_core.batch.finding import find_pictures
    from hypir_core.batch.manifest import MANIFEST, Manifest
    from hypir_core.batch.naming import name_outputs
    from hypir_core.batch.on_ray import run_on_ray
    from hypir_core.batch.restoring import Writing
    from hypir_core.batch.work import Work
    from hypir_core.profile import ProfilePart

    ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)
    jobs = name_outputs(find_pictures([str(source)]).pictures, out, format_name=None, several=True).jobs
    joined, ended, killed = [], 0, 0
    begun_s = ended_s = spent_s = 0.0
    counted = 0

    def joining(worker) -> None:
        """Measure from the last start on: loading the engine is no cost of a picture."""
        nonlocal begun_s, spent_s, counted
        joined.append(worker)
        begun_s, spent_s, counted = time.perf_counter(), 0.0, 0

    def finished(_job, result, _report) -> None:
        nonlocal ended, killed, spent_s, ended_s, counted
        ended, counted, spent_s = ended + 1, counted + 1, spent_s + result.seconds
        ended_s = time.perf_counter()
        if killed < kills and ended >= (killed + 1) * len(jobs) // (kills + 1) and len(joined) > killed:
            os.kill(joined[killed].process, signal.SIGKILL)
            killed += 1

    # The command line's request, so that the words in the pictures are the same.
    work = Work(engine="built-in", request=ProfilePart().wish(), device="cpu")
    tally = run_on_ray(
        work,
        jobs,
        address="auto",
        cpus=1,
        writing=Writing(),
        manifest=Manifest(out / MANIFEST),
        joining=joining,
        finished=finished,
    )
    ray.shutdown()
    beside_s = (ended_s - begun_s) * workers - spent_s
    return {
        "killed": killed,
        "failed": tally.failed,
        "made_or_found_by_ray": [tally.done, tally.skipped],
        "ms_per_picture_beside_the_work": round(beside_s / max(1, counted) * 1000, 2),
        "pictures_of_that": counted,
    }


def timed(run) -> float:
    """Return how many seconds something takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def contents(folder: Path) -> dict[str, bytes]:
    """Return name → bytes of the pictures."""
    return {path.name: path.read_bytes() for path in folder.rglob("*.png")}


if __name__ == "__main__":
    main()
