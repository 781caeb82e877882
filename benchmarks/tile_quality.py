"""What tiling costs in quality: the default, the default without a sample, and the original's plan.

    uv run python benchmarks/tile_quality.py PICTURE ... [--size N ...] [--base MODEL --lora FILE]
      [--encode-sample PARTS ...]

A one-step model in float32 enlarges the picture ×4 to N×N px, in one tile and in tiles: the tiny golden one (real
layers, random weights) unless another is named. Without a sample every tile is normalised by itself. PSNR is of
the result as a user gets it (colour fix included) against the untiled one, each by the rules of its own mode. The
seam measure is the mean step across the tiles' edges over the mean step elsewhere, and beside it that of the
untiled result on the same lines, which shows what the picture itself has there. Prints JSON.
With --encode-sample also the default with samples of the encoder that are so many tiles large.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from hypir_core import Request, Runtime, TargetSize, load_engine, read_picture, restore, to_planes
from hypir_core.engines.diffusion.engine import Diffusion
from hypir_core.image.resize import resize
from hypir_core.metrics.fidelity import psnr
from hypir_core.metrics.seams import seam_measure
from hypir_core.tiling.choose import lay_tiles
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileWish

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "hypir"
SCALE = 4


def one_step(base: Path, lora: Path, *, reference_mode: bool) -> Diffusion:
    options = {"base_model": str(base), "lora": str(lora), "reference_mode": reference_mode}
    engine = load_engine("one-step", options=options, device=torch.device("cpu"), dtype="float32")
    assert isinstance(engine, Diffusion)
    return engine


def tile_edges(
    engine: Diffusion, picture_01: torch.Tensor, request: Request
) -> tuple[list[int], list[int], str]:
    """Return the lines where tiles of the decoder begin or end, (rows, columns), and the plan in words."""
    size = tuple(side * SCALE for side in picture_01.shape[-2:])
    prepared = engine.prepare(Plane(picture_01), (size[0], size[1]), request)
    decode = engine.stages(prepared, request)[-1]
    plan = lay_tiles(decode, prepared.plane.sizes_px, wish=request.tile, runtime=Runtime()).plan
    rows, columns = (
        sorted({edge for start, length in spans for edge in (start, start + length) if 0 < edge < total})
        for spans, total in zip(plan.axes, size, strict=True)
    )
    return rows, columns, plan.summary()


def without_sample(engine: Diffusion) -> Diffusion:
    codec, denoiser = engine.codec, engine.denoiser
    encoding, decoding = (replace(placing, shared=None) for placing in (codec.encoding, codec.decoding))
    placing = replace(denoiser.placing, shared=None)
    return replace(
        engine,
        codec=replace(codec, encoding=encoding, decoding=decoding),
        denoiser=replace(denoiser, placing=placing),
    )


def with_encode_sample(engine: Diffusion, of_tile: float) -> Diffusion:
    codec = engine.codec
    return replace(engine, codec=replace(codec, encode_sample=replace(codec.encode_sample, of_tile=of_tile)))


def measure(name: str, engine: Diffusion, picture_01: torch.Tensor) -> dict[str, object]:
    side = picture_01.shape[-1] * SCALE
    request = Request(target=TargetSize(scale=SCALE))
    in_one = Request(target=TargetSize(scale=SCALE), tile=TileWish(tile_px=side, overlap_px=0))
    tiled = restore(engine, picture_01, request, Runtime())
    whole = restore(engine, picture_01, in_one, Runtime())
    assert all(stage.tiles.startswith("1×1") for stage in whole.report.stages)
    rows, columns, plan = tile_edges(engine, picture_01, request)
    seam, seam_untiled = (seam_measure(done.image_01, rows, columns) for done in (tiled, whole))
    return {
        "tiles": name,
        "size_px": side,
        "decode_plan": plan,
        "psnr_db": round(float(psnr(tiled.image_01, whole.image_01)), 2),
        "seam": round(seam, 4),
        "seam_untiled": round(seam_untiled, 4),
        "seam_ratio": round(seam / seam_untiled, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--size", type=int, nargs="+", default=[1024])
    parser.add_argument("--base", type=Path, default=GOLDEN / "model")
    parser.add_argument("--lora", type=Path, default=GOLDEN / "lora.pth")
    parser.add_argument("--encode-sample", type=float, nargs="*", default=[], metavar="PARTS")
    given = parser.parse_args()
    engine = one_step(given.base, given.lora, reference_mode=False)
    engines = {
        "default": engine,
        **{
            f"default, encoder's sample of {parts} tiles": with_encode_sample(engine, parts)
            for parts in given.encode_sample
        },
        "default, without the sample": without_sample(engine),
        "the original's": one_step(given.base, given.lora, reference_mode=True),
    }
    results: list[dict[str, object]] = []
    for picture, side in product(given.pictures, given.size):
        image_01, _ = to_planes(read_picture(picture))
        short = min(image_01.shape[-2:])
        small = resize(image_01[..., :short, :short], (side // SCALE, side // SCALE)).clamp(0, 1)
        for name, engine in engines.items():
            results.append({"picture": picture.name, **measure(name, engine, small)})
            print(results[-1], file=sys.stderr)
    report = {
        "model": "tests/golden/hypir" if given.base == GOLDEN / "model" else given.base.name,
        "results": results,
        "torch": torch.__version__,
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
