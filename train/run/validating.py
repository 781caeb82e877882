"""``python -m train validate``: measure weights on the fixed pairs, without training."""

from __future__ import annotations

import argparse
import sys

from hypir_core.errors import ConfigError

from ..config import Resume, load_config
from .best import measure_average
from .building import build


def main(arguments: list[str]) -> int:
    """Measure the newest checkpoint of a run, or a file, on the preset's validation pairs."""
    parser = argparse.ArgumentParser(
        prog="python -m train validate",
        description="Measure weights on the pairs of validation.root: the newest checkpoint in output_dir, or "
        "base_model=FILE.safetensors.",
    )
    parser.add_argument("preset")
    parser.add_argument("settings", nargs="*", help="key=value …")
    given = parser.parse_args(arguments)
    config = load_config(given.preset, ["max_steps=1", *given.settings])
    if config.validation is None:
        raise ConfigError("validation: expected pairs to measure on, got none; set validation.root=FOLDER")
    if config.checkpoint.resume is Resume.never:
        raise ConfigError("checkpoint.resume: never leaves nothing to measure; leave it out")
    run = build(config, write=False)
    if run.pairs is None:
        return 0
    found = measure_average(run, run.pairs)
    came = (
        f"step {run.start} of {config.output_dir}" if run.point.folder else f"base_model {config.base_model}"
    )
    sys.stdout.write(f"weights     {came}\n")
    for name, value in found.scalars.items():
        sys.stdout.write(f"{name.removeprefix('val/'):<32} {value:.5g}\n")
    return 0
