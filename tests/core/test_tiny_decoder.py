"""A tiny decoder in the VAE's place: real `AutoencoderTiny` networks with random weights, on the tiny golden model."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.cli import main
from hypir_core.errors import ConfigError, SpecMismatchError, WeightsError, WeightsNotFoundError
from hypir_core.measure.device_speed import remember, shares_of_matrix_rate
from hypir_core.measure.planner import plan_run
from hypir_core.models.sd.tiny_decoder import load_tiny_decoder
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileWish

CPU = torch.device("cpu")
SMALL = {
    "encoder_block_out_channels": (8,) * 4,
    "decoder_block_out_channels": (8,) * 4,
    "num_encoder_blocks": (1, 1, 1, 1),
    "num_decoder_blocks": (2, 1, 1, 1),
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny_autoencoder(**config) -> AutoencoderTiny:
    """Return a network whose pictures vary enough to tell one scale from another."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = AutoencoderTiny(**config)
        with torch.no_grad():
            for weight in model.decoder.parameters():
                weight.mul_(1.5)
    return model.eval()


@pytest.fixture(scope="module")
def tiny():
    return tiny_autoencoder(**SMALL)


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "taesd-small"
    tiny.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def photo_01(golden):
    """[1 3 150 131]"""
    return load_file(golden / "hypir" / "case_3.safetensors")["lq_uint8"].float() / 255


def load(golden, decoder, dtype="float32", **options) -> Any:
    given = {"lora": golden / "hypir" / "lora.pth", "base_model": str(golden / "hypir" / "model")}
    options = given | {"fast_decoder": str(decoder)} | options
    return load_engine("one-step", options=options, device=CPU, dtype=dtype)


def run(engine, image_01, **wishes):
    request = Request(target=TargetSize(scale=1), color_fix=ColorFix.none, **wishes)
    return restore(engine, image_01, request, Runtime())


