"""Transformer blocks that torch.compile made compute what plain ones do."""

from __future__ import annotations

import pytest
import torch

from hypir_core import Request, Runtime, load_engine, restore
from hypir_core.errors import ConfigError
from hypir_core.models.layers import compiled
from hypir_core.tiling.plan import TileWish


def load(golden, **options):
    given = {"lora": golden / "hypir" / "lora.pth", "base_model": str(golden / "hypir" / "model")}
    return load_engine("one-step", options=given | options, device=torch.device("cpu"), dtype="float32")


def test_a_picture_in_tiles_comes_out_the_same(golden, rng):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    picture = torch.rand(1, 3, 40, 56, generator=rng)
    request = Request(tile=TileWish(tile_px=128))
    plain = restore(load(golden), picture, request, Runtime())
    made = load(golden, compile=True)
    result = restore(made, picture, request, Runtime())
    assert (result.image_01 - plain.image_01).abs().max() < 2e-4
    counted = torch._dynamo.utils.counters
    assert counted["stats"]["unique_graphs"] > 0
    assert made.spec.settings["compile"] is True


@pytest.mark.parametrize(("device", "missing"), [("cpu", "C\\+\\+ compiler"), ("cuda", "triton")])
def test_what_is_missing_is_told_before_anything_is_loaded(golden, monkeypatch, device, missing):
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=f"compile needs .*{missing}.*leave out compile"):
        compiled.require_compiler(torch.device(device))
