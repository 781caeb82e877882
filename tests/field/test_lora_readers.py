"""What is done with a LoRA's text encoders, ranks that differ and an alpha that is stated nowhere; and who says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.cli import main
from hypir_core.errors import ConfigError, WeightsError
from hypir_core.lora.file import lora_from_tensors, read_lora, write_lora
from hypir_core.lora.names import LoraForm, adaptable_modules
from hypir_core.models.sd.backbone import load_base
from hypir_core.weights.search.locate import locate_base
from tests.field.lora_samples import MODULES, UNET, kohya, plain
from train.generators.sd2_lora import Sd2LoraOptions, sd2_lora_on


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
