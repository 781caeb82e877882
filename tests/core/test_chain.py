"""Engines in a chain: what their commands give one after the other, in one command, named one by one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.chained import restore_through
from hypir_core.cli import main
from hypir_core.engines.chain import Chain, Link
from hypir_core.errors import ConfigError, ImageFileError, ShapeError
from hypir_core.files.reading import read_text
from tests.core.pixel.pixel_networks import engine as pixel_engine
from tests.core.pixel.test_pixel_file import weights as pixel_weights
from tests.core.scene_samples import Enlarge, engine, ramp, restored, write_weights
from tests.core.test_scenes_resume import HERE

tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")

CPU = torch.device("cpu")


def chain(*engines, **requests) -> Chain:
    return Chain(tuple(Link(engine=e, request=requests.get(f"of_{n}")) for n, e in enumerate(engines, 1)))


def run(words, capsys) -> str:
    code = main([str(word) for word in [*words, "--device", "cpu"]])
    said = capsys.readouterr().err
    assert code == 0, said
    return said


# ------------------------------------------------------------------------------------------------------- pictures


def test_a_picture_goes_through_every_engine_and_the_report_names_them(tmp_path, capsys):
    """The second network's own settings come with it; the picture is float32 between the two."""
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray((np.random.default_rng(0).random((10, 13, 3)) * 255).astype(np.uint8)).save(source)
    torch.manual_seed(0)
    one, two = write_weights(tmp_path / "one.safetensors", 3), write_weights(tmp_path / "two.safetensors", 3)
    words = ["restore", source, "-o", out, "--engine", "upscaler", "--weights", one]
    run([*words, "--then", f"upscaler weights={two}", "--report", tmp_path / "report.json"], capsys)
    engines = [load_engine("upscaler", {"weights": str(path)}, device=CPU) for path in (one, two)]
    picture = torch.from_numpy(np.array(Image.open(source))).permute(2, 0, 1)[None] / 255
    expected = restore(
        engines[1], restore(engines[0], picture, Request(), Runtime()).image_01, Request(), Runtime()
    )
    made = torch.from_numpy(np.array(Image.open(out))).permute(2, 0, 1)[None] / 255
    assert made.shape == (1, 3, 40, 52)
    assert (made - expected.image_01).abs().max() <= 0.5 / 255 + 1e-6
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    report = result["report"]
    assert report["engine"] == "upscaler, then upscaler"
    assert report["weights"].count("one.safetensors") == report["weights"].count("two.safetensors") == 1
    assert set(report["settings"]) == {"1 upscaler", "2 upscaler"}
    assert [stage["name"].split(":")[0] for stage in report["stages"]] == ["1 upscaler", "2 upscaler"]
    assert (report["input_px"], report["output_px"]) == ([10, 13], [40, 52])
    assert json.loads(read_text(out)["hypir.report"])["engine"] == report["engine"]


def test_the_size_is_the_whole_chains_and_touches_are_made_once():
    toy = [engine((2, 2), 3, file_values=False) for _ in range(2)]
    wish = Request(target=TargetSize(scale=3), edge_enhance=0.5, sharpen=0.5, seed=7)
    first, last = chain(*toy).requests(wish)
    assert (first.target, last.target) == (TargetSize(), TargetSize(scale=1.5))
    assert (first.edge_enhance, first.sharpen) == (0.5, 0.0)
    assert (last.edge_enhance, last.sharpen) == (0.0, 0.5)
    assert first.seed == last.seed == 7
    picture = torch.rand(1, 3, 9, 11)
    assert restore_through(chain(*toy), picture, wish, Runtime()).image_01.shape == (1, 3, 27, 33)
    alpha = (torch.rand(1, 1, 9, 11) > 0.5).float()
    both = restore_through(chain(*toy), picture, Request(), Runtime(), alpha_01=alpha)
    assert both.alpha_01 is not None
    assert both.alpha_01.shape == (1, 1, 36, 44)
    ticks = []
    restore_through(chain(*toy), picture, Request(), Runtime(progress=lambda tick: ticks.append(tick.whole)))
    assert ticks == sorted(ticks)
    assert ticks[0] < 0.6
    assert ticks[-1] == pytest.approx(1)