def picture_of(tiny, x0):
    """[1 4 h w], scaled as the UNet knows it → [1 3 8h 8w] in [0,1], by diffusers alone."""
    with torch.inference_mode():
        return (tiny.decode(x0, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)


def latent_of(engine, image_01):
    """Return what the engine would decode, for a picture of one tile."""
    request = Request(target=TargetSize(scale=1))
    prepared = engine.prepare(Plane(image_01), tuple(image_01.shape[-2:]), request)
    encode, step, _ = engine.stages(prepared, request)
    with torch.inference_mode():
        return step.run(encode.run(prepared.plane.data, {}), {})


def test_the_result_is_the_scaled_latent_decoded_by_diffusers(golden, folder, tiny, photo_01):
    engine, picture = load(golden, folder), photo_01[..., :128, :128]
    x0 = latent_of(engine, picture)
    expected = picture_of(tiny, x0)
    torch.testing.assert_close(run(engine, picture).image_01, expected, rtol=0, atol=1e-5)
    assert (
        picture_of(tiny, x0 / 0.18215) - expected
    ).abs().mean() > 0.01  # the test can tell the scales apart
    assert expected.std() > 0.01


def test_latents_are_divided_by_the_decoders_own_scale(golden, tmp_path, photo_01):
    scaled = tiny_autoencoder(**SMALL, scaling_factor=2.0)
    scaled.save_pretrained(tmp_path)
    engine, picture = load(golden, tmp_path), photo_01[..., :128, :128]
    expected = picture_of(scaled, latent_of(engine, picture) / 2)
    torch.testing.assert_close(run(engine, picture).image_01, expected, rtol=0, atol=1e-5)


def test_tiles_of_half_precision(golden, folder, photo_01):
    exact = run(load(golden, folder), photo_01).image_01
    engine = load(golden, folder, dtype="bfloat16")
    tiled = run(engine, photo_01, tile=TileWish(tile_px=128, overlap_px=64))
    assert "1×1" not in tiled.report.stages[-1].tiles
    assert (tiled.image_01 - exact).abs().mean() < 0.02


def test_it_goes_where_the_vae_goes(golden, folder):
    codec = load(golden, folder, dtype="bfloat16").codec
    latent = torch.full((1, 4, 2, 2), 0.3)
    short = codec.decode(latent)
    with codec.decoding.in_float32():
        long = codec.decode(latent)
    assert torch.equal(short * 2 - 1, (short * 2 - 1).bfloat16().float())
    assert not torch.equal(long * 2 - 1, (long * 2 - 1).bfloat16().float())
    codec.decoding.place(torch.device("meta"))
    assert codec.decode(latent.to("meta")).device.type == "meta"


def test_it_takes_less_memory_than_the_full_size_vae(folder):
    from hypir_core.engines.diffusion.options import OneStepOptions
    from hypir_core.engines.diffusion.skeleton import one_step_skeleton

    full = one_step_skeleton(OneStepOptions(), CPU, "bfloat16")
    small = one_step_skeleton(OneStepOptions(fast_decoder=str(folder)), CPU, "bfloat16")
    assert 0 < small.codec.decoding.bytes_per_px < full.codec.decoding.bytes_per_px / 5
    assert small.codec.encoding.bytes_per_px == full.codec.encoding.bytes_per_px


def test_the_report_calls_it_a_preview(golden, folder, photo_01):
    report = run(load(golden, folder), photo_01).report
    assert report.notes[0] == "decoded by a tiny decoder (taesd-small): a preview, fine detail is approximate"
    assert re.search(r", decoded by taesd-small sha256:[0-9a-f]{16}$", report.weights)
    plain = run(load(golden, folder, fast_decoder=None), photo_01).report
    assert not plain.notes
    assert "decoded" not in plain.weights


def test_the_command_line_takes_it(golden, folder, photo_01, tmp_path, capsys):
    from PIL import Image

    source, out, report = tmp_path / "photo.png", tmp_path / "out.png", tmp_path / "report.json"
    pixels = (photo_01[0, :, :64, :64] * 255).round().byte().permute(1, 2, 0)
    Image.fromarray(pixels.numpy()).save(source)
    words = [
        "restore",
        str(source),
        "-o",
        str(out),
        "--engine",
        "one-step",
        "--scale",
        "1",
        "--device",
        "cpu",
    ]
    model = ["--base", str(golden / "hypir" / "model"), "--lora", str(golden / "hypir" / "lora.pth")]
    assert main([*words, *model, "--fast-decoder", str(folder), "--report", str(report)]) == 0
    assert "a preview" in " ".join(capsys.readouterr().err.split())
    assert "a preview" in json.loads(report.read_text())["results"][0]["report"]["notes"][0]


def test_a_file_without_a_config_is_built_as_taesd_is(tmp_path, rng):
    taesd = tiny_autoencoder()
    taesd.save_pretrained(tmp_path / "folder")
    alone = tmp_path / "taesd.safetensors"
    shutil.copy(tmp_path / "folder" / WEIGHTS, alone)
    # TAESD's own files: the decoder alone, its clamp counted as layer 0
    tensors = load_file(alone)
    names = {n: re.fullmatch(r"decoder\.layers\.(\d+)\.(.+)", n) for n in tensors}
    original = {f"{int(m[1]) + 1}.{m[2]}": tensors[n] for n, m in names.items() if m}
    assert {"1.weight", "3.conv.0.bias", "19.weight"} <= original.keys()
    save_file(original, tmp_path / "taesd_decoder.safetensors")
    torch.save(original, tmp_path / "taesd_decoder.pth")
    x0 = torch.randn(1, 4, 4, 4, generator=rng)
    for given in (alone, tmp_path / "taesd_decoder.safetensors", tmp_path / "taesd_decoder.pth"):
        found = load_tiny_decoder(str(given))
        assert (found.name, found.numbers_per_px, found.scaling_factor) == (given.name, 6.5 * 64, 1.0)
        with torch.inference_mode():
            torch.testing.assert_close(found.net(x0), taesd.decode(x0, return_dict=False)[0])


def test_a_file_takes_the_config_beside_it(folder, caplog):
    assert load_tiny_decoder(str(folder / WEIGHTS)).numbers_per_px == 6.5 * 8
    assert not caplog.records


def test_a_repository_is_read_from_the_hugging_face_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--taesd" / "snapshots" / ("0123456789abcdef" * 3)[:40]
    shutil.copytree(folder, snapshot)
    assert load_tiny_decoder("someone/taesd").name == "someone/taesd@01234567"
    with pytest.raises(WeightsNotFoundError, match=r"nothing of that name .*hf download madebyollin/taesd"):
        load_tiny_decoder("someone/else")
    (snapshot / WEIGHTS).unlink()
    with pytest.raises(WeightsNotFoundError, match=f"without {WEIGHTS}"):
        load_tiny_decoder("someone/taesd")


def test_missing_files_are_named(golden, tmp_path):
    with pytest.raises(
        WeightsNotFoundError, match=r"nowhere: expected a tiny decoder .*no such file or folder"
    ):
        load(golden, tmp_path / "nowhere")
    with pytest.raises(WeightsNotFoundError, match=f"a folder without {WEIGHTS}"):
        load(golden, tmp_path)


def test_another_kind_of_autoencoder_is_refused(golden):
    with pytest.raises(SpecMismatchError, match=r"expected a tiny decoder .*got AutoencoderKL"):
        load(golden, golden / "hypir" / "model" / "vae")


def test_weights_of_another_network_are_refused(golden, tmp_path):
    file = tmp_path / "vae.safetensors"
    shutil.copy(golden / "hypir" / "model" / "vae" / WEIGHTS, file)
    with pytest.raises(SpecMismatchError, match=r"expected the decoder of a Stable Diffusion VAE with fewer"):
        load_tiny_decoder(str(file))
    save_file({"something": torch.zeros(1)}, file)
    with pytest.raises(SpecMismatchError, match=r"layers\.0\.bias: expected \(64,\), got none"):
        load_tiny_decoder(str(file))
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(WeightsError, match="Git LFS pointer"):
        load_tiny_decoder(str(file))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"latent_channels": 16}, "got 16 latent channels to 3 colours at 8 times"),
        ({"out_channels": 1}, "got 4 latent channels to 1 colours at 8 times"),
        ({"num_decoder_blocks": (1, 1, 1), "decoder_block_out_channels": (8,) * 3}, "colours at 4 times"),
    ],
)
def test_decoders_of_other_latents_are_refused(tmp_path, config, said):
    AutoencoderTiny(**SMALL | config).save_pretrained(tmp_path)
    with pytest.raises(SpecMismatchError, match=said):
        load_tiny_decoder(str(tmp_path))


