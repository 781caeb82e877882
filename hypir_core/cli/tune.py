"""``hypir tune``: settings that suit a stack, without a truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from . import console
from .engine_options import options_for

if TYPE_CHECKING:
    from torch import Tensor

    from ..measure.tune import Tried


def tune_command(
    stack: Annotated[
        Path, typer.Argument(metavar="STACK", help="A measurement: TIFF, Zarr … of one channel.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The settings, .yaml, for `restore --profile`.")
    ] = Path("options.yaml"),
    engine: Annotated[str, typer.Option(help="pixel or richardson-lucy.")] = "pixel",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="A setting of the engine that stays."),
    ] = None,
    try_: Annotated[
        list[str] | None,
        typer.Option(
            "--try", metavar="KEY=VALUE,VALUE", help="What to try instead of the engine's own list."
        ),
    ] = None,
    crop: Annotated[int, typer.Option(min=32, help="Side of the part that is restored, px.")] = 128,
    share: Annotated[
        float, typer.Option(help="0 to 1: of the light, by which is restored; the rest judges.")
    ] = 0.8,
    axes: Annotated[str, typer.Option(help="Letters of the file's axes where it names none.")] = "",
    seed: Annotated[int, typer.Option(help="Of the noise that is drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
    *,
    engine_flags: dict[str, Any],
) -> None:
    """Find the settings that suit a measurement; no truth is needed.

    The photons of the brightest part are split at random. What is restored from most of them must explain the rest:
    settings that repeat noise explain it badly. Give gain and offset of the camera, or it cannot count photons.
    """
    import torch

    from ..allocator import give_back_freed_memory
    from ..config import to_plain
    from ..device import pick_device
    from ..engines.catalog import load_engine
    from ..errors import ConfigError, FileError
    from ..files.scenes.sharpest import sharpest_plane
    from ..measure.tune import brightest_part, choices, layout_of, tune
    from ..runtime import Runtime
    from .opened import opened_scene

    if out.suffix.lower() not in {".yaml", ".yml"}:
        raise ConfigError(f"--out must end in .yaml, got {out.name}")
    if out.exists() and not force:
        raise FileError(f"{out} exists; use --force to overwrite it, or choose another name")
    options = options_for(engine, engine_flags, option)
    grid = choices(engine, _lists(try_ or []))
    place = pick_device(device)
    with opened_scene(stack, axes, what="a measurement") as scene:
        found = sharpest_plane(scene)
        sizes = tuple(scene.grid.sizes[-2:])
    plane: Tensor = torch.from_numpy(found.plane).float()[None, None]
    part = brightest_part(plane, crop)

    def told(one: Tried) -> None:
        if console.err.is_terminal:
            console.say(f"{_words(one.options)}: {one.deviance:.4f}")

    tried = tune(
        engine, options, part, grid=grid, device=place, dtype=dtype, share=share, seed=seed, tried=told
    )
    chosen = {**options, **tried[0].options}
    loaded = load_engine(engine, chosen, device=place, dtype=dtype)
    layout = layout_of(loaded, sizes, Runtime(device=place, tidy=give_back_freed_memory))
    height, width = part.shape[-2:]
    _write(
        out,
        {
            "summary": f"tuned on {stack.name}, {width}×{height} px",
            "engines": {
                engine: {
                    "runtime": {"batch_tiles": layout.rung.batch},
                    "request": {"tile": {"tile_px": max(layout.plan.tile_sizes_px)}},
                    "options": to_plain(chosen),
                }
            },
        },
    )
    _print(tried)
    console.tell(f"{out}: hypir restore {stack.name} -o RESULT --profile {out}")


def _lists(words: list[str]) -> dict[str, list[Any]]:
    """Return setting → values of ``key=value,value`` words; values are read as YAML."""
    from ..config import parse_assignments
    from ..errors import ConfigError

    found: dict[str, list[Any]] = {}
    for word in words:
        key, sep, text = word.partition("=")
        if not sep or not key or not text:
            raise ConfigError(f"--try {word}: expected KEY=VALUE,VALUE, for instance steps=10,20")
        found[key] = [parse_assignments([f"x={value}"])["x"] for value in text.split(",")]
    return found


def _write(path: Path, profile: dict[str, Any]) -> None:
    import yaml

    from ..atomic import atomic_file
    from ..errors import FileError

    with atomic_file(path, error=FileError) as file:
        file.write(yaml.safe_dump(profile, sort_keys=False, allow_unicode=True).encode())


def _print(tried: tuple[Tried, ...]) -> None:
    table = Table("settings", "deviance", "χ²", "seconds")
    for one in tried:
        table.add_row(
            _words(one.options), f"{one.deviance:.4f}", f"{one.chi_squared:.3f}", f"{one.seconds:.2f}"
        )
    console.out.print(table)


def _words(options: Any) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())