def test_a_profile_speaks_to_the_engines_that_it_names(tmp_path, capsys):
    source, out, profile = tmp_path / "in.png", tmp_path / "out.png", tmp_path / "mine.yaml"
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(source)
    one = write_weights(tmp_path / "one.safetensors", 3)
    profile.write_text(
        f"engines:\n  built-in: {{}}\n  upscaler:\n    options: {{weights: {one}}}\n    request: {{seed: 5}}\n"
    )
    run(["restore", source, "-o", out, "--profile", profile, "--then", "upscaler"], capsys)
    report = json.loads(read_text(out)["hypir.report"])
    assert report["engine"] == "built-in, then upscaler"
    assert report["settings"]["2 upscaler"]["request"]["seed"] == 5
    profile.write_text(profile.read_text().replace("{seed: 5}", "{target: {scale: 2}}"))
    words = [
        "restore",
        str(source),
        "-o",
        str(tmp_path / "b.png"),
        "--profile",
        str(profile),
        "--then",
        "upscaler",
    ]
    assert main(words) == 2
    assert "leave target out" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- stacks


@pytest.mark.parametrize("ending", [".ome.tif", ".zarr"])
def test_a_chain_over_a_stack_is_its_commands_one_after_the_other(tmp_path, ending, capsys):
    """Diffusion, then a deconvolution: to the last bit, with axes, number format and the size of a pixel."""
    source = tmp_path / "in.ome.tif"
    values = (300 + np.random.default_rng(0).poisson(40, (2, 3, 24, 28)) * 20).astype(np.uint16)
    about = {"axes": "TZYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.1}
    tifffile.imwrite(source, values, metadata=about, photometric="minisblack")
    net = pixel_weights(tmp_path / "net.safetensors")
    pixel = ["--engine", "pixel", "--weights", net, "--steps", "2", "--guidance", "pkl", "--seed", "3"]
    lucy = {"psf_sigma_px": "1.2", "steps": "3", "gain": "20", "offset_adu": "100"}
    middle, apart, whole = (tmp_path / f"{name}{ending}" for name in ("middle", "apart", "whole"))
    run(["restore", source, "-o", middle, *pixel], capsys)
    flags = [word for key, value in lucy.items() for word in ("--option", f"{key}={value}")]
    run(["restore", middle, "-o", apart, "--engine", "richardson-lucy", *flags, "--seed", "3"], capsys)
    then = " ".join(["richardson-lucy", *(f"{key}={value}" for key, value in lucy.items())])
    report = tmp_path / "report.json"
    run(["restore", source, "-o", whole, *pixel, "--then", then, "--report", report], capsys)
    made, expected = (_read(path) for path in (whole, apart))
    assert made.dtype == np.uint16
    assert made.shape == values.shape
    assert np.array_equal(made, expected)
    assert not np.array_equal(made, _read(middle))
    (result,) = json.loads(report.read_text())["results"]
    told = result["report"]
    assert told["engine"] == "pixel, then richardson-lucy"
    assert told["settings"]["1 pixel"]["guidance"] == "pkl"
    assert told["settings"]["2 richardson-lucy"]["steps"] == 3
    assert {"1 pixel: chi_squared", "2 richardson-lucy: chi_squared"} <= set(told["measures"])
    assert [stage["name"] for stage in told["stages"]] == [
        "1 pixel: step 1/2",
        "1 pixel: step 2/2",
        "2 richardson-lucy: deconvolve",
    ]
    assert not list(tmp_path.glob(".*"))
    if ending == ".ome.tif":
        assert 'PhysicalSizeX="0.2"' in tifffile.tiffcomment(whole)
        with tifffile.TiffFile(whole) as file:
            assert file.series[0].axes == "TZYX"


def _read(path):
    if path.suffix != ".zarr":
        return tifffile.imread(path)
    zarr = pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
    return zarr.open_group(path, mode="r")["0"][:]


def test_bands_are_handed_on_by_name_and_scales_multiply(tmp_path):
    """The second network wants the first one's bands in another order."""
    source = _of_names(tmp_path / "in.ome.tif", "rgb")
    one, two = engine((2, 2), 3), _wanting(engine((2, 2), 3), "bgr")
    restored(one, source, tmp_path / "middle.ome.tif")
    restored(two, tmp_path / "middle.ome.tif", tmp_path / "apart.ome.tif")
    report = restored(chain(one, two), source, tmp_path / "out.ome.tif")
    assert report.output_px == (48, 56)
    made, apart = (tifffile.imread(tmp_path / f"{name}.ome.tif") for name in ("out", "apart"))
    assert made.shape == (3, 48, 56)
    assert np.array_equal(made, apart)
    straight = tifffile.imread(tmp_path / "middle.ome.tif")[::-1].repeat(2, 1).repeat(2, 2)
    assert np.abs(made.astype(int) - straight).max() < 1000  # red and blue have changed places


class Deadly(Enlarge):
    """Kills its own process at one of its calls, as a power cut would."""

    def __init__(self, kill_at: int = 0):
        super().__init__((1, 1))
        self.kill_at, self.calls = kill_at, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


CHILD = (
    HERE
    + """
from pathlib import Path
from tests.core.test_chain import Deadly, chain, engine, restored
made = chain(engine((1, 1), net=Deadly()), engine((1, 1), net=Deadly(2)))
restored(made, Path({source!r}), Path({out!r}), key="k" * 32)
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_chain_goes_on_in_the_link_where_it_was(tmp_path, request):
    source, out, whole = (tmp_path / name for name in ("in.tif", "out.ome.tif", "whole.ome.tif"))
    tifffile.imwrite(source, ramp(3, 20, 24), imagej=True, metadata={"axes": "ZYX"})
    restored(chain(engine((1, 1), net=Deadly()), engine((1, 1), net=Deadly())), source, whole)
    code = CHILD.format(root=str(request.config.rootpath), source=str(source), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    (tmp_path / ".out.ome.tif.aaaa.chain").mkdir()  # of a run with another key
    first, second = Deadly(), Deadly()
    made = chain(engine((1, 1), net=first), engine((1, 1), net=second))
    report = restored(made, source, out, key="k" * 32)
    assert (first.calls, second.calls) == (0, 2)
    assert any("taken from a stopped run" in note for note in report.notes)
    assert np.array_equal(tifffile.imread(out), tifffile.imread(whole))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "out.ome.tif", "whole.ome.tif"]


def test_a_damaged_plane_ends_a_chain(tmp_path):
    source, out = tmp_path / "in.tif", tmp_path / "out.ome.tif"
    tifffile.imwrite(
        source, ramp(3, 20, 24), compression="zlib", metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    with tifffile.TiffFile(source) as file:
        at, size = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    data = bytearray(source.read_bytes())
    data[at + 10 : at + size] = bytes(size - 10)
    source.write_bytes(data)
    lucy = load_engine("richardson-lucy", {"psf_sigma_px": 1.0, "steps": 1}, device=CPU)
    with pytest.raises(ImageFileError, match=r"damaged block at z 1.* a chain of engines ends there"):
        restored(chain(lucy, lucy), source, out)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


# ---------------------------------------------------------------------------------------------- what cannot be


class Counted(Enlarge):
    """Fails the test that lets it run."""

    def forward(self, x):
        raise AssertionError("a network ran before everything was checked")


def unrun(scale=(1, 1), channels: int = 1, **more):
    return engine(scale, channels, net=Counted(scale), **more)


@pytest.mark.parametrize(
    ("made", "axes", "wish", "error", "said"),
    [
        (lambda: (unrun(), unrun((1, 1, 1))), "YX", {}, ConfigError, "restores volumes of 3 axes"),
        (lambda: (unrun(), unrun((2, 2), 3)), "ZYX", {}, ShapeError, "takes 3 channels, in.tif has 1"),
        (
            lambda: (unrun((1, 1), 3), unrun((1, 1), 4)),
            "CYX",
            {},
            ShapeError,
            "takes 4 channels, and 'toy' before it",
        ),
        (
            lambda: (unrun((2, 2)), unrun((2, 2))),
            "ZYX",
            {"scale": 3},
            ConfigError,
            "larger by a whole factor",
        ),
        (lambda: (unrun((2, 2)), unrun((2, 2))), "ZYX", {"scale": 1.5}, ConfigError, "expected 2 or more"),
        (
            lambda: (unrun((1, 1)), unrun((2, 2))),
            "ZYX",
            {"longest_side_px": 100},
            ConfigError,
            "whole factor",
        ),
    ],
)
def test_a_wrong_chain_is_refused_before_any_work(tmp_path, made, axes, wish, error, said):
    source, out = tmp_path / "in.tif", tmp_path / "out.ome.tif"
    shape = {"YX": (12, 14), "ZYX": (4, 12, 14), "CYX": (3, 12, 14)}[axes]
    tifffile.imwrite(source, ramp(*shape), imagej=True, metadata={"axes": axes})
    with pytest.raises(error, match=said) as told:
        restored(chain(*made()), source, out, Request(target=TargetSize(**wish)))
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def _of_names(path, names: str):
    about = {"axes": "CYX", "Channel": {"Name": list(names)}}
    values = ramp(3, 12, 14) + np.array([0, 3000, 9000], np.uint16)[:, None, None]
    tifffile.imwrite(path, values, metadata=about, photometric="minisblack")
    return path


def _wanting(toy, names: str):
    return replace(toy, spec=replace(toy.spec, bands=tuple(names)))


def test_bands_of_other_names_are_refused_before_any_work(tmp_path):
    source = _of_names(tmp_path / "in.ome.tif", "abc")
    made = chain(unrun((1, 1), 3), _wanting(unrun((1, 1), 3), "bgr"))
    with pytest.raises(ImageFileError, match="'toy' before 'toy': the weights take the bands b, g, r"):
        restored(made, source, tmp_path / "out.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["in.ome.tif"]


@pytest.mark.parametrize(
    ("made", "wish", "error", "said"),
    [
        (
            (unrun((2, 2), 3, file_values=False), unrun((1, 1), 1)),
            {},
            ShapeError,
            "takes 1 channel, and the result of",
        ),
        ((unrun((8, 8), 3), unrun((8, 8), 3)), {}, ConfigError, "longest side allowed is 16384"),
        ((unrun((2, 2), 3), unrun((1, 1, 1), 3)), {}, ConfigError, "volumes of 3 axes"),
        ((unrun((2, 2), 3), unrun((2, 2), 3)), {"strength": 0.5}, ConfigError, "leave strength out"),
        (
            (unrun((2, 2), 3), unrun((2, 2), 3)),
            {"target": TargetSize(scale=1)},
            ConfigError,
            "expected 2 or more",
        ),
    ],
)
def test_a_picture_that_a_later_engine_could_not_take_is_refused_before_any_work(made, wish, error, said):
    with pytest.raises(error, match=said) as told:
        restore_through(chain(*made), torch.rand(1, 3, 300, 20), Request(**wish), Runtime())
    assert "\n" not in str(told.value)


def test_an_engine_that_keeps_the_size_is_asked_before_any_work():
    last = pixel_engine(Silent(), steps=1)
    made = chain(unrun((2, 2)), last)
    with pytest.raises(ConfigError, match="keeps the size of a picture"):
        restore_through(made, torch.rand(1, 1, 20, 20), Request(target=TargetSize(scale=4)), Runtime())
    with pytest.raises(ConfigError, match="keeps the size of a picture"):
        restore_through(
            made, torch.rand(1, 1, 20, 20), Request(target=TargetSize(longest_side_px=60)), Runtime()
        )


class Silent(nn.Module):
    receptive_radius, fold, maps_per_cell = 0, 1, 1

    def forward(self, x, t=0.0):
        raise AssertionError("a network ran before everything was checked")


def test_a_mask_has_no_place_in_a_chain():
    made = chain(unrun((1, 1), 3), unrun((1, 1), 3))
    with pytest.raises(ConfigError, match="leave the mask out"):
        restore_through(made, torch.rand(1, 3, 8, 8), Request(), Runtime(), mask_01=torch.ones(1, 1, 8, 8))
    with pytest.raises(ConfigError, match="two engines or more"):
        Chain((Link(engine=unrun()),))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--then", "bilt-in"), "did you mean 'built-in'"),
        (("--then", ""), "expected an engine and its settings"),
        (("--then", "built-in 'x"), "No closing quotation"),
        (("--then", "upscaler weights"), "expected KEY=VALUE"),
        (("--then", "built-in nonsense=1"), "nonsense"),
        (("--then", "upscaler weights=none.safetensors"), "none.safetensors"),
        (("--then", "built-in", "--strength", "0.5"), "leave strength out"),
        (("--then", "built-in", "--scale", "2"), "expected 4 or more"),
    ],
)
def test_a_chain_that_cannot_be_is_said_in_one_line(tmp_path, words, said, capsys):
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(source)
    code = main(["restore", str(source), "-o", str(out), "--device", "cpu", *words])
    told = capsys.readouterr().err
    assert code in {1, 2}
    assert re.search(said, told), told
    assert len(told.strip().splitlines()) == 1
    assert not out.exists()