def test_sixteen_channels_are_refused_without_a_config_too(tmp_path):
    tiny_autoencoder(latent_channels=16).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(
        SpecMismatchError, match=r"layers\.0\.weight: expected \(64, 4, 3, 3\), got \(64, 16, 3, 3\)"
    ):
        load_tiny_decoder(str(tmp_path))


def test_a_broken_config_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "broken")
    config = tmp_path / "broken" / "config.json"
    for text, said in (("{", "cannot read it"), ('{"num_decoder_blocks": [1]}', "cannot build it")):
        config.write_text(text)
        with pytest.raises(WeightsError, match=said):
            load_tiny_decoder(str(tmp_path / "broken"))


@pytest.mark.parametrize("other", ["reference_mode", "vae_exact"])
def test_it_excludes_what_needs_the_vaes_decoder(golden, folder, other):
    with pytest.raises(ConfigError, match=f"fast_decoder and {other} exclude each other"):
        load(golden, folder, dtype="float32", **{other: True})


def test_the_plan_counts_its_arithmetic(folder, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("one-step", CPU, torch.bfloat16, rate=1e12, shares={})
    options = {"fast_decoder": str(folder)}
    plan = plan_run("one-step", (512, 512), options=options, device=CPU, dtype="bfloat16")
    decode = plan.stages[-1]
    assert decode.tile_px == (512, 512)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tiny.decode(torch.zeros(1, 4, 64, 64))
    assert decode.flops == counter.get_total_flops()
    assert plan.stages[0].flops > 1e12  # the encoder is the VAE's


def test_a_benchmark_of_the_preview_teaches_the_plan_nothing(folder, golden, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("one-step", CPU, torch.float32, rate=1e12, shares={"decode": 0.25})
    options = {
        "base_model": golden / "hypir" / "model",
        "lora": golden / "hypir" / "lora.pth",
        "fast_decoder": folder,
    }
    words = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    case = [
        "--engine",
        "one-step",
        "--size",
        "128",
        "--repeats",
        "1",
        "--dtype",
        "float32",
        "--device",
        "cpu",
    ]
    assert main(["bench", *case, *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["notes"]
    assert shares_of_matrix_rate("one-step", CPU, torch.float32) == {"decode": 0.25}
