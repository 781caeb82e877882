"""``hypir convert``: LoRAs under other names or merged, a tagger made small, a checkpoint as a weight file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console

if TYPE_CHECKING:
    import torch


class Target(str, Enum):
    """What can be written: a LoRA (`lora.convert`), or a tagger (`tags.convert`)."""

    kohya = "kohya"
    diffusers = "diffusers"
    original = "original"
    comfyui = "comfyui"
    merged = "merged"
    tagger = "tagger"


class CheckpointWeights(str, Enum):
    """Which weights of a checkpoint."""

    raw = "raw"
    ema = "ema"


class MergedDtype(str, Enum):
    """Formats of a merged model or a tagger."""

    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"


def convert_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="LoRA: .pth or .safetensors, any known key names. For tagger: RAM's .pth. Or a checkpoint of "
            "opensr-srgan: .ckpt.",
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: .safetensors (original: also .pth).")
    ],
    to: Annotated[
        Target,
        typer.Option(
            help="Key names to write; merged: a full UNet or checkpoint; tagger: what RAM's tags need."
        ),
    ] = Target.kohya,
    base: Annotated[
        Path | None, typer.Option(help="For merged: UNet file, diffusers folder or single-file checkpoint.")
    ] = None,
    lora: Annotated[
        Path | None, typer.Option(help="For tagger: SeeSR's LoRA for it (DAPE.pth), which is added.")
    ] = None,
    dtype: Annotated[MergedDtype, typer.Option(help="For merged and tagger.")] = MergedDtype.float16,
    strength: Annotated[
        float, typer.Option(help="For merged and tagger: how much of the LoRA is added.")
    ] = 1.0,
    config: Annotated[
        Path | None, typer.Option(help="For a checkpoint: the YAML settings that it was trained with.")
    ] = None,
    weights: Annotated[
        CheckpointWeights | None,
        typer.Option(
            help="For a checkpoint: the last step's, or their average. Default: the average, if any."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Rewrite a LoRA for other programs, or bake it into a model; make a checkpoint of opensr-srgan a weight file.

    No number changes, so a LoRA's round trip is exact.
    """
    from ..device import DTYPES
    from ..errors import ConfigError
    from ..lora.convert import convert
    from ..models.sd.sd21 import sd21_module_shapes

    if to is Target.tagger:
        if base is not None:
            raise ConfigError("base has no meaning for tagger; leave it out")
        _convert_tagger(source, target, lora=lora, strength=strength, dtype=DTYPES[dtype.value], force=force)
        return
    if lora is not None:
        raise ConfigError(f"lora only has a meaning for tagger; for {to.value}, the LoRA is IN")
    if config is not None or weights is not None or _is_generator(source):
        if to is not Target.kohya or base is not None or strength != 1:
            raise ConfigError("to, base and strength belong to LoRAs; leave them out for a checkpoint")
        _convert_checkpoint(source, target, config, weights, force=force)
        return
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


def _convert_tagger(
    source: Path, target: Path, *, lora: Path | None, strength: float, dtype: torch.dtype, force: bool
) -> None:
    from ..tags.convert import convert_tagger
    from ..weights.download.sources import human_size

    done = convert_tagger(source, target, lora=lora, strength=strength, dtype=dtype, force=force)
    size = human_size(done.path.stat().st_size)
    console.tell(f"{done.path}: {done.tensors} tensors, {size}, {done.label}")


def _is_generator(source: Path) -> bool:
    """Tell whether a file holds a generator of opensr-srgan."""
    from ..weights.opensr_layout import generator_tensors, layout_of
    from ..weights.tensors import read_tensors

    return source.is_file() and layout_of(generator_tensors(read_tensors(source).tensors)) is not None


def _convert_checkpoint(
    source: Path, target: Path, config: Path | None, weights: CheckpointWeights | None, *, force: bool
) -> None:
    from ..config import load_yaml
    from ..engines.feed_forward.opensr_checkpoint import Which, convert_checkpoint

    done = convert_checkpoint(
        source,
        target,
        config=None if config is None else load_yaml(config),
        which=None if weights is None else Which(weights.value),
        force=force,
    )
    for note in done.notes:
        console.say(f"note: {note}")
    spec = done.spec
    console.tell(
        f"{done.path}: {spec.architecture}, {spec.in_channels} → {spec.out_channels} bands, ×{spec.scale}, range "
        f"{spec.value_range.kind.value}, {done.which.value} weights, {done.tensors} tensors"
    )
