"""Restore every picture of a folder; a picture that fails is named, and the others are still restored.

uv run python docs/examples/restore_folder.py FOLDER RESULTS
"""

import sys
from pathlib import Path

from hypir_core import Request, Runtime, load_engine, pick_device
from hypir_core.batch.finding import find_pictures
from hypir_core.batch.manifest import MANIFEST, Manifest
from hypir_core.batch.naming import name_outputs
from hypir_core.batch.running import Writing, run_jobs

folder, results = sys.argv[1:]
device = pick_device("auto")
engine = load_engine("built-in", device=device)
plan = name_outputs(find_pictures([folder]).pictures, Path(results), format_name=None, several=True)
tally = run_jobs(
    engine,
    plan.jobs,
    Request(),
    Runtime(device=device),
    writing=Writing(),
    manifest=Manifest(Path(results) / MANIFEST),
    finished=lambda job, result, _report: print(f"{result.status}: {job.source}", result.error or ""),
)
print(f"{tally.done} restored, {tally.skipped} were there, {tally.failed} failed")
