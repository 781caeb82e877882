"""A LoRA's strength is read from wherever it is stated, for every naming and every module, and kept by every tool."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from hypir_core.lora.convert import convert
from hypir_core.lora.file import (
    Lora,
    factor_shapes,
    lora_from_tensors,
    lora_to_tensors,
    read_lora,
    write_lora,
)
from hypir_core.lora.merge import merged_weights
from hypir_core.lora.names import TARGET_MODULES, LoraForm, adaptable_modules
from hypir_core.weights.spec import LoraSpec, spec_to_metadata
from tests.field.lora_samples import MODULES, NAMINGS, UNET, named, plain

PLACES = (
    "nowhere",
    "tensors",
    "some tensors",
    "spec",
    "metadata",
    "metadata with unet.",
    "beside",
    "kohya",
    "kohya with conv",
)


def is_large_convolution(module: str) -> bool:
    return MODULES[module][2:] not in {(), (1, 1)}


@dataclass(frozen=True)
class Case:
    """A LoRA file and what it means."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    beside: dict[str, object] | None
    factors: dict[str, tuple[Tensor, Tensor]]
    scales: dict[str, float]
    assumed: bool
    """Whether a module's alpha is stated nowhere."""


ALPHAS = st.sampled_from([0.25, 1.0, 1.5, 3.0, 8.0, 49.0])
RANKS = st.sampled_from([1, 2, 3, 4, 5])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    naming, place = draw(st.sampled_from(sorted(NAMINGS))), draw(st.sampled_from(PLACES))
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rank, alpha = draw(RANKS), draw(ALPHAS)
    conv_rank, conv_alpha = draw(RANKS), draw(ALPHAS)
    ranks, alphas = dict.fromkeys(MODULES, rank), dict.fromkeys(MODULES, alpha)
    if place.startswith("kohya"):
        if place.endswith("conv"):
            ranks |= {m: conv_rank for m in MODULES if is_large_convolution(m)}
            alphas |= {m: conv_alpha for m in MODULES if is_large_convolution(m)}
    elif draw(st.booleans()):
        odd = draw(st.sets(st.sampled_from(sorted(MODULES)), min_size=1, max_size=4))
        ranks |= {module: draw(RANKS) for module in sorted(odd)}
        alphas |= {module: draw(ALPHAS) for module in sorted(odd)}
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    tensors: dict[str, Tensor] = {}
    for module, weight in MODULES.items():
        down, up = (
            torch.randn(shape, generator=generator).to(dtype)
            for shape in factor_shapes(weight, ranks[module])
        )
        factors[module] = down, up
        down_key, up_key, _ = named(naming, module)
        tensors |= {down_key: down, up_key: up}
    metadata: dict[str, str] = {"ss_network_alpha": "7", "format": "pt"} if place == "tensors" else {}
    beside: dict[str, object] | None = None
    adapter: dict[str, object] = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": "gaussian",
        "rank_pattern": {m: r for m, r in ranks.items() if r != rank},
        "alpha_pattern": {m: a for m, a in alphas.items() if a != alpha},
        "target_modules": list(TARGET_MODULES),
    }
    if place in {"tensors", "some tensors"}:
        stated = sorted(MODULES) if place == "tensors" else sorted(MODULES)[: draw(st.integers(1, 9))]
        tensors |= {named(naming, m)[2]: torch.tensor(alphas[m]) for m in stated}
        alphas = {m: alphas[m] if m in stated else float(ranks[m]) for m in MODULES}
    elif place == "spec":
        spec_rank = draw(st.sampled_from(sorted(set(ranks.values()))))
        metadata = spec_to_metadata(LoraSpec(rank=spec_rank, alpha=alpha))
        alphas = {m: alpha / spec_rank * r for m, r in ranks.items()}
    elif place == "metadata":
        metadata = {"lora_adapter_metadata": json.dumps(adapter)}
    elif place == "metadata with unet.":
        text = {"text_encoder.r": 99, "text_encoder.lora_alpha": 99.0}
        metadata = {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in adapter.items()} | text)}
    elif place == "beside":
        beside = adapter
    elif place.startswith("kohya"):
        metadata = {"ss_network_dim": str(rank), "ss_network_alpha": str(alpha)}
        if place.endswith("conv"):
            args = {"conv_dim": str(conv_rank), "conv_alpha": str(conv_alpha)}
            metadata["ss_network_args"] = json.dumps(args)
    else:
        alphas = {m: float(r) for m, r in ranks.items()}
    scales = {m: alphas[m] / ranks[m] for m in MODULES}
    return Case(tensors, metadata, beside, factors, scales, place in {"nowhere", "some tensors"})


