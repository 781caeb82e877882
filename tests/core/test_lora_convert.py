"""Rewriting a LoRA under other names, and merging it into its base model."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from hypir_core.errors import (
    ConfigError,
    UnknownNameError,
    WeightsError,
    WeightsNotFoundError,
)
from hypir_core.lora.convert import MERGED_KEY, TARGETS, convert
from hypir_core.lora.file import factor_shapes
from hypir_core.lora.names import LoraForm, adaptable_modules, adapted_modules
from hypir_core.models.sd.sd21 import sd21_module_shapes
from hypir_core.weights.ldm_names import LDM_UNET_PREFIX, ldm_names
from hypir_core.weights.spec import NOT_STATED, LoraSpec
from hypir_core.weights.tensors import read_tensors, write_tensors

GOLDEN = Path(__file__).parents[1] / "golden" / "hypir"
LORA = GOLDEN / "lora.pth"
UNET = GOLDEN / "model" / "unet"
FORMS = [form.value for form in LoraForm]


@pytest.fixture(scope="module")
def base() -> dict[str, Tensor]:
    return load_file(UNET / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def modules(base: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return adaptable_modules(base)


@pytest.fixture(scope="module")
def raw() -> dict[str, Tensor]:
    return torch.load(LORA, weights_only=True)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_a_walk_through_all_forms_changes_no_bit(tmp_path: Path, raw: dict[str, Tensor]):
    steps = ["kohya", "diffusers", "comfyui", "original", "diffusers", "kohya"]
    path = LORA
    for index, form in enumerate(steps):
        out = tmp_path / f"{index}.safetensors"
        convert(path, out, to=form, base=GOLDEN / "model")
        path = out
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "5.safetensors").read_bytes()
    result = convert(path, tmp_path / "back.pth", to="original", base=UNET)
    assert equal(torch.load(tmp_path / "back.pth", weights_only=True), raw)
    assert (result.modules, result.rank, result.spec.base_model) == (164, 4, NOT_STATED)


def test_a_full_size_lora_needs_no_base(tmp_path: Path):
    shapes = adapted_modules(sd21_module_shapes())
    generator = torch.Generator().manual_seed(1)
    tensors = {
        f"{module}.lora_{letter}.default.weight": torch.randn(shape, generator=generator)
        for module, weight in shapes.items()
        for letter, shape in zip("AB", factor_shapes(weight, 1), strict=True)
    }
    torch.save(tensors, tmp_path / "in.pth")
    result = convert(
        tmp_path / "in.pth", tmp_path / "k.safetensors", to="kohya", published=sd21_module_shapes()
    )
    assert (result.modules, result.rank) == (257, 1)
    assert result.spec == LoraSpec(rank=1, alpha=1)
    convert(tmp_path / "k.safetensors", tmp_path / "out.pth", to="original", published=sd21_module_shapes())
    assert equal(torch.load(tmp_path / "out.pth", weights_only=True), tensors)


def test_lora_in_half_precision(tmp_path: Path, raw: dict[str, Tensor]):
    convert(LORA, tmp_path / "a.safetensors", to="original", base=UNET, dtype=torch.bfloat16)
    assert equal(load_file(tmp_path / "a.safetensors"), {name: t.bfloat16() for name, t in raw.items()})


@pytest.mark.parametrize(("strength", "as_mapping"), [(1.0, False), (0.5, True)])
def test_merged_unet_equals_the_formula_in_double(
    tmp_path: Path, base: dict[str, Tensor], raw: dict[str, Tensor], strength: float, as_mapping: bool
):
    out = tmp_path / "m.safetensors"
    given = base if as_mapping else GOLDEN / "model"
    convert(LORA, out, to="merged", base=given, dtype=torch.float32, strength=strength)
    merged = load_file(out)
    assert merged.keys() == base.keys()
    for name, tensor in merged.items():
        module = name.removesuffix(".weight")
        expected = base[name].double()
        if f"{module}.lora_A.default.weight" in raw:
            down, up = (raw[f"{module}.lora_{part}.default.weight"].double() for part in "AB")
            product = torch.einsum("or,r...->o...", up.flatten(1), down)
            expected = expected + strength * product
        torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=1e-6)
    note = json.loads(read_tensors(out).metadata[MERGED_KEY])
    assert (note["strength"], note["spec"]["rank"]) == (strength, 4)


def test_merged_file_defaults_to_float16_and_loads_in_diffusers(tmp_path: Path, base: dict[str, Tensor]):
    out = tmp_path / "diffusion_pytorch_model.safetensors"
    convert(LORA, out, to="merged", base=UNET)
    (tmp_path / "config.json").write_bytes((UNET / "config.json").read_bytes())
    unet = UNet2DConditionModel.from_pretrained(tmp_path)
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float16}
    assert not torch.equal(unet.conv_out.weight.half(), base["conv_out.weight"].half())
    assert torch.equal(unet.conv_in.weight.half(), base["conv_in.weight"].half())


@pytest.mark.parametrize("prefix", [LDM_UNET_PREFIX, "diffusion_model.", ""])
def test_a_single_file_base_gives_a_single_file(tmp_path: Path, base: dict[str, Tensor], prefix: str):
    names = {name: prefix + ldm for name, ldm in ldm_names(base).items()}
    rest = {
        "first_stage_model.decoder.conv_in.weight": torch.randn(2, 2),
        "cond_stage_model.model.positional_embedding": torch.randn(3),
        "cond_stage_model.model.ids": torch.arange(77),
        "alphas_cumprod": torch.linspace(1, 0, 1000),
        "model_ema.diffusion_modelout2weight": torch.zeros(1),
    }
    rest = rest if prefix == LDM_UNET_PREFIX else {}
    write_tensors(tmp_path / "sd.safetensors", {names[name]: base[name] for name in base} | rest, {})
    convert(
        LORA, tmp_path / "m.safetensors", to="merged", base=tmp_path / "sd.safetensors", dtype=torch.bfloat16
    )
    convert(LORA, tmp_path / "d.safetensors", to="merged", base=UNET, dtype=torch.bfloat16)
    plain = load_file(tmp_path / "d.safetensors")
    expected = {names[name]: plain[name] for name in plain}
    expected |= {
        name: tensor.bfloat16() if "stage_model" in name and tensor.is_floating_point() else tensor
        for name, tensor in rest.items()
        if not name.startswith("model_ema")
    }
    assert equal(load_file(tmp_path / "m.safetensors"), expected)


def test_numbers_too_large_for_the_format_are_not_written(tmp_path: Path, base: dict[str, Tensor]):
    large = base | {"conv_out.weight": base["conv_out.weight"].float() + 1e5}
    with pytest.raises(WeightsError, match=r"too large for torch\.float16 in 1 \(conv_out\.weight\)"):
        convert(LORA, tmp_path / "m.safetensors", to="merged", base=large)
    assert not list(tmp_path.iterdir())


def test_requests_that_make_no_sense(tmp_path: Path):
    out = tmp_path / "a.safetensors"
    with pytest.raises(UnknownNameError, match="kohya"):
        convert(LORA, out, to="koyha")
    with pytest.raises(ConfigError, match="needs the base model"):
        convert(LORA, out, to="merged")
    with pytest.raises(ConfigError, match="give the base model, or the modules"):
        convert(LORA, out, to="kohya")
    with pytest.raises(ConfigError, match=r"ending in \.safetensors"):
        convert(LORA, tmp_path / "a.pth", to="kohya")
    with pytest.raises(ConfigError, match="strength"):
        convert(LORA, out, to="kohya", strength=0.5)
    with pytest.raises(ConfigError, match="int8"):
        convert(LORA, out, to="kohya", dtype=torch.int8)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked_and_the_input_never(tmp_path: Path):
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="exists already"):
        convert(LORA, out, to="diffusers", base=UNET)
    assert out.read_bytes() == b"mine"
    convert(LORA, out, to="diffusers", base=UNET, force=True)
    before = out.read_bytes()
    with pytest.raises(ConfigError, match="is read by this conversion"):
        convert(out, tmp_path / "." / "a.safetensors", to="kohya", base=UNET, force=True)
    assert out.read_bytes() == before


def test_a_base_that_is_none(tmp_path: Path, base: dict[str, Tensor]):
    with pytest.raises(WeightsNotFoundError, match="found none"):
        convert(LORA, tmp_path / "a.safetensors", to="merged", base=tmp_path)
    with pytest.raises(WeightsError, match="expected a Stable Diffusion UNet"):
        convert(LORA, tmp_path / "a.safetensors", to="merged", base=LORA)
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", 500) + b'{"conv_in')
    with pytest.raises(WeightsError, match=r"b\.safetensors: .*truncated"):
        convert(LORA, tmp_path / "a.safetensors", to="merged", base=tmp_path / "b.safetensors")


def test_targets_are_the_forms_and_merged():
    assert set(TARGETS) == {*FORMS, "merged"} >= {"kohya", "diffusers", "original"}
