"""A LoRA's strength is read from wherever it is stated, for every naming and every module; or the file is refused."""

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

from hypir_core.cli import main
from hypir_core.errors import ConfigError, SpecMismatchError, WeightsError
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
from hypir_core.models.sd.backbone import load_base
from hypir_core.weights.ldm_names import ldm_names
from hypir_core.weights.search.locate import locate_base
from hypir_core.weights.spec import LoraSpec, spec_to_metadata
from train.generators.sd2_lora import Sd2LoraOptions, sd2_lora_on

UNET = Path(__file__).parents[1] / "golden" / "hypir" / "model" / "unet"

BLOCK = "down_blocks.0.attentions.0"
MODULES = {
    f"{BLOCK}.proj_in": (6, 5),
    f"{BLOCK}.transformer_blocks.0.attn1.to_q": (6, 6),
    f"{BLOCK}.transformer_blocks.0.attn2.to_k": (6, 7),
    f"{BLOCK}.transformer_blocks.0.attn1.to_out.0": (5, 6),
    f"{BLOCK}.transformer_blocks.0.ff.net.0.proj": (8, 6),
    "down_blocks.0.resnets.0.conv1": (6, 5, 3, 3),
    "down_blocks.0.downsamplers.0.conv": (6, 6, 3, 3),
    "up_blocks.0.resnets.0.conv_shortcut": (6, 5, 1, 1),
    "mid_block.resnets.0.conv2": (6, 6, 3, 3),
    "conv_out": (4, 6, 3, 3),
}
LDM = ldm_names(MODULES)

NAMINGS = {
    "original": ("{m}.lora_A.default.weight", "{m}.lora_B.default.weight", "{m}.alpha"),
    "other adapter": ("{m}.lora_A.style.weight", "{m}.lora_B.style.weight", "{m}.alpha"),
    "diffusers": ("unet.{m}.lora_A.weight", "unet.{m}.lora_B.weight", "unet.{m}.alpha"),
    "no prefix": ("{m}.lora_A.weight", "{m}.lora_B.weight", "{m}.alpha"),
    "peft": (
        "base_model.model.{m}.lora_A.weight",
        "base_model.model.{m}.lora_B.weight",
        "base_model.model.{m}.alpha",
    ),
    "diffusers 0.1x": ("unet.{m}.lora.down.weight", "unet.{m}.lora.up.weight", "unet.{m}.alpha"),
    "processors": ("unet.{p}.lora_linear_layer.down.weight", "unet.{p}.lora_linear_layer.up.weight", "unet.{p}.alpha"),
    "comfyui": ("{c}.lora_A.weight", "{c}.lora_B.weight", "{c}.alpha"),
    "ldm": ("diffusion_model.{l}.lora_down.weight", "diffusion_model.{l}.lora_up.weight", "diffusion_model.{l}.alpha"),
    "kohya": ("lora_unet_{k}.lora_down.weight", "lora_unet_{k}.lora_up.weight", "lora_unet_{k}.alpha"),
    "kohya ldm": ("lora_unet_{u}.lora_down.weight", "lora_unet_{u}.lora_up.weight", "lora_unet_{u}.alpha"),
}  # fmt: skip
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


def named(naming: str, module: str) -> tuple[str, str, str]:
    """Return the keys of down, up and alpha."""
    parent, _, last = module.removesuffix(".0").rpartition(".")
    old = f"{parent}.processor.{last}" if ".attn" in module else module
    names = {
        "m": module,
        "p": old,
        "c": old,
        "l": LDM[module],
        "k": module.replace(".", "_"),
        "u": LDM[module].replace(".", "_"),
    }
    down, up, alpha = (template.format(**names) for template in NAMINGS[naming])
    return down, up, alpha


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


# What is refused, by name.


def plain(rank: int = 2) -> dict[str, Tensor]:
    tensors = {}
    for module, weight in MODULES.items():
        keys = named("kohya", module)
        tensors |= dict(zip(keys, map(torch.ones, factor_shapes(weight, rank)), strict=False))
    return tensors


