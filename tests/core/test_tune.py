"""`hypir tune`: the settings that are chosen without a truth are near those that a truth would choose."""

from __future__ import annotations

import re

import pytest
import torch
import yaml

from hypir_core.cli import main
from hypir_core.errors import ConfigError, UnknownNameError
from hypir_core.measure.tune import brightest_part, choices, tune
from hypir_core.metrics.fidelity import psnr
from hypir_core.physics.camera import Camera
from hypir_core.physics.data_terms import Measurement
from hypir_core.physics.deconvolve import richardson_lucy
from hypir_core.physics.operator import PsfOperator
from hypir_core.physics.psf import gaussian_psf
from hypir_core.physics.specimens import filaments

CPU = torch.device("cpu")
CAMERA = Camera(offset_adu=100, gain=2.0)
MICROSCOPE = {"psf_sigma_px": 1.5, "gain": 2.0, "offset_adu": 100.0, "background_e": 0.5}


def measured(photons: float, side: int = 96):
    """Return light [1 1 side side] in electrons, and what a camera writes of it."""
    light = filaments(side, torch.Generator().manual_seed(3))[None, None]
    light = light / light.max() * photons
    seen = PsfOperator(gaussian_psf((1.5, 1.5))).A(light) + 0.5
    return light, CAMERA.expose(seen, torch.Generator().manual_seed(4))


@pytest.mark.parametrize("photons", [8.0, 200.0])
def test_rounds_that_explain_held_back_light_are_near_the_best(photons):
    light, adu = measured(photons)
    grid = choices("richardson-lucy")
    found = tune("richardson-lucy", MICROSCOPE, adu, grid=grid, device=CPU)
    operator = PsfOperator(gaussian_psf((1.5, 1.5)))
    y = Measurement(y=CAMERA.to_electrons(adu), operator=operator, background_e=0.5)
    truth = {
        steps: float(psnr((richardson_lucy(y, steps=steps) / photons).clamp(0, 1), light / photons))
        for steps in (each["steps"] for each in grid)
    }
    best, chosen = max(truth, key=truth.__getitem__), found[0].options["steps"]
    # held-back light is blurred, so it says little of the finest noise: a few rounds too many, but not the worst
    assert truth[chosen] > truth[best] - 1.0
    assert truth[chosen] > min(truth.values()) + 1.5
    assert {one.options["steps"] for one in found} == set(truth)
    assert [one.deviance for one in found] == sorted(one.deviance for one in found)


def test_more_light_wants_more_rounds():
    chosen = [
        tune(
            "richardson-lucy", MICROSCOPE, measured(photons)[1], grid=choices("richardson-lucy"), device=CPU
        )[0].options["steps"]
        for photons in (4.0, 400.0)
    ]
    assert chosen[0] < chosen[1]


def test_saturated_pixels_judge_nothing():
    _, adu = measured(50.0)
    adu[..., 10:14, 10:14] = 65535
    found = tune("richardson-lucy", MICROSCOPE, adu, grid=[{"steps": 3}], device=CPU)
    assert 0.5 < found[0].deviance < 1.5
    with pytest.raises(ConfigError, match="not saturated"):
        tune(
            "richardson-lucy",
            MICROSCOPE,
            torch.full((1, 1, 64, 64), 65535.0),
            grid=[{"steps": 3}],
            device=CPU,
        )
    with pytest.raises(ConfigError, match="without holes"):
        tune("richardson-lucy", MICROSCOPE, adu.masked_fill(adu > 9000, float("nan")), grid=[{}], device=CPU)


def test_engines_that_count_nothing_cannot_be_tuned():
    with pytest.raises(ConfigError, match="names no settings to try"):
        choices("built-in")
    with pytest.raises(ConfigError, match=r"does not count photons.*pixel or richardson-lucy"):
        tune("built-in", {}, torch.rand(1, 1, 64, 64), grid=[{}], device=CPU)
    with pytest.raises(UnknownNameError):
        choices("pixl")


def test_the_brightest_part_is_found():
    plane = torch.zeros(1, 1, 100, 70)
    plane[..., 60:80, 40:60] = 1
    part = brightest_part(plane, 48)
    assert part.shape == (1, 1, 48, 48)
    assert float(part.sum()) == 400
    assert brightest_part(plane, 512).shape == plane.shape


def test_a_profile_is_written_that_restore_reads(tmp_path, capsys):
    pytest.importorskip("diffusers", reason="the network is the one of diffusers")
    tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")
    source, out = tmp_path / "stack.tif", tmp_path / "options.yaml"
    _, adu = measured(30.0, 64)
    planes = torch.cat([adu[0] // 2, adu[0]]).numpy().astype("uint16")
    tifffile.imwrite(source, planes, metadata={"axes": "ZYX"}, photometric="minisblack")
    words = ["tune", str(source), "-o", str(out), "--weights", "built-in", "--device", "cpu", "--crop", "32"]
    words += ["--gain", "2", "--offset-adu", "100", "--try", "steps=2,3", "--try", "guidance=pkl,null"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"steps=\d guidance=(?:pkl|None)", said)) == 4
    profile = yaml.safe_load(out.read_text(encoding="utf-8"))
    settings = profile["engines"]["pixel"]["options"]
    assert settings["gain"] == 2
    assert settings["steps"] in {2, 3}
    restore = [
        "restore",
        str(source),
        "-o",
        str(tmp_path / "out.tif"),
        "--profile",
        str(out),
        "--device",
        "cpu",
    ]
    assert main(restore) == 0
    assert tifffile.imread(tmp_path / "out.tif").shape == planes.shape
    assert main(words) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force", "--try", "steps"]) == 2
    assert "expected KEY=VALUE,VALUE" in capsys.readouterr().err
