"""The command line: ``python -m train PRESET.yaml key=value …``, or with ``accelerate launch -m train``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from hypir_core.errors import HypirError

USAGE = """usage: python -m train PRESET key=value … [--dry-run]
       accelerate launch -m train PRESET key=value …
       python -m train inspect-data PRESET key=value …
       python -m train export CHECKPOINT [--raw] -o FILE.safetensors|.onnx|.ts
       python -m train stats PRESET key=value … -o STATISTICS.json
       python -m train validate PRESET key=value …
       python -m train import-opensr CONFIG.yaml > MINE.yaml
       python -m train schema > SCHEMA.json
for instance: python -m train compact_pixel data.root=photos output_dir=runs/one max_steps=40000
  --dry-run   build everything, make one step, say what memory it takes; write nothing
  export      the weights of a checkpoint: their moving average, or with --raw as they are
  stats       what the values of the training data are, band by band, for ranges
  validate    measure a checkpoint, or base_model=FILE, on the validation pairs
  import-opensr  settings of opensr-srgan as a preset
  schema      the JSON schema of presets, for editors"""

DRY_RUN = "--dry-run"

VERBS = {
    "inspect-data": ".data.inspection",
    "stats": ".data.statistics_verb",
    "validate": ".run.validating",
    "import-opensr": ".opensr_import",
    "schema": ".schema_verb",
}
"""Verb → the module whose `main` takes the other words."""


def main(arguments: list[str]) -> int:
    """Run one training, look at its data, or export a checkpoint.

    Return the exit code: 0 done or stopped, 1 failed, 2 wrong settings.
    """
    if not arguments or {"-h", "--help"} & {arguments[0], arguments[-1]}:
        sys.stderr.write(f"{USAGE}\n")
        return 0 if arguments else 2
    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if main_process else logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        if arguments[0] in VERBS:
            return _verb(arguments[0])(arguments[1:])
        if arguments[0] == "export":
            return _export(arguments[1:])
        return _train(arguments)
    except HypirError as err:
        sys.stderr.write(f"error: {err}\n")
        return 2 if isinstance(err, (ValueError, LookupError)) else 1


def _verb(name: str) -> Callable[[list[str]], int]:
    return import_module(VERBS[name], __package__).main


def _train(arguments: list[str]) -> int:
    from .config import load_config

    words = [word for word in arguments if word != DRY_RUN]
    if not words:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    config = load_config(words[0], words[1:])
    if DRY_RUN in arguments:
        from .run.dry_run import dry_run

        for line in dry_run(config):
            sys.stdout.write(f"{line}\n")
        return 0
    from .run.recipe import train

    train(config)
    return 0


def _export(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train export",
        description="Write the generator of a checkpoint as a weight file for hypir restore and ComfyUI.",
    )
    parser.add_argument("checkpoint", type=Path, help="its folder, or that of the run for the newest one")
    parser.add_argument(
        "--raw", action="store_true", help="the weights as they are, not their moving average"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write, .safetensors")
    given = parser.parse_args(arguments)
    from .run.export import export_checkpoint

    for path in export_checkpoint(given.checkpoint, given.output, raw=given.raw):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
