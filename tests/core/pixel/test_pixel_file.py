"""The engine of pixels from a file, over the command line: 16 bit in, 16 bit out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from hypir_core import Request, Runtime, load_engine, restore
from hypir_core.cli import main
from hypir_core.engines.pixel.network import build_network, read_pixel, save_pixel
from hypir_core.errors import ConfigError, SpecMismatchError, UnknownNameError
from hypir_core.weights.pixel_spec import PixelSpec
from tests.core.pixel.pixel_networks import scene, spec, written

CPU = torch.device("cpu")
TINY = {"channels": (8, 16), "layers": 1, "groups": 4, "fold": 2}


def weights(path, **more):
    torch.manual_seed(0)
    of: PixelSpec = spec(options=TINY, **more)
    save_pixel(path, build_network(of, where="test").state_dict(), of)
    return path


@pytest.fixture
def desk(tmp_path):
    """A picture of one channel in 16 bit, and weights."""
    light = torch.poisson(scene(37, 50), generator=torch.Generator().manual_seed(0))
    adu = (100 + 200 * light[0, 0]).round().numpy().astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", adu)
    weights(tmp_path / "m.safetensors")
    return tmp_path


def restored(desk, name, *options, seed: int = 5):
    words = ["restore", str(desk / "in.tif"), "-o", str(desk / name), "--engine", "pixel", "--device", "cpu"]
    words += [w for option in (f"weights={desk / 'm.safetensors'}", *options) for w in ("--option", option)]
    assert main([*words, "--seed", str(seed), "--report", str(desk / f"{name}.json")]) == 0
    return tifffile.imread(desk / name), json.loads((desk / f"{name}.json").read_text())["results"][0][
        "report"
    ]


def test_sixteen_bits_go_in_and_come_out(desk):
    options = ("steps=2", "guidance=pkl", "guidance_rule=prox", "psf_sigma_px=1.2", "solver=dpmpp_2m")
    one, report = restored(desk, "one.tif", *options)
    assert (one.dtype, one.shape) == (np.uint16, (37, 50))
    assert len(np.unique(one)) > 300  # not 8 bits in 16
    assert report["settings"]["guidance_rule"] == "prox"
    assert report["settings"]["gain"] == 200.0  # the weights' camera
    assert [stage["name"] for stage in report["stages"]] == ["step 1/2", "step 2/2"]
    again, _ = restored(desk, "again.tif", *options)
    other, _ = restored(desk, "other.tif", *options, seed=6)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_mean_and_the_deviation_are_results_too(desk):
    mean, report = restored(desk, "mean.tif", "steps=2", "samples=2")
    deviation, of_deviation = restored(desk, "deviation.tif", "steps=2", "samples=2", "result=deviation")
    assert any("χ²" in note for note in report["notes"])
    assert not any("χ²" in note for note in of_deviation["notes"])
    assert report["settings"]["result"] == "mean"
    assert mean.dtype == deviation.dtype == np.uint16
    assert deviation.mean() < mean.mean()
    both, _ = restored(desk, "both.tif", "steps=2", "samples=2", "result=both")
    assert sorted(both.shape) == [2, 37, 50]
    channels = np.moveaxis(both, int(np.argmin(both.shape)), 0)
    assert np.array_equal(channels, np.stack([mean, deviation]))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("gain=0", "gain must be above 0 ADU per electron, got 0"),
        ("steps=101", "steps must lie in 1 … 100"),
        ("stepz=3", "did you mean 'steps'"),
        ("solver=dimm", "did you mean 'ddim'"),
        ("psf=none.tif", "none.tif"),
        ("guidance=poisson", "guidance"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(desk, capsys, option, said):
    words = ["restore", str(desk / "in.tif"), "-o", str(desk / "out.tif"), "--engine", "pixel"]
    words += ["--option", f"weights={desk / 'm.safetensors'}", "--option", option, "--device", "cpu"]
    assert main(words) != 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert not (desk / "out.tif").exists()


@pytest.mark.parametrize("name", ["in.png", "in.tif"])
def test_colour_for_a_network_of_one_channel_is_refused(desk, capsys, name):
    (desk / name).unlink(missing_ok=True)
    Image.new("RGB", (9, 8)).save(desk / name)
    words = ["restore", str(desk / name), "-o", str(desk / "out.tif"), "--engine", "pixel"]
    assert main([*words, "--option", f"weights={desk / 'm.safetensors'}", "--device", "cpu"]) != 0
    assert "takes 1 channel, the picture has 3" in capsys.readouterr().err
    assert not (desk / "out.tif").exists()


def test_an_engine_says_what_it_is(tmp_path):
    path = weights(tmp_path / "m.safetensors", psf=((0.0, 1.0, 0.0), (1.0, 4.0, 1.0), (0.0, 1.0, 0.0)))
    of = load_engine("pixel", {"weights": str(path)}, device=CPU, dtype="float32")
    assert of.spec.name == "pixel"
    assert of.spec.weights.startswith("m.safetensors ")
    assert of.spec.settings["psf"].startswith("3×3 ")  # the training's own, without being asked for
    keys = {
        load_engine("pixel", {"weights": str(path), **more}, device=CPU, dtype="float32").spec.key()
        for more in (
            {},
            {"steps": 3},
            {"psf_sigma_px": 1.0},
            {"gain": 2.0},
            {"guidance": "pkl"},
            {"prior": 0},
        )
    }
    assert len(keys) == 5
    half = load_engine("pixel", {"weights": str(path)}, device=CPU, dtype="bfloat16")
    assert {parameter.dtype for parameter in half.net.parameters()} == {torch.bfloat16}
    picture = written(scene(24, 32))
    full, rounded = (restore(each, picture, Request(), Runtime()).image_01 for each in (of, half))
    assert 0 < (full - rounded).square().mean().sqrt() < 0.1 * full.std()


def test_weights_of_another_kind_are_refused(tmp_path):
    from hypir_core.engines.feed_forward.load import BUILT_IN

    with pytest.raises(SpecMismatchError, match="expected a diffusion model of pixels, got a generator"):
        load_engine("pixel", {"weights": str(BUILT_IN / "restorer_x4.safetensors")}, device=CPU)
    with pytest.raises(SpecMismatchError, match="expected a generator, got a pixel"):
        load_engine("upscaler", {"weights": str(weights(tmp_path / "m.safetensors"))}, device=CPU)
    with pytest.raises(ConfigError, match="weights is required"):
        load_engine("pixel", {}, device=CPU)
    with pytest.raises(UnknownNameError, match="did you mean 'pixel'"):
        load_engine("pixl", {}, device=CPU)


def test_a_run_is_planned_without_numbers(tmp_path):
    from hypir_core.measure.planner import plan_run

    path = weights(tmp_path / "m.safetensors")
    options = {"weights": str(path), "steps": 3, "cascade": [2], "guidance": "pkl"}
    plan = plan_run("pixel", (96, 128), options=options, device=CPU, scale=1)
    assert [stage.name for stage in plan.stages] == [
        *(f"step {i}/3 of 2× pixels" for i in (1, 2, 3)),
        "step 1/1",
    ]
    assert all(stage.flops > 0 for stage in plan.stages)
    assert read_pixel(path).spec.name == "test"
