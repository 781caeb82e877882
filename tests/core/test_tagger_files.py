"""Finding what SeeSR needs: order, what each place holds, reasons why not, and licences before downloads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hypir_core.errors import UnknownNameError, WeightsNotFoundError
from hypir_core.tags.find import missing_for_tagger
from hypir_core.weights.download.sources import Source, cache_folder, describe, load_source
from hypir_core.weights.search.hub_cache import hub_cache_folder
from hypir_core.weights.search.locate import locate_base
from hypir_core.weights.search.locate_controlnet import locate_controlnet
from hypir_core.weights.search.locate_seesr import SEESR_COMMANDS, locate_seesr
from hypir_core.weights.search.locate_tagger import (
    TAGGER_COMMANDS,
    TAGGER_LORA_COMMANDS,
    locate_tagger,
    locate_tagger_lora,
)
from hypir_core.weights.search.wanted_base import SD2_BASE, SD21_BASE, SD_TURBO, WantedBase, named_by

UNET = ("time_embedding.linear_1.weight", "conv_in.weight")
SEESR_UNET = (*UNET, "mid_block.image_attentions.0.norm.weight")
PLAIN_CONTROL = (*UNET, "controlnet_cond_embedding.conv_in.weight")
SEESR_CONTROL = (*SEESR_UNET, "controlnet_cond_embedding.conv_in.weight")
CHECKPOINT = (
    "model.diffusion_model.time_embed.0.weight",
    "first_stage_model.decoder.conv_in.weight",
    "cond_stage_model.model.token_embedding.weight",
)
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing is installed."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "COMFYUI_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    for name, value in (("HOME", home), ("USERPROFILE", home), ("XDG_CACHE_HOME", home / "caches")):
        monkeypatch.setenv(name, str(value))
    return home


def tensors(path: Path, names: tuple[str, ...]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros(1, np.float32) for name in names}, path)
    return path


def pickle(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PK\x03\x04 not opened here")
    return path


def seesr(folder: Path, control: tuple[str, ...] = SEESR_CONTROL) -> Path:
    tensors(folder / "unet" / WEIGHTS, SEESR_UNET)
    tensors(folder / "controlnet" / WEIGHTS, control)
    return folder


def in_hub_cache(repo: str) -> Path:
    return hub_cache_folder() / f"models--{repo.replace('/', '--')}" / "snapshots" / "abc"


@pytest.mark.parametrize("below", ["", "seesr"])
def test_seesr_as_a_folder_and_by_one_of_its_files(tmp_path: Path, below: str):
    folder = seesr(tmp_path / "models" / below)
    expected = (folder / "unet" / WEIGHTS, folder / "controlnet" / WEIGHTS)
    for given in (tmp_path / "models", *expected):
        found = locate_seesr(given)
        assert (found.unet, found.controlnet) == expected
        assert str(given) in found.found_in


def test_seesr_as_two_files(tmp_path: Path):
    unet = tensors(tmp_path / "a.safetensors", SEESR_UNET)
    tensors(tmp_path / "b.safetensors", PLAIN_CONTROL)
    control = tensors(tmp_path / "c.safetensors", SEESR_CONTROL)
    for given in (tmp_path, unet, control):
        found = locate_seesr(given)
        assert (found.unet, found.controlnet) == (unet, control)


def test_what_is_no_seesr_is_named(tmp_path: Path):
    def reason(given: Path) -> str:
        with pytest.raises(WeightsNotFoundError) as caught:
            locate_seesr(given)
        assert all(command in str(caught.value) for command in SEESR_COMMANDS)
        return str(caught.value)

    folder = seesr(tmp_path / "x", PLAIN_CONTROL)
    assert "controlnet/diffusion_pytorch_model.safetensors is a plain ControlNet" in reason(folder)
    assert "it holds no image_attentions" in reason(folder / "controlnet" / WEIGHTS)
    (folder / "controlnet" / WEIGHTS).unlink()
    assert "without controlnet/" in reason(folder)
    assert "no safetensors file that is SeeSR's ControlNet" in reason(folder / "unet" / WEIGHTS)
    (folder / "unet" / WEIGHTS).write_bytes(b"<html>")
    assert "is a web page" in reason(folder / "unet" / WEIGHTS)
    assert "no such file" in reason(tmp_path / "nowhere")


def test_the_order_is_own_downloads_hub_comfyui_download(tmp_path: Path):
    def fetch(source: Source, into: Path) -> None:
        raise AssertionError(f"{source.name} is on this machine")

    comfy = [tmp_path / "ComfyUI"]
    models = comfy[0] / "models"
    models.mkdir(parents=True)
    for locate, places in (
        (
            locate_seesr,
            (
                lambda: seesr(models / "hypir" / "SeeSR"),
                lambda: seesr(in_hub_cache("CSWRY/SeeSR") / "seesr"),
                lambda: seesr(cache_folder() / "seesr" / "seesr"),
            ),
        ),
        (
            locate_tagger,
            (
                lambda: pickle(models / "rams" / "ram_swin_large_14m.pth"),
                lambda: pickle(in_hub_cache("xinyu1205/recognize_anything_model") / "ram_swin_large_14m.pth"),
                lambda: pickle(cache_folder() / "ram" / "ram_swin_large_14m.pth"),
            ),
        ),
        (
            locate_tagger_lora,
            (
                lambda: pickle(models / "hypir" / "DAPE.pth"),
                lambda: pickle(in_hub_cache("alexnasa/SEESR") / "DAPE.pth"),
                lambda: pickle(cache_folder() / "dape" / "DAPE.pth"),
            ),
        ),
    ):
        find: Callable[..., object] = locate
        with pytest.raises(WeightsNotFoundError, match="offline"):
            find(comfy_models=comfy, offline=True, fetch=fetch)
        for place in places:
            made = place()
            found = find(comfy_models=comfy, fetch=fetch)
            where = found if isinstance(found, Path) else found.unet  # type: ignore[attr-defined]
            assert str(where).startswith(str(made))


def test_a_download_is_used_where_nothing_is_found():
    fetched: list[str] = []

    def fetch(source: Source, into: Path) -> None:
        fetched.append(source.name)
        seesr(into / "seesr")
        pickle(into / "ram_swin_large_14m.pth")
        tensors(into / WEIGHTS, PLAIN_CONTROL)

    assert locate_seesr(comfy_models=[], fetch=fetch).unet.is_file()
    assert locate_tagger(comfy_models=[], fetch=fetch).is_file()
    assert locate_controlnet("depth", comfy_models=[], fetch=fetch).is_file()
    assert fetched == ["seesr", "ram", "controlnet-sd21-depth"]


def test_nothing_found_lists_every_place_and_both_commands(tmp_path: Path):
    with pytest.raises(WeightsNotFoundError) as caught:
        locate_tagger(comfy_models=[tmp_path])
    for needed in (str(cache_folder() / "ram"), "xinyu1205/recognize_anything_model", *TAGGER_COMMANDS):
        assert needed in str(caught.value)
    lines = missing_for_tagger()
    assert [line.partition(":")[0].split()[0] for line in lines] == ["the", "DAPE,"]
    assert lines[1].endswith(TAGGER_LORA_COMMANDS[0])
    pickle(cache_folder() / "ram" / "ram_swin_large_14m.pth")
    assert len(missing_for_tagger()) == 1


def test_a_given_tagger_may_be_called_anything_and_a_small_copy_comes_first(tmp_path: Path):
    mine = pickle(tmp_path / "models" / "hypir" / "mine.pth")
    assert locate_tagger(mine) == mine
    assert locate_tagger("mine.pth", comfy_models=[tmp_path]) == mine
    published = pickle(tmp_path / "ram" / "ram_swin_large_14m.pth")
    pickle(tmp_path / "ram" / "DAPE.pth")
    small = tensors(tmp_path / "ram" / "seesr_tagger.safetensors", ("fc.bias",))
    assert locate_tagger(tmp_path / "ram") == small
    small.unlink()
    assert locate_tagger(tmp_path / "ram") == published
    published.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsNotFoundError, match="is a Git LFS pointer"):
        locate_tagger(tmp_path / "ram")
    with pytest.raises(WeightsNotFoundError, match=r"other\.pth: no such file"):
        locate_tagger(tmp_path / "other.pth")


def test_controlnets_by_kind_and_by_place(tmp_path: Path):
    control = tmp_path / "models" / "controlnet"
    edge = tensors(control / "control_v11p_sd21_canny.safetensors", PLAIN_CONTROL)
    tensors(control / "control_v11p_sd21_zoedepth.safetensors", PLAIN_CONTROL)
    tensors(control / "control_v11p_sd15_depth.safetensors", PLAIN_CONTROL)
    assert locate_controlnet("edge", comfy_models=[tmp_path]) == edge
    with pytest.raises(
        WeightsNotFoundError, match=r"--guide depth --download(.|\n)*--guide-weights depth=FILE"
    ):
        locate_controlnet("depth", comfy_models=[tmp_path])
    assert locate_controlnet(
        "depth", "control_v11p_sd15_depth.safetensors", comfy_models=[tmp_path]
    ).is_file()
    assert locate_controlnet("depth", edge) == edge
    with pytest.raises(WeightsNotFoundError, match=r"another network: it holds no controlnet_cond_embedding"):
        locate_controlnet("edge", tensors(tmp_path / "x.safetensors", UNET))
    with pytest.raises(UnknownNameError, match="'given'"):
        locate_controlnet("given")
    tensors(in_hub_cache("me/net") / WEIGHTS, PLAIN_CONTROL)
    assert locate_controlnet("given", "me/net").parent == in_hub_cache("me/net")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sd_turbo", SD_TURBO),
        ("sd-turbo_fp16", SD_TURBO),
        ("sd2.1-turbo", SD_TURBO),
        ("sd_xl_turbo_1.0", None),
        ("sd15-turbo", None),
        ("512-base-ema", SD2_BASE),
        ("stable-diffusion-2-base", SD2_BASE),
        ("sd2.0-base", SD2_BASE),
        ("sd2-base-inpainting", None),
        ("stable-diffusion-2", None),
        ("stable-diffusion-2-1-base", SD21_BASE),
        ("v2-1_512-ema-pruned", SD21_BASE),
    ],
)
def test_names_say_one_base_model(name: str, wanted: WantedBase | None):
    assert [base for base in (SD21_BASE, SD_TURBO, SD2_BASE) if base.is_called(name, whole=True)] == [
        base for base in (wanted,) if base
    ]
    assert named_by(Path("/models/checkpoints") / f"{name}.safetensors") is wanted
    cached = Path("/hub") / f"models--stabilityai--{name}" / "snapshots/abc/unet" / WEIGHTS
    assert named_by(cached) is wanted


def test_another_base_model_can_be_looked_for(tmp_path: Path):
    file = tensors(tmp_path / "models/checkpoints/sd_turbo.safetensors", CHECKPOINT)
    assert locate_base(wanted=SD_TURBO, comfy_models=[tmp_path]).single_file == file
    for other in (SD21_BASE, SD2_BASE):
        with pytest.raises(WeightsNotFoundError, match=other.what):
            locate_base(wanted=other, comfy_models=[tmp_path])
    with pytest.raises(WeightsNotFoundError) as caught:
        locate_base(wanted=SD_TURBO, comfy_models=[tmp_path / "empty"])
    assert all(command in str(caught.value) for command in SD_TURBO.commands)
    assert "stabilityai/sd-turbo" in str(caught.value)


def test_the_licence_of_sd_turbo_is_told_before_its_download():
    text = describe(load_source("sd-turbo"))
    for needed in (
        "5.2 GB",
        "commercial use conditional",
        "https://stability.ai/license",
        "Commercial use is conditional",
    ):
        assert needed in text
    for name in ("seesr", "ram", "dape"):
        assert load_source(name).licence == "Apache-2.0"
    assert load_source("ram").files[0].sha256 is not None
