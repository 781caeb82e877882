"""How SeeSR's ControlNets act, in which formats its networks run, and that runs leave nothing behind."""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.color.mode import ColorFix
from hypir_core.engines.diffusion.engine import Diffusion
from hypir_core.models.sd.controlnet import added, load_controlnet

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
CPU = torch.device("cpu")
MODEL = {"base_model": str(GOLDEN / "sd-turbo"), "seesr": str(GOLDEN / "seesr"), "process_px": 64}
TAGGER = {
    "tagger": str(GOLDEN / "ram" / "ram_swin_large_14m.pth"),
    "tagger_lora": str(GOLDEN / "ram" / "DAPE.pth"),
    "tag_list": str(GOLDEN / "ram"),
}
REQUEST = Request(target=TargetSize(scale=2), color_fix=ColorFix.none, seed=3)


@cache
def picture() -> Tensor:
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(4))


def tiny(dtype: str = "float32", **options) -> Diffusion:
    return load_engine("seesr", MODEL | TAGGER | options, device=CPU, dtype=dtype)


def restored(engine: Diffusion) -> Tensor:
    return restore(engine, picture(), REQUEST, Runtime()).image_01


def test_a_stronger_control_goes_further():
    strengths = (0.0, 0.25, 0.5, 1.0)
    images = [restored(tiny(control_strength=s)) for s in strengths]
    away = [float((image - images[0]).abs().mean()) for image in images]
    assert away == sorted(away)
    assert away[1] > 0.01 * away[3] > 0


def test_controls_add_up_and_scale_with_their_strength():
    control = load_controlnet(GOLDEN / "seesr/controlnet/diffusion_pytorch_model.safetensors")
    rng = torch.Generator().manual_seed(5)
    x, hint = torch.randn(1, 4, 8, 8, generator=rng), torch.rand(1, 3, 64, 64, generator=rng)
    words, tokens = torch.randn(1, 5, 32, generator=rng), torch.randn(1, 7, 512, generator=rng)
    with torch.no_grad():
        whole, part = [control.residuals(x, 500.0, words, tokens, hint, strength=s) for s in (1.0, 0.3)]
        other = control.residuals(x, 500.0, words, tokens, 1 - hint, strength=0.5)
    for place, (one, less, second, total) in enumerate(
        zip(whole, part, other, added([part, other]) or [], strict=True)
    ):
        torch.testing.assert_close(less, 0.3 * one, atol=1e-6, rtol=1e-5, msg=str(place))
        assert torch.equal(total, less + second)
    assert added([]) is None


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 0.01), ("float16", 0.001)])
def test_16_bit_is_near_float32(dtype, limit):
    """The last step divides by √ā = 0.068 and is taken in float32: the networks' error is all that is left."""
    exact, rounded = restored(tiny()), restored(tiny(dtype))
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).abs().mean()) < limit


def test_runs_leave_nothing_behind():
    """Counted is what the runs made: what was there before them is frozen, which spares looking through it each time."""
    engine = tiny(steps=2)

    def living() -> int:
        gc.collect()
        return sum(isinstance(thing, Tensor) for thing in gc.get_objects())

    restored(engine)
    gc.collect()
    gc.freeze()
    try:
        counts = []
        for seed in range(8):
            restore(engine, picture(), replace(REQUEST, seed=seed), Runtime())
            counts.append(living())
    finally:
        gc.unfreeze()
    assert len(set(counts)) == 1
