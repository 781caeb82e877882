"""``hypir restore``."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..color.mode import ColorFix
from ..errors import ConfigError
from .engine_options import options_for

if TYPE_CHECKING:
    from ..profile import ProfilePart
    from ..request import Request

DEFAULT_ENGINE = "built-in"


class Format(str, Enum):
    """Formats that can be written."""

    png = "png"
    jpg = "jpg"
    webp = "webp"
    tiff = "tiff"
    npy = "npy"


class Pages(str, Enum):
    """Which pages of a file are restored."""

    first = "first"
    all = "all"


class WindowName(str, Enum):
    """Blend windows; the meanings stand in `tiling.window.Window`."""

    hann = "hann"
    gaussian = "gaussian"
    linear = "linear"


def restore_command(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders (recursive) or globs; or one URL.")
    ],
    out: Annotated[
        str,
        typer.Option("-o", "--out", metavar="PATH|URL", help="Output file, or folder for several inputs."),
    ],
    format_name: Annotated[
        Format | None,
        typer.Option("--format", help="Format to write; default: the input's, or the one OUT names."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Engine; `hypir engines` lists them.", show_default="built-in, or the profile's first"
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Settings that go together; `hypir profiles` lists them."),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'ENGINE [KEY=VALUE ...]'",
            help="An engine that goes on with the result, with its own settings; may be given several times.",
        ),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Factor on both sides, 1 to 8; default: the engine's.")
    ] = None,
    longest_side: Annotated[int | None, typer.Option(help="Length of the longer side, px.")] = None,
    shortest_side: Annotated[int | None, typer.Option(help="Length of the shorter side, px.")] = None,
    megapixels: Annotated[float | None, typer.Option(help="Area in million pixels.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What the picture shows, for engines that listen.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Nominal tile side, output px; default: the engine's.")
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="Least overlap of tiles, output px.")] = None,
    window: Annotated[WindowName | None, typer.Option(help="Blend between tiles.")] = None,
    batch_tiles: Annotated[
        str | None, typer.Option(help="Tiles per batch, or auto.", show_default="auto")
    ] = None,
    color_fix: Annotated[
        ColorFix | None, typer.Option(help="Where colour comes from; default: the engine's.")
    ] = None,
    color_strength: Annotated[
        float | None,
        typer.Option(help="0 keeps the engine's colours, 1 is the full fix.", show_default="1"),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="0 keeps the resized input, 1 is fully restored.", show_default="1"),
    ] = None,
    edge_enhance: Annotated[
        float | None,
        typer.Option(help="0 to 1: steeper edges in what the engine sees.", show_default="0"),
    ] = None,
    sharpen: Annotated[
        float | None, typer.Option(help="0 to 1: steeper edges in the result.", show_default="0")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Picture whose brightness multiplies the strength.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For engines that draw noise.", show_default="0")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="A setting of this engine only.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or float16.", show_default="auto")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write what was done as JSON.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Write a labelled before/after PNG (a folder for several inputs).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")] = False,
    pages: Annotated[
        Pages, typer.Option(help="Of files with several pages or frames: the first, or all.")
    ] = Pages.first,
    keep_dates: Annotated[
        bool, typer.Option("--keep-dates", help="Give results the times of their inputs.")
    ] = False,
    bits: Annotated[
        int | None,
        typer.Option(
            help="Per sample: 8, 16, 32 (float32); of a scene 32.", show_default="those of the input"
        ),
    ] = None,
    bands: Annotated[
        str, typer.Option(help="Of a scene: which bands, by name or number from 1: B04,B03,B02 or 3,2,1.")
    ] = "",
    axes: Annotated[
        str, typer.Option(help="Of a stack or volume: a letter of TZCYX for each axis of the array, as ZYX.")
    ] = "",
    codec: Annotated[
        str | None,
        typer.Option(
            help="Of a clip: h264, h265, vp9 or ffv1 (without loss).",
            show_default="what suits the output's name",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            help="Of a clip: CRF, 0 best, more is smaller.", show_default="16 for h264, 18 for h265"
        ),
    ] = None,
    steady: Annotated[
        float | None,
        typer.Option(help="Of a clip: 0 to 0.95: how much flicker is kept down.", show_default="0.8"),
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="Of an HDF5 file or a Zarr group: which array, as /measured/data.")
    ] = "",
    truth: Annotated[
        Path | None,
        typer.Option(
            help="What the result of a stack should be, a file or a folder of them: the report says how near it is."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N|auto",
            help="Only this part of the pictures, I from 0; auto: as SLURM or Kubernetes say.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="Restore on a Ray cluster; auto: this machine's, or one for this run.",
        ),
    ] = None,
    ray_cpus: Annotated[
        int, typer.Option(min=1, help="CPUs of a Ray worker, where the cluster has no GPU.")
    ] = 4,
    *,
    engine_flags: dict[str, Any],
) -> None:
    """Restore pictures, scenes and clips.

    A run over several pictures that was stopped goes on where it was when started again.
    """
    from ..batch.clip_files import ClipWriting
    from ..batch.restoring import Writing
    from ..batch.work import Work
    from ..image.size import TargetSize
    from ..profile import ProfilePart, load_profile
    from ..tiling.window import Window
    from .restore_run import Places, restore_all
    from .then import then_of

    chosen = None if profile is None else load_profile(profile)
    engine = engine or (DEFAULT_ENGINE if chosen is None else chosen.first_engine)
    part = ProfilePart() if chosen is None else chosen.part(engine, name=str(profile))
    options = dict(part.options) | options_for(engine, engine_flags, option)
    sizes = {
        "scale": scale,
        "longest_side_px": longest_side,
        "shortest_side_px": shortest_side,
        "megapixels": megapixels,
    }
    tiles = {
        "tile_px": tile,
        "overlap_px": overlap,
        "window": None if window is None else Window(window.value),
    }

    def wished(of: ProfilePart) -> Request:
        wish = of.wish()
        return replace(
            wish,
            target=TargetSize(**sizes) if _given(sizes) else wish.target,
            tile=replace(
                wish.tile,
                **_given(tiles),
                may_shrink=wish.tile.may_shrink and tile is None and overlap is None,
            ),
            **_given(
                {
                    "prompt": prompt,
                    "seed": seed,
                    "color_fix": color_fix,
                    "color_strength": color_strength,
                    "strength": strength,
                    "edge_enhance": edge_enhance,
                    "sharpen": sharpen,
                }
            ),
        )

    request = wished(part)
    restore_all(
        Work(
            engine=engine,
            options=options,
            request=request,
            then=tuple(then_of(words, chosen, wished) for words in then or ()),
            part=part,
            device=device,
            dtype=dtype,
            batch_tiles=part.runtime.batch_tiles if batch_tiles is None else _batch_tiles(batch_tiles),
        ),
        Places(
            inputs=tuple(inputs),
            out=out,
            compare=compare,
            report=report,
            every_page=pages is Pages.all,
            shard=shard,
            ray=ray,
            ray_cpus=ray_cpus,
        ),
        Writing(
            format=None if format_name is None else format_name.value,
            force=force,
            mask=mask,
            keep_dates=keep_dates,
            bits=bits,
            bands=tuple(name.strip() for name in bands.split(",") if name.strip()),
            axes=axes,
            dataset=dataset,
            clip=ClipWriting(codec=codec, quality=quality, steady=steady),
            truth=truth,
        ),
    )


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return what somebody said."""
    return {name: value for name, value in values.items() if value is not None}


def _batch_tiles(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--batch-tiles must be auto or a whole number from 1 on, got {text!r}")
    return int(text)
