"""The command line: ``python -m train PRESET.yaml key=value …``, or with ``accelerate launch -m train``."""

from __future__ import annotations

import logging
import os
import sys

from hypir_core.errors import HypirError

USAGE = """usage: python -m train PRESET.yaml key=value …
       accelerate launch -m train PRESET.yaml key=value …
       python -m train inspect-data PRESET.yaml key=value …
for instance: python -m train compact_pixel data.root=photos output_dir=runs/one max_steps=40000"""


def main(arguments: list[str]) -> int:
    """Run one training, or look at its data; return the exit code: 0 done or stopped, 1 failed, 2 wrong settings."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stderr.write(f"{USAGE}\n")
        return 0 if arguments else 2
    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if main_process else logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        if arguments[0] == "inspect-data":
            from .data.inspection import main as inspect_data

            return inspect_data(arguments[1:])
        from .config import load_config
        from .run.recipe import train

        train(load_config(arguments[0], arguments[1:]))
    except HypirError as err:
        sys.stderr.write(f"error: {err}\n")
        return 2 if isinstance(err, (ValueError, LookupError)) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