def read(case: Case) -> Lora:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "adapter_model.safetensors"
        save_file(case.tensors, path, case.metadata or None)
        if case.beside is not None:
            path.with_name("adapter_config.json").write_text(json.dumps(case.beside), encoding="utf-8")
        lora = read_lora(path, MODULES)
        # Without a memory map into a folder that is about to vanish.
        return replace(lora, factors={m: (a.clone(), b.clone()) for m, (a, b) in lora.factors.items()})


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        f"{m}.weight": torch.randn(s, generator=generator, dtype=torch.float64) for m, s in MODULES.items()
    }


def by_the_formula(
    factors: Mapping[str, tuple[Tensor, Tensor]], scales: Mapping[str, float], strength: float
) -> dict[str, Tensor]:
    """Compute W + strength · alpha / rank · B·A, in float64 and per kernel position."""
    out = {}
    for name, weight in weights().items():
        down, up = (f.double() for f in factors[name.removesuffix(".weight")])
        change = torch.einsum("or,ri...->oi...", up.reshape(up.shape[:2]), down)
        out[name] = weight + strength * scales[name.removesuffix(".weight")] * change
    return out


def merged(lora: Lora, strength: float) -> dict[str, Tensor]:
    return dict(merged_weights(weights(), lora, strength=strength))


def as_comfyui_does(tensors: Mapping[str, Tensor], strength: float) -> dict[str, Tensor]:
    """Do what ComfyUI's loader does with kohya's names: alpha / rank where there is an alpha, else 1."""
    out = {}
    for name, weight in weights().items():
        stem = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
        down, up = (tensors[f"{stem}.lora_{part}.weight"].double() for part in ("down", "up"))
        alpha = tensors.get(f"{stem}.alpha")
        scale = 1.0 if alpha is None else alpha.item() / down.shape[0]
        out[name] = weight + strength * scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    return out


def close(got: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float) -> None:
    torch.testing.assert_close(dict(got), dict(expected), atol=tolerance, rtol=tolerance)


@given(case=cases(), strength=st.sampled_from([1.0, 0.5, -1.0, 2.0]))
@settings(max_examples=300, deadline=None)
def test_the_merged_weight_is_the_formula_whatever_the_names_and_the_place(case: Case, strength: float):
    lora = read(case)
    close(merged(lora, strength), by_the_formula(case.factors, case.scales, strength), 1e-9)
    assert any("alpha = rank is assumed" in note for note in lora.notes) == case.assumed


