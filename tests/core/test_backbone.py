"""Loading the base model from every packaging, and refusing the wrong one."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hypir_core.errors import SpecMismatchError, WeightsError, WeightsNotFoundError
from hypir_core.models.sd import backbone as backbone_module
from hypir_core.models.sd.backbone import V_MARK, load_base, require_prediction
from hypir_core.models.sd.fold import fold_timestep_
from hypir_core.models.sd.prompt import encode_prompt, find_tokenizer, tokenize, truncation_note
from hypir_core.models.sd.random_sd21 import random_backbone, random_lora_
from hypir_core.weights.ldm_names import ldm_names
from hypir_core.weights.search.base_files import BaseFiles, Packaging
from hypir_core.weights.search.base_layout import read_base
from hypir_core.weights.spec import Prediction
from tests.core.reference_models import read_text_encoder


@pytest.fixture(scope="session")
def model(golden):
    return golden / "hypir" / "model"


@pytest.fixture(scope="session")
def config(model):
    return {p: json.loads((model / p / "config.json").read_text()) for p in ("unet", "vae", "text_encoder")}


@pytest.fixture
def tiny_sizes(monkeypatch, config):
    """What comes without configurations is taken for SD 2.1: here for the tiny model."""
    monkeypatch.setattr(backbone_module, "SD21_UNET", config["unet"])
    monkeypatch.setattr(backbone_module, "SD21_VAE", config["vae"])
    monkeypatch.setattr(backbone_module, "SD21_TEXT_ENCODER", config["text_encoder"])


@pytest.fixture(scope="session")
def loaded(model):
    return load_base(files_at(model))


def files_at(path) -> BaseFiles:
    files = read_base(path, found_in="a test")
    assert isinstance(files, BaseFiles), files
    return files


def tensors_of(model) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "unet": load_file(model / "unet" / "diffusion_pytorch_model.safetensors"),
        "vae": load_file(model / "vae" / "diffusion_pytorch_model.safetensors"),
        "text_encoder": load_file(model / "text_encoder" / "model.safetensors"),
    }


def in_original_layout(model) -> dict[str, torch.Tensor]:
    """Write the tiny model the way the original release writes its one file."""
    parts = tensors_of(model)
    names = ldm_names(parts["unet"])
    out = {f"model.diffusion_model.{names[name]}": t for name, t in parts["unet"].items()}
    for name, t in parts["vae"].items():
        new = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        for theirs, ours in {
            "group_norm": "norm",
            "to_q": "q",
            "to_k": "k",
            "to_v": "v",
            "to_out.0": "proj_out",
        }.items():
            new = new.replace(f"mid_block.attentions.0.{theirs}", f"mid.attn_1.{ours}")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        is_projection = "attn_1" in new and new.endswith("weight") and "norm" not in new
        out[f"first_stage_model.{new}"] = t[:, :, None, None].contiguous() if is_projection else t
    text = {name.removeprefix("text_model."): t for name, t in parts["text_encoder"].items()}
    stem = "cond_stage_model.model."
    out[f"{stem}token_embedding.weight"] = text["embeddings.token_embedding.weight"]
    out[f"{stem}positional_embedding"] = text["embeddings.position_embedding.weight"]
    for layer in range(2):
        old, new = f"encoder.layers.{layer}.", f"{stem}transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            rows = [text[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            out[f"{new}attn.in_proj_{kind}"] = torch.cat(rows)
            for a, b in {
                "self_attn.out_proj": "attn.out_proj",
                "layer_norm1": "ln_1",
                "layer_norm2": "ln_2",
                "mlp.fc1": "mlp.c_fc",
                "mlp.fc2": "mlp.c_proj",
            }.items():
                out[f"{new}{b}.{kind}"] = text[f"{old}{a}.{kind}"]
    # The original's tower has one layer more, which Stable Diffusion 2 does not use, and a projection.
    extra = {n.replace("resblocks.1.", "resblocks.2."): t * 0 for n, t in out.items() if ".resblocks.1." in n}
    for kind in ("weight", "bias"):
        out[f"{stem}ln_final.{kind}"] = text[f"final_layer_norm.{kind}"]
    return out | extra | {f"{stem}text_projection": torch.zeros(2, 2), "alphas_cumprod": torch.zeros(1000)}


def assert_same_weights(one, other):
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_diffusers_folder_equals_what_the_libraries_load(model, loaded):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    for part, read in (
        ("unet", UNet2DConditionModel.from_pretrained),
        ("vae", AutoencoderKL.from_pretrained),
        ("text_encoder", read_text_encoder),
    ):
        theirs = read(model / part).float().state_dict()
        ours = getattr(loaded, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (loaded.native_px, loaded.scaling_factor, loaded.prediction) == (128, 0.18215, Prediction.eps)


def test_one_file_in_the_original_layout(tmp_path, model, loaded, tiny_sizes):
    save_file(in_original_layout(model), tmp_path / "v2-1_512-ema-pruned.safetensors")
    one_file = load_base(files_at(tmp_path / "v2-1_512-ema-pruned.safetensors"))
    assert_same_weights(one_file, loaded)
    assert one_file.prediction is Prediction.eps


def test_separate_files_in_mixed_layouts(tmp_path, model, loaded, tiny_sizes):
    parts, original = tensors_of(model), in_original_layout(model)
    save_file(parts["unet"], tmp_path / "unet.safetensors")
    vae = {
        n.removeprefix("first_stage_model."): t for n, t in original.items() if n.startswith("first_stage")
    }
    save_file(vae, tmp_path / "vae.safetensors")
    text = {f"text_model.{n.removeprefix('text_model.')}": t for n, t in parts["text_encoder"].items()}
    save_file(text, tmp_path / "text.safetensors")
    files = files_at(tmp_path)
    assert files.packaging is Packaging.separate_files
    assert_same_weights(load_base(files), loaded)


def test_old_names_of_the_vaes_attention(tmp_path, model, loaded):
    shutil.copytree(model, tmp_path / "old")
    file = tmp_path / "old" / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    for new_name, old_name in old.items():
        tensors = {
            n.replace(f"attentions.0.{new_name}.", f"attentions.0.{old_name}."): t for n, t in tensors.items()
        }
    file.chmod(0o644)
    save_file(tensors, file)
    assert_same_weights(load_base(files_at(tmp_path / "old")), loaded)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attn2.to_k.weight": 768}, "Stable Diffusion 1.x"),
        ({"attn2.to_k.weight": 2048}, "SDXL"),
        ({"conv_in.weight": 9}, "an inpainting model"),
        ({"conv_in.weight": 5}, "a depth model"),
        ({"conv_in.weight": 6}, "another model"),
    ],
)
def test_other_models_are_refused_by_name(tmp_path, model, change, said):
    shutil.copytree(model, tmp_path / "other")
    file = tmp_path / "other" / "unet" / "diffusion_pytorch_model.safetensors"
    ending, width = next(iter(change.items()))
    tensors = {
        n: t.new_zeros(t.shape[0], width, *t.shape[2:]) if n.endswith(ending) else t
        for n, t in load_file(file).items()
    }
    file.chmod(0o644)
    save_file(tensors, file)
    with pytest.raises(SpecMismatchError, match=rf"v2-1_512-ema-pruned.*got {said}"):
        load_base(files_at(tmp_path / "other"))


def test_a_v_prediction_folder_is_refused(tmp_path, model, config):
    shutil.copytree(model, tmp_path / "v")
    file = tmp_path / "v" / "scheduler" / "scheduler_config.json"
    changed = json.loads(file.read_text()) | {"prediction_type": "v_prediction"}
    file.chmod(0o644)
    file.write_text(json.dumps(changed))
    base = load_base(files_at(tmp_path / "v"))
    with pytest.raises(SpecMismatchError, match=r"got v prediction.*v2-1_512-ema-pruned"):
        require_prediction(base, Prediction.eps)
    require_prediction(base, Prediction.v)


def test_a_v_prediction_file_is_known_by_its_mark(tmp_path, model, config, tiny_sizes, monkeypatch):
    tensors = in_original_layout(model)
    # The tiny UNet has one attention less on the way up; its last one stands for the mark.
    mark = V_MARK.replace("attentions.2", "attentions.1")
    monkeypatch.setattr(backbone_module, "V_MARK", mark)
    key = f"model.diffusion_model.{ldm_names(tensors_of(model)['unet'])[mark]}"
    tensors[key] = torch.linspace(-1, 1, tensors[key].numel())
    save_file(tensors, tmp_path / "v2-1_768.safetensors")
    assert load_base(files_at(tmp_path / "v2-1_768.safetensors")).prediction is Prediction.v


def test_a_text_encoder_of_another_width_is_refused(loaded, config):
    with pytest.raises(SpecMismatchError, match=r"32 wide.*got 768"):
        backbone_module.facts(loaded.unet, loaded.vae, config["text_encoder"] | {"hidden_size": 768})


def test_a_truncated_model_names_what_is_missing(tmp_path, model):
    shutil.copytree(model, tmp_path / "less")
    file = tmp_path / "less" / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["decoder.conv_out.bias"]
    file.chmod(0o644)
    save_file(tensors, file)
    with pytest.raises(SpecMismatchError, match=r"1 tensors do not fit.*decoder.conv_out.bias"):
        load_base(files_at(tmp_path / "less"))
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="expected a VAE"):
        load_base(files_at(tmp_path / "less"))


def test_the_folded_unet_equals_the_unfolded(model, loaded, rng):
    unet = load_base(files_at(model)).unet
    assert fold_timestep_(unet, 200) == 14  # 4 down, 2 in the middle, 8 up
    z, context = torch.randn(2, 4, 16, 24, generator=rng), torch.randn(2, 77, 32, generator=rng)
    with torch.inference_mode():
        for any_timestep in (0, 777):
            folded = unet(z, any_timestep, context).sample
            torch.testing.assert_close(folded, loaded.unet(z, 200, context).sample, rtol=0, atol=1e-5)
        assert not torch.allclose(folded, loaded.unet(z, 300, context).sample, atol=1e-3)


def test_a_unet_with_more_than_a_timestep_is_not_folded(model):
    unet = load_base(files_at(model)).unet
    unet.add_embedding = torch.nn.Identity()
    with pytest.raises(SpecMismatchError, match="add_embedding"):
        fold_timestep_(unet, 200)


def test_prompts_are_encoded_as_the_libraries_do(model, loaded):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    text_encoder = read_text_encoder(model / "text_encoder").float().eval()
    for prompt in ("", "the cat", "a photo of the cat " * 40):
        tokens = tokenize(prompt, loaded.tokenizer, vocabulary=loaded.vocabulary)
        ids = tokenizer(
            prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        assert torch.equal(tokens.ids, ids)
        with torch.inference_mode():
            theirs = text_encoder(ids).last_hidden_state
        torch.testing.assert_close(encode_prompt(loaded.text_encoder, tokens.ids), theirs)


def test_a_long_prompt_is_cut_and_said(loaded):
    words = len(loaded.tokenizer("cat", add_special_tokens=False).input_ids)
    tokens = tokenize("cat " * 100, loaded.tokenizer, vocabulary=loaded.vocabulary)
    assert tokens.dropped == 100 * words - 75
    assert str(tokens.dropped) in truncation_note(tokens)[0]
    assert truncation_note(tokenize("cat", loaded.tokenizer, vocabulary=loaded.vocabulary)) == ()


def test_the_empty_prompt_needs_no_tokenizer():
    tokens = tokenize("  ", None, vocabulary=49408)
    assert tokens.ids.tolist() == [[49406, 49407, *[0] * 75]]
    with pytest.raises(WeightsNotFoundError, match="tokenizer"):
        tokenize("a cat", None, vocabulary=49408)


def test_the_tokenizer_from_merges_equals_open_clips():
    open_clip = pytest.importorskip("open_clip", reason="needs open_clip's vocabulary and tokenizer")
    tokenizer = find_tokenizer(None, beside=None)
    assert tokenizer is not None
    for text in (
        "a photo of the cat",
        "Café №5 — naïve 日本 don't 12,345",
        "x" * 40,
        "Grandma's wedding, 1931.",
    ):
        theirs = [i for i in open_clip.tokenize(text)[0].tolist() if i]
        ours = [i for i in tokenize(text, tokenizer, vocabulary=49408).ids[0].tolist() if i]
        assert ours == theirs


def test_random_weights_are_seeded_and_tame(config, rng):
    one = random_backbone(config["unet"], config["vae"], config["text_encoder"])
    same = random_backbone(config["unet"], config["vae"], config["text_encoder"])
    assert_same_weights(one, same)
    random_lora_(one.unet, rank=4)
    assert not torch.equal(
        one.unet.state_dict()["conv_out.weight"], same.unet.state_dict()["conv_out.weight"]
    )
    assert torch.equal(one.unet.state_dict()["conv_in.weight"], same.unet.state_dict()["conv_in.weight"])
    with torch.inference_mode():
        latent = one.vae.encode(torch.rand(1, 3, 64, 64, generator=rng)).latent_dist.mean
        out = one.vae.decode(one.unet(latent, 200, torch.randn(1, 77, 32, generator=rng)).sample).sample
    assert out.isfinite().all()
    assert 1e-3 < out.std() < 1e3
