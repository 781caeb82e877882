"""A merged LoRA does what PEFT's unmerged one does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn

from hypir_core.errors import RangeError, SpecMismatchError
from hypir_core.lora.file import Lora, read_lora
from hypir_core.lora.merge import merge_lora_
from hypir_core.lora.names import TARGET_MODULES
from hypir_core.weights.spec import LoraSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "hypir"


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    loaded = UNet2DConditionModel.from_pretrained(
        GOLDEN / "model", subfolder="unet", torch_dtype=torch.float32
    )
    return loaded.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def lora() -> Lora:
    return read_lora(GOLDEN / "lora.pth")


def predict(unet: UNet2DConditionModel, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    latent, text = (torch.randn(shape, generator=generator) for shape in ((1, 4, 16, 8), (1, 77, 32)))
    with torch.no_grad():
        return unet(latent.to(dtype), torch.tensor(200), text.to(dtype)).sample.float()


def with_peft(unet: UNet2DConditionModel, alpha: float) -> UNet2DConditionModel:
    """Attach the golden LoRA as the original does: an unmerged PEFT adapter."""
    unet = copy.deepcopy(unet)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=alpha, target_modules=list(TARGET_MODULES)))
    weights = torch.load(GOLDEN / "lora.pth", weights_only=True)
    assert not unet.load_state_dict(weights, strict=False).unexpected_keys
    return unet.eval()


@pytest.mark.parametrize("alpha", [4.0, 1.0])
def test_merged_equals_unmerged_peft(unet, lora: Lora, alpha: float):
    expected = predict(with_peft(unet, alpha))
    merged = copy.deepcopy(unet)
    assert merge_lora_(merged, replace(lora, alpha=alpha)) == 164
    got = predict(merged)
    assert (got - expected).abs().max() <= 1e-5
    assert (got - predict(unet)).abs().mean() > 0.01  # and the LoRA matters


def test_strength_scales_the_change(unet, lora: Lora):
    half, quarter = copy.deepcopy(unet), copy.deepcopy(unet)
    merge_lora_(half, lora, strength=0.5)
    merge_lora_(quarter, replace(lora, alpha=1.0), strength=2.0)
    torch.testing.assert_close(half.state_dict(), quarter.state_dict())
    expected = unet.conv_out.weight + 0.5 * torch.einsum(
        "or,rihw->oihw", lora.factors["conv_out"][1][:, :, 0, 0], lora.factors["conv_out"][0]
    )
    torch.testing.assert_close(half.conv_out.weight, expected)


def test_strength_zero_is_the_base(unet, lora: Lora):
    merged = copy.deepcopy(unet)
    assert merge_lora_(merged, lora, strength=0.0) == 0
    assert all(torch.equal(a, b) for a, b in zip(merged.parameters(), unet.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_weights_are_rounded_once(unet, lora: Lora, dtype: torch.dtype):
    low = copy.deepcopy(unet).to(dtype)
    wide = copy.deepcopy(low).float()
    merge_lora_(low, lora)
    merge_lora_(wide, lora)
    assert all(torch.equal(a, b.to(dtype)) for a, b in zip(low.parameters(), wide.parameters(), strict=True))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(5, 7, 3, padding=1),
        nn.Conv2d(5, 7, 3, stride=2, padding=1),
        nn.Conv2d(5, 7, 3, stride=2, padding=0),
        nn.Conv2d(5, 7, 1),
        nn.Conv2d(5, 7, (3, 5), dilation=2, bias=False),
    ],
)
def test_a_convolution_of_any_geometry(conv: nn.Conv2d):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    down = torch.randn(3, 5, *conv.kernel_size, generator=generator)
    up = torch.randn(7, 3, 1, 1, generator=generator)
    image = torch.randn(2, 5, 11, 14, generator=generator)
    geometry = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    with torch.no_grad():
        low = nn.functional.conv2d(image, down, **geometry)
        expected = conv(image) + 6 / 3 * nn.functional.conv2d(low, up)
        merge_lora_(nn.ModuleDict({"conv": conv}), Lora(factors={"conv": (down, up)}, rank=3, alpha=6))
        torch.testing.assert_close(conv(image), expected, atol=1e-4, rtol=1e-5)


def spoilt(lora: Lora, kind: str) -> Lora:
    """Spoil the last module, so that a careless merge would have changed all others first."""
    factors = dict(lora.factors)
    last = list(factors)[-1]
    down, up = factors.pop(last)
    if kind == "shape":
        factors[last] = (down, up[:-1])
    elif kind == "unexpected":
        factors |= {last: (down, up), "conv_in": (down, up)}
    return replace(lora, factors=factors)


@pytest.mark.parametrize("kind", ["missing", "shape", "unexpected"])
def test_nothing_is_merged_when_something_does_not_fit(unet, lora: Lora, kind: str):
    merged = copy.deepcopy(unet)
    with pytest.raises(SpecMismatchError, match=r"lora\.pth: does not fit"):
        merge_lora_(merged, spoilt(lora, kind))
    assert all(torch.equal(a, b) for a, b in zip(merged.parameters(), unet.parameters(), strict=True))


def test_another_rank_than_the_factors_have_is_refused(unet, lora: Lora):
    with pytest.raises(SpecMismatchError, match="expected rank 8 in most modules, got 4"):
        merge_lora_(copy.deepcopy(unet), replace(lora, rank=8, spec=LoraSpec(rank=8, alpha=8)))


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(unet, lora: Lora, strength: float):
    with pytest.raises(RangeError, match="strength"):
        merge_lora_(copy.deepcopy(unet), lora, strength=strength)
