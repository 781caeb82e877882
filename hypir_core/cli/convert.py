"""``hypir convert``: rewrite a LoRA under other names, or merge it into its base model."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from . import console


class Target(str, Enum):
    """What `lora.convert` can write."""

    kohya = "kohya"
    diffusers = "diffusers"
    original = "original"
    comfyui = "comfyui"
    merged = "merged"


class MergedDtype(str, Enum):
    """Formats of a merged model."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"


def convert_command(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="LoRA: .pth or .safetensors, any known key names.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: .safetensors (original: also .pth).")
    ],
    to: Annotated[
        Target, typer.Option(help="Key names to write, or merged: a full UNet or checkpoint.")
    ] = Target.kohya,
    base: Annotated[
        Path | None, typer.Option(help="For merged: UNet file, diffusers folder or single-file checkpoint.")
    ] = None,
    dtype: Annotated[MergedDtype, typer.Option(help="For merged.")] = MergedDtype.float16,
    strength: Annotated[float, typer.Option(help="For merged: how much of the LoRA is added.")] = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Rewrite a LoRA for other programs, or bake it into a model. The round trip is exact."""
    from ..device import DTYPES
    from ..lora.convert import convert
    from ..models.sd.sd21 import sd21_module_shapes

    done = convert(
        source,
        target,
        to=to.value,
        base=base,
        published=sd21_module_shapes(),
        dtype=DTYPES[dtype.value] if to is Target.merged else None,
        strength=strength,
        force=force,
    )
    for note in done.notes:
        console.say(f"note: {note}")
    console.tell(f"{done.path}: {done.modules} modules of rank {done.rank}, {done.target}")
