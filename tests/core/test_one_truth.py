"""The engine is the one truth: key, report and the written picture name exactly what ran."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from hypir_core import (
    Request,
    Runtime,
    load_engine,
    picture_text,
    read_picture,
    restore,
    to_planes,
    write_picture,
)
from hypir_core.cli import main
from hypir_core.engines.catalog import ENGINES
from hypir_core.engines.feed_forward.load import BUILT_IN
from hypir_core.engines.pixel.network import build_network, save_pixel
from hypir_core.files.reading import read_text
from hypir_core.weights.pixel_spec import PixelSpec
from tests.core.adcsr_files import adcsr_files

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parents[1] / "golden" / "hypir"
SEESR = Path(__file__).parents[1] / "golden" / "seesr"
SEESR_MODEL = {
    "base_model": str(SEESR / "sd-turbo"),
    "seesr": str(SEESR / "seesr"),
    "tagger": str(SEESR / "ram" / "ram_swin_large_14m.pth"),
    "tagger_lora": str(SEESR / "ram" / "DAPE.pth"),
    "tag_list": str(SEESR / "ram"),
    "process_px": 96,
}
PIXEL = PixelSpec(
    name="tiny",
    options={"channels": (8,), "layers": 1, "groups": 4},
    channels=3,
    trained_on="nothing",
    trained_with="nothing",
    licence="CC0",
)
MODEL = {"base_model": str(GOLDEN / "model"), "lora": str(GOLDEN / "lora.pth")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The same file under a name of its own, another file, and a folder with another base model."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(BUILT_IN / "restorer_x4.safetensors", folder / "a.safetensors")
    shutil.copy(BUILT_IN / "restorer_x4_sharp.safetensors", folder / "b.safetensors")
    for name in ("pixel.safetensors", "pixel2.safetensors"):
        save_pixel(folder / name, build_network(PIXEL, where="test").state_dict(), PIXEL)
    adcsr_files(folder / "adcsr")
    other, _ = adcsr_files(folder / "other")
    tensors = torch.load(other, weights_only=True)
    tensors["module.body.1.conv_in.bias"] += 1
    torch.save(tensors, other)
    shutil.copytree(GOLDEN / "model", folder / "base")
    vae = folder / "base" / "vae" / "diffusion_pytorch_model.safetensors"
    vae.chmod(0o644)
    data = bytearray(vae.read_bytes())
    data[-2:] = b"\x00\x00"
    vae.write_bytes(bytes(data))
    lora = torch.load(SEESR / "ram" / "DAPE.pth", weights_only=True)
    torch.save({name: 2 * tensor for name, tensor in lora.items()}, folder / "lora.pth")
    return folder


CHANGES = {
    "built-in": ({}, []),
    "built-in-sharp": ({}, []),
    "adcsr": (
        {"weights": "adcsr/net_params_200.pkl", "decoder": "adcsr/halfDecoder.ckpt"},
        [{"weights": "other/net_params_200.pkl"}],
    ),
    "upscaler": ({"weights": "a.safetensors"}, [{"weights": "b.safetensors"}]),
    "one-step": (
        MODEL,
        [
            {"lora_strength": 0.5},
            {"coeff_t": 150},
            {"reference_mode": True},
            {"vae_exact": True},
            {"base_model": "base"},
        ],
    ),
    "seesr": (
        SEESR_MODEL,
        [
            {"steps": 3},
            {"sampler": "ddpm"},
            {"start": "noise"},
            {"control_strength": 0.5},
            {"particles": 2},
            {"tagger_lora": "lora.pth"},
            {"words": "sharp"},
            {"tags": "a cat"},
            {"process_px": 128},
            {"reference_mode": True},
        ],
    ),
    "pixel": (
        {"weights": "pixel.safetensors", "steps": 2},
        [
            {"steps": 3},
            {"weights": "pixel2.safetensors"},
            {"solver": "ddim"},
            {"guidance": "pkl"},
            {"psf_sigma_px": 1.5},
            {"gain": 2.0},
            {"background_e": 3.0},
            {"samples": 2},
            {"cascade": [2]},
        ],
    ),
    "richardson-lucy": ({"psf_sigma_px": 1.5}, [{"steps": 3}, {"psf_sigma_px": 2.0}, {"gain": 2.0}]),
}


def given(options: dict, folder: Path) -> dict:
    """Names of files of the fixture stand for their paths."""
    return {
        key: str(folder / v) if isinstance(v, str) and (folder / v).exists() else v
        for key, v in options.items()
    }


@pytest.mark.parametrize("name", ENGINES.names())
def test_every_engine_and_every_setting_has_a_key_of_its_own(name, weights):
    options, changes = CHANGES[name]
    plain = load_engine(name, given(options, weights), device=CPU, dtype="float32")
    again = load_engine(name, given(options, weights), device=CPU, dtype="float32")
    assert plain.spec.name == name
    assert plain.spec.key() == again.spec.key()
    keys = {
        plain.spec.key(),
        load_engine(name, given(options, weights), device=CPU, dtype="bfloat16").spec.key(),
    }
    for change in changes:
        keys.add(load_engine(name, given(options | change, weights), device=CPU, dtype="float32").spec.key())
    formats = len({"float32", *plain.spec.dtypes} & {"float32", "bfloat16"})
    assert len(keys) == formats + len(changes)
    json.dumps(dict(plain.spec.settings))


def test_what_does_not_change_the_result_does_not_change_the_key(weights):
    one = load_engine("one-step", MODEL, device=CPU, dtype="float32").spec
    other = load_engine("one-step", MODEL | {"offline": True}, device=CPU, dtype="float32").spec
    assert one.key() == other.key()


@pytest.mark.parametrize("name", ENGINES.names())
def test_the_written_picture_names_what_ran(name, weights, tmp_path):
    options, changes = CHANGES[name]
    options = given(options | (changes[0] if changes else {}), weights)
    engine = load_engine(name, options, device=CPU, dtype="float32")
    mode = "L" if engine.spec.in_channels == 1 else "RGB"
    Image.radial_gradient("L").convert(mode).resize((24, 16)).save(tmp_path / "in.png")

    color_01, alpha_01 = to_planes(read_picture(tmp_path / "in.png"))
    restored = restore(engine, color_01, Request(), Runtime(), alpha_01=alpha_01)
    text = picture_text(Request(), restored.report)
    write_picture(tmp_path / "library.png", restored.image_01, text=text)

    words = ["restore", tmp_path / "in.png", "-o", tmp_path / "cli.png", "--engine", name]
    words += [w for key, value in options.items() for w in ("--option", f"{key}={value}")]
    assert main([str(word) for word in (*words, "--dtype", "float32", "--device", "cpu")]) == 0

    for path in (tmp_path / "library.png", tmp_path / "cli.png"):
        told = read_text(path)
        report = json.loads(told["hypir.report"])
        assert report["engine"] == engine.spec.name == name
        assert report["weights"] == engine.spec.weights
        assert report["settings"] == dict(engine.spec.settings)
        assert report["dtype"] == "float32"
        assert "engine" not in json.loads(told["hypir.request"])
