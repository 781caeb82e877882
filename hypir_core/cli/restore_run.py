"""The run of ``hypir restore``: find, name, restore, tell."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from ..batch.carrying import LocalDisk
from ..batch.checking import check_before, every_page
from ..batch.earlier import without_results
from ..batch.elsewhere import Elsewhere, elsewhere
from ..batch.finding import Finding, find_pictures
from ..batch.manifest import Manifest, Result
from ..batch.naming import Job, Plan, Sources, name_outputs
from ..batch.on_ray import run_on_ray
from ..batch.resolutions import look_at_resolution
from ..batch.restoring import Writing
from ..batch.running import Tally, run_jobs
from ..batch.shards import manifests_in, shard_of
from ..batch.work import Work
from ..environment import variables
from ..errors import Cancelled, ConfigError
from ..request import Report
from ..tiling.geometry import by
from . import console
from .downloads import fetcher
from .report_file import report_file


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a run reads and writes, and which part of it is meant."""

    inputs: tuple[str, ...]
    out: str
    """A path or a URL."""
    compare: Path | None = None
    report: Path | None = None
    every_page: bool = False
    shard: str | None = None
    """As ``--shard`` takes it."""
    ray: str | None = None
    """Address of a Ray cluster, or ``auto``."""
    ray_cpus: int = 4
    """Of a worker, where the cluster has no GPU."""


def restore_all(work: Work, places: Places, writing: Writing) -> None:
    """Restore what was named, and end the program with 1 if something failed.

    Raises:
        HypirError: nothing can be restored.
        Cancelled: it was stopped.
    """
    if places.ray is None:
        work.where()
    with elsewhere(places.inputs, places.out, force=writing.force) as carrier:
        if carrier is not None:
            _refuse_elsewhere(places)
        _restore(work, places, writing, carrier)


def _refuse_elsewhere(places: Places) -> None:
    asked = {
        "--compare": places.compare is not None,
        "--pages all": places.every_page,
    }
    if wrong := [name for name, it in asked.items() if it]:
        raise ConfigError(f"{' and '.join(wrong)} need files on this disk, got a URL; leave it out")


def _restore(work: Work, places: Places, writing: Writing, carrier: Elsewhere | None) -> None:
    mine = shard_of(places.shard, variables())
    out = Path(places.out) if carrier is None else carrier.out
    if carrier is not None:
        carrier.fetch_manifests()
    manifest = Manifest(out / mine.manifest, manifests_in(out))
    finding = carrier.find() if carrier is not None else None
    if finding is None:
        finding = without_results(find_pictures(places.inputs), out, [manifest])
    found = finding.pictures
    if not found:
        raise ConfigError(
            f"every picture in {', '.join(map(repr, places.inputs))} is a result of an earlier run"
        )
    several = len(places.inputs) > 1 or not found[0].named
    plan = name_outputs(found, out, format_name=writing.format, several=several, compare=places.compare)
    if places.every_page:
        plan = every_page(plan)
    sources = Sources(plan.jobs)  # another shard's inputs are no more to be overwritten than this one's
    plan = plan.part(mine, out)
    if not plan.jobs:
        console.tell(f"shard {mine.index} of {mine.count} holds none of the {len(found)} pictures")
        return
    if carrier is not None:
        if not plan.is_folder:
            raise ConfigError(
                f"--out {places.out}: expected a folder for what comes from a URL or goes to one"
            )
        carrier.follow(manifest.path)
    writing = replace(writing, protect=sources)
    check_before(plan, writing, report=places.report)
    if places.ray is not None and not plan.is_folder:
        raise ConfigError(f"--ray needs several inputs and an output folder, got the file {places.out}")
    tally = _run(work, plan, finding, writing, places, manifest if plan.is_folder else None, carrier)
    if tally.failed and tally.all > 1:
        console.say(f"{tally.failed} of {tally.all} pictures failed; the others are done")
    if tally.failed or finding.problems:
        raise typer.Exit(1)


def _run(
    work: Work,
    plan: Plan,
    finding: Finding,
    writing: Writing,
    places: Places,
    manifest: Manifest | None,
    carrier: Elsewhere | None,
) -> Tally:
    fetch = fetcher(consented=bool(work.options.get("download")))
    engine = work.load(fetch=fetch) if places.ray is None else None
    resolution = (
        None
        if engine is None  # then who runs it on the cluster looks
        else look_at_resolution(plan.jobs, engine.spec, writing, carrier or LocalDisk())
    )
    ended, failed, begin = 0, 0, time.monotonic()
    with (
        report_file(
            places.report, lambda: [*finding.problems, *finding.passed_over], force=writing.force
        ) as note_down,
        console.bars() as bars,
    ):

        def finished(_job: Job, result: Result, done: Report | None) -> None:
            nonlocal ended, failed
            ended += 1
            failed += result.status not in {"done", "skipped"}
            if engine is None:
                bars.count(ended, len(plan.jobs), failed, ended / max(1e-9, time.monotonic() - begin))
            entry: dict[str, Any] = {"input": result.input, "output": result.output, "status": result.status}
            if result.error is not None:
                console.say(result.error, of=result.input)
                entry["error"] = result.error
            if done is not None:
                entry["report"] = json.loads(done.to_json())
                sizes = f"{by(done.input_px[::-1])} → {by(done.output_px[::-1])}"
                bars.line(f"{result.input} → {result.output}  {sizes}  {result.seconds:.1f} s")
                for note in done.notes:
                    console.say(f"note: {note}", of=result.input)
            note_down(entry)

        try:
            if engine is None:
                assert places.ray is not None
                assert manifest is not None
                return run_on_ray(
                    work,
                    plan.jobs,
                    address=places.ray,
                    cpus=places.ray_cpus,
                    writing=writing,
                    manifest=manifest,
                    carrier=carrier,
                    finished=finished,
                )
            return run_jobs(
                engine,
                plan.jobs,
                work.request,
                work.runtime(progress=console.tick_of(bars)),
                writing=writing,
                manifest=manifest,
                carrier=carrier,
                resolution=resolution,
                started=lambda job: bars.start(job.source.name),
                finished=finished,
            )
        except KeyboardInterrupt as err:
            raise Cancelled(
                f"stopped after {ended} of {len(plan.jobs)} pictures; the same command goes on from there"
            ) from err
        finally:
            console.say_what_was_left_out(finding)
