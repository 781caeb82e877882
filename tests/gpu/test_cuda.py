"""What only a CUDA device can show; `benchmarks/gpu_check.py` runs these there, everywhere else they skip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.models.layers.cpu_attention import attention
from hypir_core.models.layers.shared_norms import SharedNorms
from hypir_core.residency import Residents
from hypir_core.tiling.plan import TileWish
from hypir_core.tiling.transfer import returning, sent

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GOLDEN = Path(__file__).parents[1] / "golden"
HYPIR = {"lora": GOLDEN / "hypir/lora.pth", "base_model": str(GOLDEN / "hypir/model")}
REQUEST = Request(target=TargetSize(scale=4), tile=TileWish(tile_px=192, overlap_px=64))


def engine(device: str, dtype: str = "float32"):
    return load_engine("one-step", HYPIR, device=torch.device(device), dtype=dtype)


def picture(side: int = 96) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def on_cuda(**more) -> Runtime:
    return Runtime(device=torch.device("cuda"), **more)


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * (one.cpu() - other.cpu()).square().mean().log10())


def test_a_tiled_batch_is_the_same_picture_as_on_the_cpu():
    """Noise is drawn on the CPU, so that a seed means the same everywhere."""
    here = restore(engine("cpu"), picture(), REQUEST, Runtime()).image_01
    there = engine("cuda")
    for tiles in (1, 3):
        assert psnr(restore(there, picture(), REQUEST, on_cuda(batch_tiles=tiles)).image_01, here) > 55


@pytest.mark.parametrize(("dtype", "least_db"), [("bfloat16", 28), ("float16", 40)])
def test_16_bit_is_near_float32(dtype, least_db):
    exact = restore(engine("cuda"), picture(), REQUEST, on_cuda()).image_01
    assert psnr(restore(engine("cuda", dtype), picture(), REQUEST, on_cuda()).image_01, exact) > least_db


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("keys", [4096 + 1000, 5097])
def test_attention_beyond_the_tile_has_a_fused_kernel(dtype, keys):
    """With a bias per key, in lengths that are no multiples of 8 too: never the one that writes all weights out."""
    rng = torch.Generator("cuda").manual_seed(0)
    q = torch.randn(2, 5, 4096, 64, device="cuda", dtype=dtype, generator=rng)
    k, v = (torch.randn(2, 5, keys, 64, device="cuda", dtype=dtype, generator=rng) for _ in range(2))
    counts = torch.rand(keys, device="cuda", generator=rng)
    fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
    with sdpa_kernel(fused):
        got = attention(q, k, v, counts)
    with sdpa_kernel(SDPBackend.MATH):
        wanted = attention(q.float(), k.float(), v.float(), counts)
    assert (got.float() - wanted).abs().max() < 0.02


def test_norms_on_the_device_count_as_on_the_cpu():
    x = 3 + torch.randn(6, 64, 40, 40, generator=torch.Generator().manual_seed(2))
    shares = torch.full((3, 2), 1 / 3)
    found = {}
    for device in ("cpu", "cuda"):
        norm = nn.GroupNorm(32, 64).to(device, torch.bfloat16).requires_grad_(False)
        with SharedNorms(norm).gathering(shares.to(device)) as seen:
            norm(x.to(device, torch.bfloat16))
        found[device] = seen[norm][None]
    for name in ("mean", "var"):
        one, other = getattr(found["cuda"], name).cpu(), getattr(found["cpu"], name)
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_what_comes_back_is_whole_although_the_card_goes_on():
    """The copy is begun while the card is busy, and read when the next batch has begun."""
    device = torch.device("cuda")
    maps = [torch.full((1, 3, 1024, 1024), float(i), device=device) for i in range(8)]
    coming = returning(maps, torch.device("cpu"))
    busy = torch.randn(4096, 4096, device=device)
    for _ in range(20):
        busy = busy @ busy * 1e-3
    assert all(tile.arrived().is_pinned() for tile in coming)
    assert [tile.arrived().mean().item() for tile in coming] == list(range(8))
    there = [sent(torch.full((1, 3, 512, 512), float(i)), device) for i in range(8)]
    assert [tile.mean().item() for tile in there] == list(range(8))


def test_out_of_memory_takes_smaller_tiles_and_gives_the_memory_back():
    made = engine("cuda")
    wish = TileWish(tile_px=1024, overlap_px=64)
    request = replace(REQUEST, tile=wish, target=TargetSize(scale=16))
    wanted = restore(made, picture(64), request, on_cuda(batch_tiles=1)).image_01
    before = torch.cuda.memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((before + 150 * 2**20) / total)
    try:
        done = restore(made, picture(64), request, on_cuda(batch_tiles=4))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert done.report.notes
    assert psnr(done.image_01, wanted) > 30
    assert torch.cuda.memory_allocated() <= before + 2**20


def test_taking_turns_takes_the_memory_of_the_largest_network():
    """Three networks of 16, 32 and 64 MiB: kept, they lie there together; in turns, the largest alone."""
    most = {}
    for one_at_a_time in (False, True):
        nets = {
            name: nn.Linear(1024 * size, 1024, bias=False) for name, size in (("a", 4), ("b", 8), ("c", 16))
        }
        residents = Residents(nets, one_at_a_time=one_at_a_time)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for name in ("a", "b", "c", "a"):
            residents.place(name)(torch.device("cuda"))
        most[one_at_a_time] = torch.cuda.max_memory_allocated() - before
        residents.leave()
        assert torch.cuda.memory_allocated() <= before + 2**16
    assert most[True] < 65 * 2**20
    assert most[False] >= 112 * 2**20
