"""Tiles that share what a sample of the picture showed, in the one-step engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hypir_core import Request, Runtime, TargetSize, load_engine, read_picture, restore, to_planes
from hypir_core.engines.diffusion.engine import Diffusion
from hypir_core.metrics.fidelity import psnr
from hypir_core.models.layers.shared_layers import SharedLayers
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileWish
from hypir_core.tiling.run import run_stage

GOLDEN = Path(__file__).parents[1] / "golden" / "hypir"
EXAMPLES = Path(__file__).parents[2] / "hypir_core" / "examples"


@pytest.fixture(scope="module")
def engine() -> Diffusion:
    engine = load_engine(
        "one-step",
        options={"base_model": str(GOLDEN / "model"), "lora": str(GOLDEN / "lora.pth")},
        device=torch.device("cpu"),
        dtype="float32",
    )
    assert isinstance(engine, Diffusion)
    return engine


def encode_only(engine: Diffusion, image_01: torch.Tensor, tile_px: int) -> torch.Tensor:
    request = Request(target=TargetSize(scale=1), tile=TileWish(tile_px=tile_px, overlap_px=32))
    prepared = engine.prepare(Plane(image_01), (image_01.shape[-2], image_01.shape[-1]), request)
    encode = engine.stages(prepared, request)[0]
    tile = TileWish(tile_px=tile_px, overlap_px=32)
    plane, report = run_stage(encode, prepared.plane, wish=tile, runtime=Runtime())
    assert report.tiles.startswith("1×1") == (tile_px >= max(image_01.shape[-2:]))
    return plane.data


def sharing(engine: Diffusion, layers: SharedLayers | None) -> Diffusion:
    encoding = replace(engine.codec.encoding, shared=layers)
    return replace(engine, codec=replace(engine.codec, encoding=encoding))


def test_what_tiles_share_brings_them_nearer_to_untiled(engine):
    photo, _ = to_planes(read_picture(EXAMPLES / "astronaut.jpg"))
    photo = photo[..., :512, :512]
    shared = engine.codec.encoding.shared
    norms_only = SharedLayers(norms=shared.norms)
    whole, both, norms, apart = (
        encode_only(sharing(engine, layers), photo, tile_px)
        for layers, tile_px in (
            (shared, 512),
            (shared, 288),
            (norms_only, 288),
            (None, 288),
        )
    )
    assert psnr(norms, whole) > psnr(apart, whole) + 3
    assert psnr(both, whole) > psnr(norms, whole) + 0.5


def test_a_picture_in_bfloat16_keeps_its_tiles_together(engine):
    """The whole engine, in tiles that share a sample, in the format that CPUs and GPUs run it in."""
    engine = load_engine(
        "one-step",
        options={"base_model": str(GOLDEN / "model"), "lora": str(GOLDEN / "lora.pth")},
        device=torch.device("cpu"),
        dtype="bfloat16",
    )
    photo, _ = to_planes(read_picture(EXAMPLES / "cat.jpg"))
    request = Request(target=TargetSize(scale=1), tile=TileWish(tile_px=256, overlap_px=64))
    done = restore(engine, photo[..., :288, :384], request, Runtime())
    assert bool(done.image_01.isfinite().all())
    assert not any(stage.bad_tiles for stage in done.report.stages)