def adapter(**changes: object) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({"r": 2, "lora_alpha": 4, **changes})}


def kohya(**changes: str) -> dict[str, str]:
    return {"ss_network_dim": "2", "ss_network_alpha": "1", **changes}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (adapter(use_rslora=True), r"got rsLoRA \(use_rslora in lora_adapter_metadata"),
        (adapter(use_dora=True), "got DoRA"),
        (adapter(peft_type="LOHA"), "kind LOHA"),
        (adapter(peft_type="PeftType.ADALORA"), "kind ADALORA"),
        (adapter(init_lora_weights="pissa_niter_16"), "pissa_niter_16, which also changes the base model"),
        (adapter(lora_alpha=None), "got lora_alpha = None"),
        (adapter(lora_alpha="8"), "got lora_alpha = '8'"),
        (adapter(r=0), "got r = 0"),
        (adapter(alpha_pattern={"(": 2.0}), "alpha_pattern"),
        (adapter(rank_pattern={"conv1": "2"}), "rank_pattern"),
        (adapter(r=4), r"another rank in 10 \(.*4 stated, 2 found"),
        (adapter(rank_pattern={"conv1": 3}), r"another rank in 1 \(down_blocks.0.resnets.0.conv1"),
        ({"lora_adapter_metadata": "{"}, "not valid JSON"),
        ({"lora_adapter_metadata": "[1]"}, "JSON object"),
        (kohya(ss_network_dim="Dynamic", ss_network_alpha="Dynamic"), "'Dynamic'"),
        (kohya(ss_network_alpha="None"), "'None'"),
        (kohya(ss_network_alpha="nan"), "'nan'"),
        (kohya(ss_network_dim="32"), "ss_network_dim and ss_network_alpha, got another rank"),
        (kohya(ss_network_args='{"conv_dim": "8"}'), r"another rank in 4 \(.*8 stated, 2 found"),
        (kohya(ss_network_args='{"block_dims": "2,4"}'), "block_dims"),
        (kohya(ss_network_args='{"rs_lora": "True"}'), "got rsLoRA"),
        (kohya(ss_network_args="{"), "not valid JSON"),
    ],
)
def test_a_statement_that_cannot_be_followed_is_refused(metadata: dict[str, str], message: str):
    with pytest.raises(WeightsError, match=message) as caught:
        lora_from_tensors(plain(), metadata, MODULES, where="my.safetensors")
    assert str(caught.value).startswith("my.safetensors: ")
    assert "\n" not in str(caught.value)


STEM = "lora_unet_down_blocks_0_resnets_0_conv1"


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (f"{STEM}.dora_scale", "DoRA"),
        ("base_model.model.conv_out.lora_magnitude_vector.weight", "DoRA"),
        ("conv_out.lora_magnitude_vector", "DoRA"),
        (f"{STEM}.hada_w1_a", "LoHa"),
        (f"{STEM}.lokr_w2_b", "LoKr"),
        (f"{STEM}.lora_mid.weight", "LoCon with a Tucker core"),
        (f"{STEM}.oft_blocks", "OFT"),
        (f"{STEM}.on_input", "IA³"),
        (f"{STEM}.a1.weight", "GLoRA"),
        ("conv_out.lora_B.default.bias", "a LoRA with biases"),
        (f"{STEM}.diff_b", "whole differences of weights"),
    ],
)
def test_other_kinds_of_adapters_are_refused_by_name(key: str, kind: str):
    with pytest.raises(SpecMismatchError, match=f"expected a plain LoRA, got {kind} ") as caught:
        lora_from_tensors(plain() | {key: torch.ones(2)}, {}, MODULES, where="my.safetensors")
    assert key in str(caught.value)


