"""``hypir demo``: real photographs, made bad, restored with the built-in restorer, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from . import console

EXAMPLES = Path(__file__).parent.parent / "examples"
DEMO_PRESET = "jpeg-web"
DEMO_SCALE = 4


def demo_command(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path("demo"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    microscopy: Annotated[
        bool, typer.Option("--microscopy", help="Show noisy microscope pictures instead of photographs.")
    ] = False,
) -> None:
    """Degrade three photographs, restore them without any download, and write before/after pictures."""
    if microscopy:
        from ..device import pick_device
        from .demo_microscopy import microscopy_demo

        microscopy_demo(out, pick_device(device))
        return
    _photographs(out, device)


def _photographs(out: Path, device: str) -> None:
    import torch

    from ..degrade import degrade, load_recipe
    from ..device import pick_device
    from ..engines.catalog import load_engine
    from ..files.picture import to_planes
    from ..files.reading import read_picture
    from ..files.writing import write_picture
    from ..image.compare import compare_picture
    from ..image.resize import resize
    from ..metrics.fidelity import psnr_y, ssim
    from ..pipeline import restore
    from ..request import Request, picture_text
    from ..runtime import Runtime

    where = pick_device(device)
    engine = load_engine("built-in", device=where)
    recipe = load_recipe(DEMO_PRESET)
    table = Table(
        "photograph", "bicubic PSNR-Y", "restored PSNR-Y", "bicubic SSIM", "restored SSIM", "seconds"
    )
    with console.bars() as bars:
        runtime = Runtime(device=where, progress=console.tick_of(bars))
        compared = []
        for index, source in enumerate(sorted(EXAMPLES.glob("*.jpg"))):
            bars.start(source.name)
            photo, _ = to_planes(read_picture(source))
            made = degrade(photo, recipe, generator=torch.Generator().manual_seed(index), scale=DEMO_SCALE)
            low = out / f"{source.stem}-before.png"
            write_picture(low, made.lq_01, format_name="png", force=True)
            restored = restore(engine, to_planes(read_picture(low))[0], Request(), runtime)
            text = picture_text(Request(), restored.report)
            write_picture(out / f"{source.stem}-after.png", restored.image_01, text=text, force=True)
            compared.append(out / f"{source.stem}-compare.png")
            write_picture(
                compared[-1],
                compare_picture(
                    made.lq_01, restored.image_01, labels=("before", f"after: {engine.spec.name}")
                ),
                force=True,
            )
            size = (photo.shape[-2], photo.shape[-1])
            candidates = resize(made.lq_01, size).clamp(0, 1), resize(restored.image_01, size).clamp(0, 1)
            scores = [f"{float(psnr_y(c, photo)):.2f} dB" for c in candidates]
            scores += [f"{float(ssim(c, photo)):.3f}" for c in candidates]
            table.add_row(source.stem, *scores, f"{restored.report.seconds:.1f}")
    console.out.print(table)
    console.tell(f"before/after pictures: {', '.join(map(str, compared))}")
