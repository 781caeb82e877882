"""The one-step family: what the authors' own programs returned (tests/golden/one_step/README.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.tiling.plan import TileWish
from tests.core import one_step_files as files
from tests.core.adcsr_files import adcsr_files

pytestmark = pytest.mark.parity

STRIDE = 3
SMALL_TILES = TileWish(tile_px=128, overlap_px=64)

CASES = (
    ("osediff", "whole", (128, 128), {}, {}),
    ("osediff", "words", (128, 136), {}, {"prompt": "the cat, coffee,"}),
    ("osediff", "tiled", (192, 160), {}, {"tile": SMALL_TILES}),
    ("pisa_sr", "default", (128, 128), {}, {}),
    ("pisa_sr", "sliders", (128, 128), {"fidelity": 0.6, "detail": 1.3}, {}),
    ("pisa_sr", "no_detail", (128, 128), {"detail": 0.0}, {}),
    ("pisa_sr", "tiled", (192, 160), {"fidelity": 0.8, "detail": 0.5}, {"tile": SMALL_TILES}),
    ("omgsr_s", "whole", (128, 128), {}, {}),
    ("omgsr_s", "tiled", (192, 160), {}, {"tile": SMALL_TILES}),
    (
        "gdpo_sr",
        "merged",
        (128, 128),
        {"recipe": "gdpo_sr"},
        {"prompt": "the cat, clean, high-resolution, 8k,"},
    ),
    ("gdpo_sr", "naosd", (128, 128), {}, {"prompt": " "}),
    ("s3diff", "whole", (128, 128), {}, {}),
    ("s3diff", "tiled", (192, 160), {}, {"tile": SMALL_TILES}),
)


class Given:
    """The noise that the authors' program was given."""

    def __init__(self, noise: torch.Tensor):
        self.noise = noise

    def like(self, canvas: torch.Tensor, draw: int) -> torch.Tensor:
        """See `NoiseSource`."""
        assert draw == 0
        return self.noise.expand_as(canvas)


def file_of(family: str, case: str, folder):
    """Write the tiny restorer of a case and return it."""
    if case == "naosd":
        return files.naosd(folder / "naosd.pkl")
    if family == "s3diff":
        return files.s3diff(folder)[0]
    if family in ("omgsr_s", "gdpo_sr"):
        return getattr(files, family)(folder / "restorer")
    return getattr(files, family)(folder / f"{family}.pkl")


@pytest.mark.parametrize(
    ("family", "case", "size", "options", "wishes"), CASES, ids=lambda value: str(value)[:12]
)
def test_reference_mode_agrees_with_the_authors(golden, tmp_path, family, case, size, options, wishes):
    numbers = load_file(golden / "one_step" / f"{family}.safetensors")
    photo = load_file(golden / "hypir" / "case_3.safetensors")["restored"]
    lq = (photo[..., : size[0], : size[1]] * 255).round() / 255
    given = {
        "lora": file_of(family, case, tmp_path),
        "base_model": str(golden / "hypir" / "model"),
        "reference_mode": True,
        "tagger": "off",
    }
    engine = load_engine("one-step", options=given | options, device=torch.device("cpu"), dtype="float32")
    if "noise" in numbers:
        engine = replace(engine, noise=lambda _seed: Given(numbers["noise"]))
    request = Request(target=TargetSize(scale=1), color_fix=ColorFix.none, **wishes)
    restored = restore(engine, lq, request, Runtime()).image_01[0, :, ::STRIDE, ::STRIDE]
    expected = numbers[case].float() / 65535
    difference = (restored - expected).abs()
    assert restored.shape == expected.shape
    assert difference.max() <= 2e-4, f"max {difference.max():.2e}, mean {difference.mean():.2e}"
    print(f"{family} {case}: max {difference.max():.2e}, mean {difference.mean():.2e}")


@pytest.mark.parametrize(("case", "size"), [("square", (32, 32)), ("wide", (48, 80))])
def test_adcsr_agrees_with_its_authors(golden, tmp_path, case, size):
    """Without the colours of the input, which they take with a rule of their own for small pictures."""
    weights, decoder = adcsr_files(tmp_path)
    given = {"weights": weights, "decoder": decoder}
    engine = load_engine("adcsr", options=given, device=torch.device("cpu"), dtype="float32")
    photo = load_file(golden / "hypir" / "case_3.safetensors")["restored"]
    lq = (photo[..., : size[0], : size[1]] * 255).round() / 255
    restored = restore(engine, lq, Request(color_fix=ColorFix.none), Runtime()).image_01
    expected = load_file(golden / "one_step" / "adcsr.safetensors")[case].float() / 65535
    difference = (restored[0, :, ::STRIDE, ::STRIDE] - expected).abs()
    assert difference.max() <= 2e-4, f"max {difference.max():.2e}, mean {difference.mean():.2e}"
    print(f"adcsr {case}: max {difference.max():.2e}, mean {difference.mean():.2e}")
