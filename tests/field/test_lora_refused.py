"""LoRA files whose strength cannot be known or kept, and adapters of other kinds, are refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hypir_core.errors import SpecMismatchError, WeightsError
from hypir_core.lora.file import lora_from_tensors, lora_to_tensors, read_lora, write_lora
from hypir_core.lora.names import LoraForm
from hypir_core.weights.spec import LoraSpec
from tests.field.lora_samples import MODULES, kohya, plain


def adapter(**changes: object) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({"r": 2, "lora_alpha": 4, **changes})}


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


def test_a_scale_that_does_not_fit_the_number_format_is_not_folded_in():
    lora = lora_from_tensors({k: t.half() for k, t in plain().items()}, {}, MODULES, where="x")
    with pytest.raises(WeightsError, match=r"too large for the number format"):
        lora_to_tensors(replace(lora, alpha=1e6), LoraForm.original)
    tensors, _ = lora_to_tensors(replace(lora, alpha=1e6), LoraForm.kohya)
    assert lora_from_tensors(tensors, {}, MODULES, where="x").scale == 5e5
