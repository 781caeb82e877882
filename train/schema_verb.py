"""``python -m train schema``: the JSON schema of the settings."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from hypir_core.schema import json_schema

from .config import TrainConfig

EXTENDS = "Another preset, by name or path, on which this one is laid."
KIND = "A kind of pictures whose settings lie below these: the name of a file in train/modalities."


def main(arguments: list[str]) -> int:
    """Print the schema that a preset, YAML or JSON, fits."""
    argparse.ArgumentParser(
        prog="python -m train schema",
        description="Print the JSON schema of presets, for editors and for checking them elsewhere.",
    ).parse_args(arguments)
    sys.stdout.write(json.dumps(preset_schema(), indent=2, ensure_ascii=False) + "\n")
    return 0


def preset_schema() -> dict[str, Any]:
    """Return the schema of a preset: of `TrainConfig`, with the two keys that are gone when settings are read.

    Nothing is required: the preset below, or the command line, may say it.
    """
    schema = json_schema(TrainConfig)
    schema["properties"]["extends"] = {"type": "string", "description": EXTENDS}
    schema["$defs"]["DataConfig"]["properties"]["kind"] = {"type": "string", "description": KIND}
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
    return schema
