"""LoRA files in every naming, on the original implementation's own file and its tiny UNet."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from hypir_core.errors import (
    ConfigError,
    SpecMismatchError,
    WeightsError,
)
from hypir_core.lora.file import Lora, check_lora, factor_shapes, lora_from_tensors, read_lora, write_lora
from hypir_core.lora.names import TARGET_MODULES, LoraForm, adaptable_modules, adapted_modules, parse_keys
from hypir_core.models.sd.sd21 import sd21_module_shapes
from hypir_core.weights.ldm_names import ldm_names
from hypir_core.weights.spec import LoraSpec, spec_to_metadata
from hypir_core.weights.tensors import read_tensors

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


# The list of adapted modules.


def test_sd21_has_the_257_modules_of_the_published_lora():
    found = adapted_modules(sd21_module_shapes())
    numbers = [torch.Size(shape).numel() for weight in found.values() for shape in factor_shapes(weight, 256)]
    assert (len(found), len(numbers), sum(numbers)) == (257, 514, 259_474_432)


def test_sd21_counts_per_target():
    found = adapted_modules(sd21_module_shapes())
    counts = {t: sum(1 for name in found if name == t or name.endswith(f".{t}")) for t in TARGET_MODULES}
    attention = dict.fromkeys(("to_q", "to_k", "to_v", "to_out.0"), 32)
    convolutions = {"conv1": 22, "conv2": 22, "conv_shortcut": 14, "conv": 6, "conv_out": 1}
    linear = dict.fromkeys(("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"), 16)
    assert counts == attention | convolutions | linear
    assert not {"conv_in", "time_embedding.linear_1"} & found.keys()


def test_the_rule_is_pefts_own(modules: dict[str, tuple[int, ...]], raw: dict[str, Tensor]):
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(UNET))
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=list(TARGET_MODULES)))
    adapter = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items() if "lora" in name}
    expected = {
        f"{module}.lora_{letter}.default.weight": shape
        for module, weight in adapted_modules(modules).items()
        for letter, shape in zip("AB", factor_shapes(weight, 4), strict=True)
    }
    assert adapter == expected == {name: tuple(tensor.shape) for name, tensor in raw.items()}


# Reading and writing.


def test_the_original_file_is_read(modules: dict[str, tuple[int, ...]], raw: dict[str, Tensor]):
    lora = read_lora(LORA, modules)
    assert (lora.rank, lora.alpha, lora.scale, lora.spec) == (4, 4.0, 1.0, None)
    assert (lora.form, lora.path) == (LoraForm.original, LORA)
    for module, (down, up) in lora.factors.items():
        assert torch.equal(down, raw[f"{module}.lora_A.default.weight"])
        assert torch.equal(up, raw[f"{module}.lora_B.default.weight"])


@pytest.mark.parametrize("form", LoraForm)
def test_every_form_survives_writing_and_reading(
    tmp_path: Path, modules, raw: dict[str, Tensor], form: LoraForm
):
    spec = LoraSpec(rank=4, alpha=4, licence="CC0-1.0", trained_with="test")
    write_lora(tmp_path / "a.safetensors", replace(read_lora(LORA, modules), spec=spec), form=form)
    lora = read_lora(tmp_path / "a.safetensors", modules)
    assert (lora.spec, lora.form, len(load_file(tmp_path / "a.safetensors"))) == (spec, form, len(raw))
    write_lora(tmp_path / "b.pth", lora, form=LoraForm.original)
    assert equal(torch.load(tmp_path / "b.pth", weights_only=True), raw)


def test_diffusers_reads_our_kohya_file_as_the_original_one(tmp_path: Path, modules, raw: dict[str, Tensor]):
    write_lora(tmp_path / "a.safetensors", read_lora(LORA, modules), form=LoraForm.kohya)
    converted, _ = _convert_non_diffusers_lora_to_diffusers(load_file(tmp_path / "a.safetensors"))
    # diffusers 0.35 splits this name in two
    converted = {name.replace(".conv.out.", ".conv_out."): tensor for name, tensor in converted.items()}
    assert equal(converted, {old_diffusers_name(name): tensor for name, tensor in raw.items()})
    back = lora_from_tensors(converted, {}, modules, where="diffusers")
    assert all(
        torch.equal(up, raw[f"{module}.lora_B.default.weight"]) for module, (_, up) in back.factors.items()
    )


def old_diffusers_name(name: str) -> str:
    name = re.sub(r"(attn\d)\.(to_\w+)(?:\.0)?\.lora", r"\1.processor.\2_lora", name)
    return "unet." + name.replace("lora_A.default", "lora.down").replace("lora_B.default", "lora.up")


def test_diffusers_loads_our_diffusers_file(tmp_path: Path, modules, raw: dict[str, Tensor]):
    write_lora(tmp_path / "a.safetensors", read_lora(LORA, modules), form=LoraForm.diffusers)
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(UNET))
    unet.load_lora_adapter(load_file(tmp_path / "a.safetensors"), prefix="unet", adapter_name="default")
    assert equal({name: tensor for name, tensor in unet.state_dict().items() if "lora" in name}, raw)


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("{m}.lora_A.weight", "{m}.lora_B.weight"),
        ("{m}.lora_A.hypir.weight", "{m}.lora_B.hypir.weight"),
        ("base_model.model.{m}.lora_A.weight", "base_model.model.{m}.lora_B.weight"),
        ("unet.{m}.lora.down.weight", "unet.{m}.lora.up.weight"),
        ("{p}_lora.down.weight", "{p}_lora.up.weight"),
        ("unet.{p}.lora_linear_layer.down.weight", "unet.{p}.lora_linear_layer.up.weight"),
        ("unet.{p}.lora_A.weight", "unet.{p}.lora_B.weight"),
        ("diffusion_model.{l}.lora_down.weight", "diffusion_model.{l}.lora_up.weight"),
        ("model.diffusion_model.{l}.lora_A.weight", "model.diffusion_model.{l}.lora_B.weight"),
        ("lora_unet_{u}.lora_down.weight", "lora_unet_{u}.lora_up.weight"),
    ],
)
def test_names_found_in_the_wild(modules, down: str, up: str):
    """{m} module, {p} with the old attention processors, {l} ldm, {u} ldm with underscores."""
    lora = read_lora(LORA, modules)
    ldm = ldm_names(modules)
    tensors = {}
    for module, pair in lora.factors.items():
        parent, _, last = module.removesuffix(".0").rpartition(".")
        old = f"{parent}.processor.{last}" if ".attn" in module else module
        names = {"m": module, "p": old, "l": ldm[module], "u": ldm[module].replace(".", "_")}
        tensors |= {down.format(**names): pair[0], up.format(**names): pair[1]}
    read = lora_from_tensors(tensors, {}, modules, where="wild")
    assert read.factors.keys() == lora.factors.keys()
    assert all(
        torch.equal(a, b) for m in lora.factors for a, b in zip(read.factors[m], lora.factors[m], strict=True)
    )


def test_underscore_names_need_the_modules(tmp_path: Path, modules):
    write_lora(tmp_path / "a.safetensors", read_lora(LORA, modules), form=LoraForm.kohya)
    with pytest.raises(WeightsError, match="underscore names"):
        read_lora(tmp_path / "a.safetensors")
    assert len(read_lora(LORA).factors) == 164  # dotted names stand on their own


def test_only_the_original_form_may_be_a_pth(tmp_path: Path, modules):
    with pytest.raises(ConfigError, match=r"\.safetensors"):
        write_lora(tmp_path / "a.pth", read_lora(LORA, modules), form=LoraForm.kohya)


# Alpha.


def with_alpha(modules, alpha: float) -> Lora:
    return replace(read_lora(LORA, modules), alpha=alpha)


@pytest.mark.parametrize("form", LoraForm)
def test_every_form_keeps_the_effect_of_alpha(tmp_path: Path, modules, form: LoraForm):
    lora = with_alpha(modules, 1.5)
    write_lora(tmp_path / "a.safetensors", lora, form=form)
    read = read_lora(tmp_path / "a.safetensors", modules)
    assert read.alpha == (1.5 if form in {LoraForm.kohya, LoraForm.comfyui} else 4.0)
    for module, (down, up) in lora.factors.items():
        got_down, got_up = read.factors[module]
        torch.testing.assert_close(
            read.scale * got_up.flatten(1) @ got_down.flatten(1), 1.5 / 4 * up.flatten(1) @ down.flatten(1)
        )


def test_alpha_tensors_are_written_only_where_they_say_something(tmp_path: Path, modules):
    write_lora(tmp_path / "a.safetensors", with_alpha(modules, 4.0), form=LoraForm.kohya)
    assert not [name for name in load_file(tmp_path / "a.safetensors") if name.endswith(".alpha")]
    write_lora(tmp_path / "a.safetensors", with_alpha(modules, 2.0), form=LoraForm.kohya)
    alphas = [t for name, t in load_file(tmp_path / "a.safetensors").items() if name.endswith(".alpha")]
    assert len(alphas) == 164
    assert {float(alpha) for alpha in alphas} == {2.0}


def test_alpha_of_the_spec_holds_for_a_file_without_alpha_tensors(modules, raw: dict[str, Tensor]):
    spec = LoraSpec(rank=4, alpha=8)
    assert lora_from_tensors(raw, spec_to_metadata(spec), modules, where="x").scale == 2.0


@pytest.mark.parametrize("alpha", [torch.tensor(0.0), torch.tensor(-1.0), torch.ones(2)])
def test_odd_alphas_are_refused(modules, raw: dict[str, Tensor], alpha: Tensor):
    with pytest.raises(SpecMismatchError, match=r"not one positive number: 1 \(conv_out"):
        lora_from_tensors(raw | {"conv_out.alpha": alpha}, {}, modules, where="x")


# What does not fit.

DOWN = "down_blocks.0.resnets.0.conv1.lora_A.default.weight"
UP = "mid_block.attentions.0.proj_in.lora_B.default.weight"


def without(*names: str):
    return lambda raw: {name: tensor for name, tensor in raw.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("mid_block.resnets"), r"missing modules: 4 \(mid_block\.resnets\.0\.conv1, "),
        (without(DOWN), r"modules without down: 1 \(down_blocks\.0\.resnets\.0\.conv1\)"),
        (without(UP), r"modules without up: 1 \(mid_block\.attentions\.0\.proj_in\)"),
        (lambda r: r | {"conv_in.bias": torch.ones(1)}, r"not LoRA keys: 1 \(conv_in\.bias\)"),
        (
            lambda r: {"lora_te_x.lora_up.weight": torch.ones(2, 4)},
            r"only one of a text encoder: 1 \(lora_te_x",
        ),
        (lambda r: r | {f"unet.{DOWN}": r[DOWN].clone()}, r"keys given twice: 1 \(unet\.down_blocks"),
        (
            lambda r: (
                r
                | {
                    "conv_in.lora_A.x.weight": torch.ones(4, 4, 3, 3),
                    "conv_in.lora_B.x.weight": torch.ones(16, 4, 1, 1),
                }
            ),
            r"unexpected modules: 1 \(conv_in\)",
        ),
        (
            lambda r: {n: (t if n != DOWN else t[:2]) for n, t in r.items()},
            r"do not fit each other.*1 \(down_blocks\.0\.resnets\.0\.conv1: 2×16×3×3 and 16×4×1×1\)",
        ),
        (
            lambda r: {n: (t if n != UP else t.T) for n, t in r.items()},
            r"1 \(mid_block\.attentions\.0\.proj_in",
        ),
        (
            lambda r: {n: (t if n != UP else t[:8]) for n, t in r.items()},
            r"got 4×32 and 8×4\); expected 164 modules",
        ),
        (lambda r: {n: t.to(torch.int8) for n, t in r.items()}, "number format: 164"),
        (
            lambda r: {n: (t if n != UP else t * float("nan")) for n, t in r.items()},
            r"NaN or infinity in 1 \(mid_block",
        ),
        (lambda r: {"a.weight": torch.ones(2)}, "expected a LoRA"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(
    tmp_path: Path, modules, raw: dict[str, Tensor], change, message: str
):
    path = tmp_path / "bad.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(dict(raw)).items()}, path)
    with pytest.raises(WeightsError, match=message) as caught:
        read_lora(path, modules)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_foreign_architecture_lists_both_sides_and_counts():
    with pytest.raises(SpecMismatchError, match="made for another base model") as caught:
        read_lora(LORA, sd21_module_shapes())
    message = str(caught.value)
    assert "missing modules: 93 (" in message
    assert (
        "wrong shape: 164 (down_blocks.0.attentions.0.proj_in: expected 4×320 and 320×4, got 4×16 and 16×4"
        in message
    )
    assert message.count("expected 4×") == 8


def test_the_spec_must_agree_with_the_tensors(tmp_path: Path, modules, raw: dict[str, Tensor]):
    lora = read_lora(LORA, modules)
    write_lora(
        tmp_path / "a.safetensors", replace(lora, spec=LoraSpec(rank=4, alpha=4)), form=LoraForm.original
    )
    file = read_tensors(tmp_path / "a.safetensors")
    wrong = {"hypir.spec": file.metadata["hypir.spec"].replace('"rank": 4', '"rank": 8')}
    with pytest.raises(
        SpecMismatchError, match=r"expected rank 8, stated by its own hypir\.spec, got 1 \(4\) in 164"
    ):
        lora_from_tensors(file.tensors, wrong, modules, where="x")
    generator = {"hypir.spec": file.metadata["hypir.spec"].replace('"kind": "lora"', '"kind": "generator"')}
    with pytest.raises(WeightsError, match=r"x: hypir\.spec"):
        lora_from_tensors(file.tensors, generator, modules, where="x")


def test_a_spec_with_other_targets_moves_the_expectation(modules, raw: dict[str, Tensor]):
    attention = {name: tensor for name, tensor in raw.items() if ".to_" in name}
    lora = lora_from_tensors(attention, {}, where="x")
    narrow = replace(
        lora, spec=LoraSpec(rank=4, alpha=4, target_modules=("to_q", "to_k", "to_v", "to_out.0"))
    )
    check_lora(narrow, modules, where="x")
    with pytest.raises(SpecMismatchError, match="missing modules"):
        check_lora(lora, modules, where="x")


def test_a_truncated_file_is_refused(tmp_path: Path, modules):
    path = tmp_path / "cut.pth"
    path.write_bytes(LORA.read_bytes()[:200_000])
    with pytest.raises(WeightsError, match=r"cut\.pth: .*truncated"):
        read_lora(path, modules)


def test_keys_of_other_kinds_are_not_understood():
    keys = ["a.lora_A.weight", "a.weight", "a.dora_scale", "a.hada_w1_a", "a.lora_mid.weight", "a.alpha"]
    understood = parse_keys(keys)
    assert [key for key in keys if understood[key] is None] == [
        "a.weight",
        "a.dora_scale",
        "a.hada_w1_a",
        "a.lora_mid.weight",
    ]
