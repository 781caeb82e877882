"""Seconds per training step, with the cheap gains one at a time taken away or added.

    uv run python benchmarks/training_speed.py PHOTOS > benchmarks/results/training_speed.json

Every row is a training of its own in a process of its own, as a user starts it: `tiny_cpu` on the tiny golden model
and `compact_gan`, on one thread. The median of the windows of 5 steps after the first window. Prints JSON.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "hypir" / "model"

COMMON = ("max_steps=30", "threads=1", "tracking.every=5", "checkpoint.every=1000", "data.workers=0")

TINY = ("tiny_cpu", f"base_model={GOLDEN}")
COMPACT = (
    "compact_gan",
    "tracking.tensorboard=false",
    "discriminators.unet.ramp.start=0",
    "tracking.images_every=0",
)

ROWS = (
    ("tiny_cpu", "as shipped", TINY),
    (
        "tiny_cpu",
        "new batch and picture for the discriminator, as the original",
        (*TINY, "share_batch=false"),
    ),
    ("tiny_cpu", "channels last", (*TINY, "channels_last=true")),
    ("tiny_cpu", "gradient checkpointing off", (*TINY, "generator.options.gradient_checkpointing=false")),
    ("compact_gan", "as shipped: bfloat16, channels last", COMPACT),
    ("compact_gan", "new batch and picture for the discriminator", (*COMPACT, "share_batch=false")),
    ("compact_gan", "channels first", (*COMPACT, "channels_last=false")),
    ("compact_gan", "float32", (*COMPACT, "precision=fp32")),
)


def step_seconds(words: tuple[str, ...], photos: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run = [f"data.root={photos}", f"output_dir={folder}/run", *COMMON]
        command = [sys.executable, "-m", "train", *words, *run]
        subprocess.run(command, check=True, stdout=sys.stderr)
        with (Path(folder) / "run" / "scalars.csv").open(newline="") as file:
            seconds = [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "speed/step_s"]
    return median(seconds[1:])


def main() -> None:
    results = [
        {"preset": preset, "how": how, "seconds_per_step": round(step_seconds(words, sys.argv[1]), 4)}
        for preset, how, words in ROWS
    ]
    print(json.dumps({"results": results, "torch": torch.__version__}, indent=2))


if __name__ == "__main__":
    main()
