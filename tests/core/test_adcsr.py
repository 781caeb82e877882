"""AdcSR on tiny random files in its authors' layout; that it agrees with their program is shown in tests/parity."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.cli import main
from hypir_core.errors import SpecMismatchError
from hypir_core.tiling.plan import TileWish
from tests.core.adcsr_files import adcsr_files

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    weights, decoder = adcsr_files(tmp_path_factory.mktemp("adcsr"))
    return {"weights": str(weights), "decoder": str(decoder)}


@pytest.fixture(scope="module")
def engine(given):
    return load_engine("adcsr", given, device=CPU, dtype="float32")


@pytest.fixture
def photo_01(golden):
    return load_file(golden / "hypir" / "case_3.safetensors")["restored"][..., :96, :80].float()


def test_it_enlarges_any_size_and_takes_the_colours_of_the_input(engine, photo_01):
    odd = photo_01[..., :45, :51]
    restored = restore(engine, odd, Request(), Runtime())
    assert restored.image_01.shape[-2:] == (180, 204)
    assert engine.spec.color_fix is ColorFix.adain
    assert (restored.image_01.mean((0, 2, 3)) - odd.mean((0, 2, 3))).abs().max() < 0.02
    assert "Apache-2.0" in str(restored.report)
    half = restore(engine, odd, Request(target=TargetSize(scale=2)), Runtime()).image_01
    assert half.shape[-2:] == (90, 102)


def test_a_picture_larger_than_a_tile_goes_in_tiles(engine, photo_01, monkeypatch):
    sizes = []
    forward = engine.net.forward
    monkeypatch.setattr(
        engine.net, "forward", lambda x: sizes.extend([tuple(x.shape[-2:])] * len(x)) or forward(x)
    )
    wish = TileWish(tile_px=256, overlap_px=128)
    restored = restore(engine, photo_01, Request(tile=wish), Runtime())
    assert restored.image_01.shape[-2:] == (384, 320)
    assert sizes == [(64, 64)] * 4  # sides that the network takes: multiples of 16


def test_the_command_runs_it_and_bfloat16_is_close(given, engine, photo_01, tmp_path):
    photo_01 = photo_01[..., :48, :32]
    pixels = (photo_01[0].movedim(0, -1) * 255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "in.png")
    command = ["restore", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--engine", "adcsr"]
    flags = ["--weights", given["weights"], "--decoder", given["decoder"], "--device", "cpu"]
    assert main([*command, *flags]) == 0
    with Image.open(tmp_path / "out.png") as made:
        assert made.size == (128, 192)
    quick = load_engine("adcsr", given, device=CPU, dtype="bfloat16")
    request = Request(color_fix=ColorFix.none)
    exact, rounded = (restore(one, photo_01, request, Runtime()).image_01 for one in (engine, quick))
    assert 0 < (exact - rounded).abs().mean() < 0.02


def test_wrong_files_are_told_apart(given, tmp_path):
    with pytest.raises(SpecMismatchError, match=r"expected the network of AdcSR \(net_params_200.pkl\)"):
        load_engine("adcsr", {**given, "weights": given["decoder"]}, device=CPU)
    with pytest.raises(SpecMismatchError, match=r"expected the light decoder of AdcSR"):
        load_engine("adcsr", {**given, "decoder": given["weights"]}, device=CPU)
    _, other = adcsr_files(tmp_path, decoder=(32, 32, 32, 128))
    with pytest.raises(SpecMismatchError, match=r"coarsest level has 256 channels.* got 128"):
        load_engine("adcsr", {**given, "decoder": str(other)}, device=CPU)
    content = torch.load(given["weights"], weights_only=True)
    content = {name: t for name, t in content.items() if "up_blocks.1.attentions.0" not in name}
    torch.save(content, tmp_path / "cut.pkl")
    with pytest.raises(SpecMismatchError, match=r"tensors do not fit, the first is up_blocks.1.attentions.0"):
        load_engine("adcsr", {**given, "weights": str(tmp_path / "cut.pkl")}, device=CPU)
