"""Runs of the smallest preset, which take a second."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from train.config import TrainConfig, load_config

ROOT = Path(__file__).parents[2]


def words(photos: Path, out: Path, steps: int, *assignments: str) -> list[str]:
    """Return what a person types after ``python -m train``."""
    return ["tiny_cpu_pixel", f"data.root={photos}", f"output_dir={out}", f"max_steps={steps}", *assignments]


def tiny(photos: Path, out: Path, steps: int, *assignments: str) -> TrainConfig:
    preset, *rest = words(photos, out, steps, *assignments)
    return load_config(preset, rest)


@contextmanager
def stopped_at_step_3(
    command: Sequence[str], stop: Callable[[subprocess.Popen[str]], None]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a training in a session of its own, `stop` it at its third step; yields it and what it said to the end."""
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as job:
        assert job.stderr is not None
        said = []
        for line in job.stderr:
            said.append(line)
            if "step 3/" in line:
                stop(job)
                break
        said += job.stderr.readlines()  # until the training itself has ended, not its launcher alone
        yield job, "".join(said)
