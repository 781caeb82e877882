"""UNet names in both packagings; diffusers' own converter is the reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from hypir_core.errors import WeightsError
from hypir_core.models.sd.controlnet import empty_controlnet
from hypir_core.models.sd.sd21 import SD21_UNET
from hypir_core.weights.ldm_names import LDM_UNET_PREFIX, diffusers_names, ldm_controlnet_names, ldm_names

GOLDEN_CONFIG = json.loads(
    (Path(__file__).parents[1] / "golden/hypir/model/unet/config.json").read_text(encoding="utf-8")
)
SD15 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "layers_per_block": 2,
}
XL_LIKE = {
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": 8,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
    "use_linear_projection": True,
}
CONFIGS = {"sd21": SD21_UNET, "golden": GOLDEN_CONFIG, "sd15": SD15, "xl": XL_LIKE}


def parameter_names(config: dict) -> list[str]:
    with torch.device("meta"):
        return list(UNet2DConditionModel.from_config(dict(config)).state_dict())


@pytest.mark.parametrize("model", CONFIGS)
def test_diffusers_own_converter_finds_every_name_where_we_put_it(model: str):
    config = {"class_embed_type": None, "addition_embed_type": None, "layers_per_block": 2, **CONFIGS[model]}
    names = parameter_names(config)
    checkpoint = {LDM_UNET_PREFIX + ldm: name for name, ldm in ldm_names(names).items()}
    assert len(checkpoint) == len(names)
    converted = convert_ldm_unet_checkpoint(checkpoint, config)
    assert converted == {name: name for name in names}


@pytest.mark.parametrize("model", CONFIGS)
def test_the_two_directions_are_inverse(model: str):
    there = ldm_names(parameter_names(CONFIGS[model]))
    back = diffusers_names(there.values())
    assert {ldm: name for name, ldm in there.items()} == back


def test_module_names_are_mapped_like_their_tensors():
    tensors = parameter_names(SD21_UNET)
    modules = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    by_tensor = ldm_names(tensors)
    assert {f"{m}.weight": f"{ldm}.weight" for m, ldm in ldm_names(modules).items()} == {
        name: ldm for name, ldm in by_tensor.items() if name.endswith(".weight")
    }


@pytest.mark.parametrize(
    ("name", "ldm"),
    [
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"),
        ("up_blocks.2.upsamplers.0.conv", "output_blocks.8.2.conv"),
        ("down_blocks.1.resnets.0.conv_shortcut", "input_blocks.4.0.skip_connection"),
        ("up_blocks.3.attentions.2.proj_in", "output_blocks.11.1.proj_in"),
    ],
)
def test_known_places_in_sd21(name: str, ldm: str):
    names = parameter_names(SD21_UNET)
    assert ldm_names(names)[f"{name}.weight"] == f"{ldm}.weight"


@pytest.mark.parametrize("convert", [ldm_names, diffusers_names])
def test_a_foreign_name_is_named(convert):
    with pytest.raises(WeightsError, match=r"double_blocks\.0\.img_attn\.qkv\.weight: is not a"):
        convert(["double_blocks.0.img_attn.qkv.weight"])


def test_a_controlnets_names_become_those_of_the_original_release():
    names = [name for name, _ in empty_controlnet(SD21_UNET).named_parameters()]
    found = ldm_controlnet_names(names)
    assert len(set(found.values())) == len(names)
    assert found["controlnet_cond_embedding.conv_in.weight"] == "input_hint_block.0.weight"
    assert found["controlnet_cond_embedding.conv_out.bias"] == "input_hint_block.14.bias"
    assert found["controlnet_down_blocks.11.weight"] == "zero_convs.11.0.weight"
    assert found["controlnet_mid_block.bias"] == "middle_block_out.0.bias"
    assert found["down_blocks.1.attentions.0.proj_in.weight"] == "input_blocks.4.1.proj_in.weight"
    with pytest.raises(WeightsError, match="not a diffusers name"):
        ldm_controlnet_names(["controlnet_blocks.0.weight"])