@given(case=cases(), forms=st.lists(st.sampled_from(list(LoraForm)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_every_way_through_the_forms_keeps_the_effect(case: Case, forms: list[LoraForm]):
    lora = read(case)
    spec = lora.spec or LoraSpec(rank=lora.rank, alpha=lora.alpha)
    folds = any(not form.keeps_alpha for form in forms)
    rounding = {torch.float32: 1e-5, torch.float16: 3e-2, torch.bfloat16: 0.25}
    dtype = next(iter(case.factors.values()))[0].dtype
    for form in forms:
        tensors, metadata = lora_to_tensors(replace(lora, spec=spec), form)
        lora = lora_from_tensors(tensors, metadata, MODULES, where=form.value)
        assert (lora.form, lora.notes) == (form, ())
    expected = by_the_formula(case.factors, case.scales, 1.0)
    scale = max(1.0, *case.scales.values())
    close(merged(lora, 1.0), expected, rounding[dtype] * scale if folds else 1e-5 * scale)


@given(case=cases())
@settings(max_examples=150, deadline=None)
def test_comfyui_gets_the_same_strength(case: Case):
    tensors, _ = lora_to_tensors(read(case), LoraForm.kohya)
    expected = by_the_formula(case.factors, case.scales, 1.0)
    close(as_comfyui_does(tensors, 1.0), expected, 1e-5 * max(1.0, *case.scales.values()))


@pytest.mark.parametrize("form", LoraForm)
@pytest.mark.parametrize("alpha", [0.1, 1 / 3, 49.0])
def test_a_file_of_ours_with_any_alpha_is_read_again(form: LoraForm, alpha: float):
    lora = lora_from_tensors(plain(3), {}, MODULES, where="x")
    lora = replace(lora, alpha=alpha, spec=LoraSpec(rank=3, alpha=alpha))
    tensors, metadata = lora_to_tensors(lora, form)
    again = lora_from_tensors(tensors, metadata, MODULES, where="x")
    close(merged(again, 1.0), merged(lora, 1.0), 1e-6)


def test_files_that_convert_writes_keep_ranks_of_their_own(tmp_path: Path):
    tensors = plain(2) | {
        key: tensor
        for key, tensor in plain(5).items()
        if key.startswith(("lora_unet_conv_out", "lora_unet_mid"))
    }
    tensors["lora_unet_conv_out.alpha"] = torch.tensor(1.0)
    read_once = lora_from_tensors(tensors, {}, MODULES, where="x")
    write_lora(tmp_path / "k.safetensors", read_once, form=LoraForm.kohya)
    alphas = {k: t.item() for k, t in load_file(tmp_path / "k.safetensors").items() if k.endswith(".alpha")}
    assert len(alphas) == len(MODULES)
    assert alphas["lora_unet_conv_out.alpha"] == 1.0
    assert alphas["lora_unet_mid_block_resnets_0_conv2.alpha"] == 5.0
    assert read_lora(tmp_path / "k.safetensors", MODULES).notes == ()


# What the tools themselves write.

CONFIG = LoraConfig(
    r=4,
    lora_alpha=6,
    target_modules=list(TARGET_MODULES),
    rank_pattern={"conv1": 2, r"mid_block\..*to_q": 3},
    alpha_pattern={"to_k": 1.0, "down_blocks.0.resnets.0.conv1": 5},
    init_lora_weights=False,
)


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(3)
    loaded = UNet2DConditionModel.from_pretrained(UNET, torch_dtype=torch.float32)
    return loaded.eval().requires_grad_(False)


def matrices(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items() if tensor.ndim in {2, 4}}


def test_what_diffusers_saves_is_merged_as_diffusers_merges_it(unet: UNet2DConditionModel, tmp_path: Path):
    base = matrices(unet)
    unet.add_adapter(CONFIG)
    unet.save_lora_adapter(tmp_path)
    unet.fuse_lora()
    unet.unload_lora()
    expected = matrices(unet)
    lora = read_lora(tmp_path / "pytorch_lora_weights.safetensors", adaptable_modules(base))
    assert (lora.rank, lora.alpha, lora.ranks, lora.notes) == (4, 6.0, (2, 3, 4), ())
    assert lora.scale_of("down_blocks.0.resnets.0.conv1") == 5 / 2
    got = base | dict(merged_weights(base, lora))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("given_as", ["folder", "file", "renamed"])
def test_what_peft_saves_is_merged_as_peft_merges_it(
    unet: UNet2DConditionModel, tmp_path: Path, given_as: str
):
    base = matrices(unet)
    model = get_peft_model(unet, CONFIG)
    model.save_pretrained(str(tmp_path))
    expected = matrices(model.merge_and_unload())
    path = tmp_path if given_as == "folder" else tmp_path / "adapter_model.safetensors"
    if given_as == "renamed":
        path = path.rename(tmp_path / "mine.safetensors")
    lora = read_lora(path, adaptable_modules(base))
    assert (lora.rank, lora.alpha, lora.ranks, lora.notes) == (4, 6.0, (2, 3, 4), ())
    torch.testing.assert_close(base | dict(merged_weights(base, lora)), expected, atol=1e-5, rtol=1e-5)


def test_a_peft_folder_is_converted_with_its_strength(unet: UNet2DConditionModel, tmp_path: Path):
    base = matrices(unet)
    get_peft_model(unet, CONFIG).save_pretrained(str(tmp_path / "in"))
    done = convert(tmp_path / "in", tmp_path / "k.safetensors", to="kohya", base=UNET)
    assert done.notes == ()
    lora, again = (
        read_lora(p, adaptable_modules(base)) for p in (tmp_path / "in", tmp_path / "k.safetensors")
    )
    expected = dict(merged_weights(base, lora))
    torch.testing.assert_close(dict(merged_weights(base, again)), expected, atol=1e-6, rtol=1e-6)