def test_a_config_that_may_belong_to_several_files_is_not_guessed_about(tmp_path: Path):
    for name in ("a.safetensors", "b.safetensors"):
        save_file(plain(), tmp_path / name)
    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
    with pytest.raises(WeightsError, match=r"cannot tell whether adapter_config\.json"):
        read_lora(tmp_path / "a.safetensors", MODULES)
    save_file(plain(), tmp_path / "adapter_model.safetensors")
    assert read_lora(tmp_path / "adapter_model.safetensors", MODULES).scale == 2
    assert read_lora(tmp_path / "a.safetensors", MODULES).scale == 1


def test_our_own_file_is_read_whatever_lies_beside_it(tmp_path: Path):
    lora = lora_from_tensors(plain(), {}, MODULES, where="x")
    write_lora(
        tmp_path / "a.safetensors", replace(lora, spec=LoraSpec(rank=2, alpha=3), alpha=3.0), form=LoraForm.original
    )  # fmt: skip
    (tmp_path / "adapter_config.json").write_text("not JSON")
    assert read_lora(tmp_path / "a.safetensors", MODULES).scale == 1


# Text encoders.


@pytest.mark.parametrize(
    "prefix",
    [
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        "text_encoder.text_model.encoder.layers.0.mlp.fc1",
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
        "base_model.model.text_model.encoder.layers.0.mlp.fc1",
        "text_model.encoder.layers.0.mlp.fc1",
        "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1",
    ],
)
@pytest.mark.parametrize("kind", [("lora_A", "lora_B"), ("lora_down", "lora_up"), ("hada_w1_a", "hada_w1_b")])
def test_a_text_encoder_is_left_out_with_a_note(prefix: str, kind: tuple[str, str]):
    text = {f"{prefix}.{part}.weight": torch.full((2, 2), float("nan")) for part in kind}
    text[f"{prefix}.alpha"] = torch.tensor(1.0)
    lora = lora_from_tensors(plain() | text, kohya(), MODULES, where="x")
    assert lora.factors.keys() == MODULES.keys()
    assert len(lora.notes) == 1
    assert lora.notes[0].startswith(f"left out: keys of a text encoder, 3 ({prefix}")
    with pytest.raises(WeightsError, match="only one of a text encoder"):
        lora_from_tensors(text, {}, MODULES, where="x")


def test_a_scale_that_does_not_fit_the_number_format_is_not_folded_in():
    lora = lora_from_tensors({k: t.half() for k, t in plain().items()}, {}, MODULES, where="x")
    with pytest.raises(WeightsError, match=r"too large for the number format"):
        lora_to_tensors(replace(lora, alpha=1e6), LoraForm.original)
    tensors, _ = lora_to_tensors(replace(lora, alpha=1e6), LoraForm.kohya)
    assert lora_from_tensors(tensors, {}, MODULES, where="x").scale == 5e5


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


# Who else reads LoRAs.


@pytest.fixture
def of_mixed_ranks(tmp_path: Path) -> Path:
    """Return the golden LoRA with a smaller rank in one module, as a resized one has."""
    lora = read_lora(UNET.parents[1] / "lora.pth")
    down, up = lora.factors["conv_out"]
    resized = replace(lora, factors={**lora.factors, "conv_out": (down[:2], up[:, :2])})
    write_lora(tmp_path / "resized.safetensors", resized, form=LoraForm.original)
    return tmp_path / "resized.safetensors"


def test_training_goes_on_from_one_rank_only(of_mixed_ranks: Path):
    base = load_base(locate_base(UNET.parent))
    options = Sd2LoraOptions(lora=str(of_mixed_ranks))
    with pytest.raises(ConfigError, match=r"modules of the ranks 2, 4"):
        sd2_lora_on(base, options, base=None, device=torch.device("cpu"))


def test_the_command_line_says_what_was_assumed(
    of_mixed_ranks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(of_mixed_ranks), str(out), "--base", str(UNET.parent)]) == 0
    assert "note: the LoRA's alpha is not stated: alpha = rank is assumed" in capsys.readouterr().err
    assert read_lora(
        out, adaptable_modules(load_file(UNET / "diffusion_pytorch_model.safetensors"))
    ).ranks == (2, 4)
