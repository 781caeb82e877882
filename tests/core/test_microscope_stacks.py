"""Stacks of a microscope: every number, axis and size of a pixel comes back; what cannot be read is told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from hypir_core import EngineSpec, load_engine
from hypir_core.cli import main
from hypir_core.engines.base import Prepared
from hypir_core.files.scenes.axes import Wanted
from hypir_core.files.scenes.catalog import open_scene
from hypir_core.image.ranges import RangeConfig, RangeKind
from hypir_core.physics.camera import Camera
from hypir_core.physics.operator import PsfOperator
from hypir_core.physics.psf import gaussian_psf, read_psf
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileConfig
from hypir_core.tiling.stage import Stage
from hypir_core.weights.prediction import Prediction
from tests.core.pixel.pixel_networks import Known
from tests.core.pixel.pixel_networks import engine as pixel_engine
from tests.core.pixel.pixel_networks import spec as pixel_spec
from tests.core.scene_samples import engine, restored
from tests.core.test_scenes_resume import HERE

tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")

LENGTHS = {"T": 2, "Z": 3, "C": 2, "Y": 10, "X": 13}
SPACING = {"y": 0.1, "x": 0.2}


class Same(nn.Module):
    def forward(self, x):
        return x


def arange(axes: str, dtype: str) -> np.ndarray:
    """Every cell has a number of its own (as far as the format has so many), so no swap passes unseen."""
    shape = [LENGTHS[axis] for axis in axes]
    return (
        (np.arange(np.prod(shape)) % 251 if dtype == "uint8" else np.arange(np.prod(shape)))
        .reshape(shape)
        .astype(dtype)
    )


def written(path, values, axes, kind):
    if kind == "zarr":
        zarr = pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
        group = zarr.open_group(path, mode="w", zarr_format=2)
        scale = [SPACING.get(a.lower(), 1.0) for a in axes]
        names = [
            {"name": a.lower(), "type": "space", "unit": "micrometer"} if a in "ZYX" else {"name": a.lower()}
            for a in axes
        ]
        change = [{"type": "scale", "scale": scale}]
        group.attrs["multiscales"] = [
            {
                "version": "0.4",
                "axes": names,
                "datasets": [{"path": "0", "coordinateTransformations": change}],
            }
        ]
        group.create_array("0", data=values, chunks=(1,) * (values.ndim - 2) + values.shape[-2:])
        return
    resolution = tuple(1 / SPACING[a] for a in "xy")
    if kind == "imagej":
        tifffile.imwrite(
            path, values, imagej=True, resolution=resolution, metadata={"axes": axes, "unit": "um"}
        )
    else:
        sizes = {"PhysicalSizeX": SPACING["x"], "PhysicalSizeY": SPACING["y"]}
        tifffile.imwrite(
            path, values, metadata={"axes": axes, **sizes}, photometric="minisblack", compression="zlib"
        )


CASES = [
    (kind, axes, dtype)
    for kind, dtypes in (
        ("imagej", ("uint8", "uint16", "float32")),
        ("ome", ("uint16", "int32")),
        ("zarr", ("uint16", "uint32")),
    )
    for axes in ("YX", "ZYX", "CYX", "TCYX", "TZCYX")
    for dtype in dtypes
]
ENDINGS = {"imagej": ".tif", "ome": ".ome.tif", "zarr": ".zarr"}


@pytest.mark.parametrize(("kind", "axes", "dtype"), CASES)
def test_a_stack_comes_back_as_it_is(tmp_path, kind, axes, dtype):
    """Through a network that changes nothing: numbers, their format, axes and the size of a pixel."""
    source, out = tmp_path / f"in{ENDINGS[kind]}", tmp_path / f"out{ENDINGS[kind]}"
    values = arange(axes, dtype)
    written(source, values, axes, kind)
    report = restored(engine((1, 1), 1, net=Same()), source, out)
    assert report.input_px == report.output_px
    if kind == "zarr":
        import zarr

        group = zarr.open_group(out, mode="r")
        assert np.array_equal(group["0"][:], values)
        assert group["0"].dtype == values.dtype
        (picture,) = group.attrs["ome"]["multiscales"]
        assert "".join(axis["name"] for axis in picture["axes"]).upper() == axes
        scale = picture["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert scale == pytest.approx([SPACING.get(a.lower(), 1.0) for a in axes])
        return
    with tifffile.TiffFile(out) as file:
        series = file.series[0]
        assert series.axes == axes
        assert series.dtype == values.dtype
        assert np.array_equal(series.asarray(), values)
        assert file.is_ome == (kind == "ome")
        assert file.is_imagej == (kind == "imagej")
    scene = open_scene(out, Wanted(), format_name="stack")
    assert scene.placement.spacing["x"] == pytest.approx(SPACING["x"])
    assert scene.placement.spacing["y"] == pytest.approx(SPACING["y"])
    scene.close()


class Drawn:
    """A stage per step on whole planes, as diffusion has: adds noise of the request's seed, kills itself at one call."""

    spec = EngineSpec(
        name="toy", weights="none", in_channels=1, out_channels=1, default_scale=1.0, file_values=True
    )

    def __init__(self, kill_at: int = 0):
        self.kill_at, self.calls = kill_at, 0

    def prepare(self, image, size_px, request):
        assert isinstance(image, Plane)
        noise = torch.randn(image.data.shape, generator=torch.Generator().manual_seed(request.seed))
        return Prepared(plane=Plane(image.data + 10 * noise), content_px=tuple(size_px))

    def stages(self, prepared, request):
        def run(tile, guides):
            self.calls += 1
            if self.calls == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return tile + 1

        return tuple(
            Stage(
                name=f"step {i}/2",
                work="step",
                run=run,
                out_channels=1,
                out_strides=1,
                grain_px=1,
                bytes_per_px=10,
                tile=TileConfig(tile_px=64, overlap_px=0),
                after=lambda _before, out: Plane(out.data + 1),
            )
            for i in (1, 2)
        )


CHILD = (
    HERE
    + """
from pathlib import Path
from tests.core.test_microscope_stacks import Drawn
from tests.core.scene_samples import restored
restored(Drawn(kill_at=8), Path({source!r}), Path({out!r}), key="k" * 32)
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_of_several_stages_goes_on_with_the_next_plane(tmp_path, request):
    source, out, whole = (tmp_path / name for name in ("in.ome.tif", "out.ome.tif", "whole.ome.tif"))
    tifffile.imwrite(
        source, 1000 + arange("ZYX", "uint16"), metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    assert Drawn().spec.streams is False
    restored(Drawn(), source, whole)
    code = CHILD.format(root=str(request.config.rootpath), source=str(source), out=str(out))
    code = code.replace("kill_at=8", "kill_at=6")  # in the last step of the third of three planes
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    (journal,) = tmp_path.glob(".out.ome.tif*.journal")
    assert json.loads(journal.read_text())["rows"] == 2 * LENGTHS["Y"]
    again = Drawn()
    restored(again, source, out, key="k" * 32)
    assert again.calls == 2
    a, b = tifffile.imread(out), tifffile.imread(whole)
    assert np.array_equal(a, b)
    rest = a.astype(float) - 1000 - arange("ZYX", "uint16") - 4
    assert 5 < rest.std() < 15
    assert (
        np.abs(np.corrcoef(rest.reshape(3, -1)) - np.eye(3)).max() < 0.4
    )  # noise of its own for every plane


def exposed(planes: int, *, photons: float = 200.0, seed: int = 0):
    """Return light [z y x] in electrons, and what a camera with gain 2 and offset 100 writes of it behind σ 1.2 px."""
    rng = torch.Generator().manual_seed(seed)
    light = torch.zeros(planes, 1, 40, 48)
    places = torch.randint(4, 36, (planes, 12, 2), generator=rng)
    for plane in range(planes):
        for y, x in places[plane]:
            light[plane, 0, y, x] = photons
    light = PsfOperator(gaussian_psf((1.0, 1.0))).A(light + 2)
    camera = Camera(offset_adu=100, gain=2, read_noise_e=1)
    seen = camera.expose(PsfOperator(gaussian_psf((1.2, 1.2))).A(light) + 3, rng)
    return light[:, 0], seen[:, 0].numpy().astype(np.uint16)


MICROSCOPE = {"psf_sigma_px": 1.2, "gain": 2.0, "offset_adu": 100.0, "read_noise_e": 1.0, "background_e": 3.0}


def deconvolving(**more):
    return load_engine("richardson-lucy", MICROSCOPE | more, device=torch.device("cpu"))


def test_the_report_says_what_the_result_explains_and_how_near_it_is(tmp_path):
    light, seen = exposed(3)
    source, truth = tmp_path / "in.ome.tif", tmp_path / "truth.ome.tif"
    tifffile.imwrite(source, seen, metadata={"axes": "ZYX"}, photometric="minisblack")
    tifffile.imwrite(
        truth, (100 + 2 * (light + 3)).numpy(), metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    near = restored(deconvolving(steps=10), source, tmp_path / "a.ome.tif", truth=truth).measures
    assert 0.7 < near["chi_squared"] < 1.1
    assert near["psnr_db"] > 25
    assert 2 <= near["frc_px"] < 6
    assert near["ssim"] > 0.7
    blind = restored(
        deconvolving(steps=10, background_e=0.0, gain=0.5), source, tmp_path / "b.ome.tif"
    ).measures
    assert blind["chi_squared"] > 2  # photons are counted four times: too noisy for so much light
    same = restored(engine((1, 1), 1, net=Same()), truth, tmp_path / "c.ome.tif", truth=truth)
    assert same.measures == {"ssim": pytest.approx(1), "frc_px": 2.0}
    assert "no number differs" in same.notes[-1]


def test_whole_planes_and_rows_are_explained_alike(tmp_path, monkeypatch):
    """Surroundings of a block of rows are read with it."""
    _, seen = exposed(2)
    source = tmp_path / "in.ome.tif"
    tifffile.imwrite(source, seen, metadata={"axes": "ZYX"}, photometric="minisblack")
    whole = restored(deconvolving(), source, tmp_path / "a.ome.tif").measures
    monkeypatch.setattr("hypir_core.scenes.figures.READ_VALUES", 48 * 7)
    rows = restored(deconvolving(), source, tmp_path / "b.ome.tif").measures
    assert rows == pytest.approx(whole, rel=1e-3)


def test_pixel_diffusion_has_one_unit_of_light_for_all_planes(tmp_path):
    """A dim plane stays dim beside a bright one, and the unit is fitted on both."""
    seen = np.stack([np.full((16, 16), 100, np.uint16), np.full((16, 16), 100, np.uint16)])
    seen[0, 4:8, 4:8] = 300
    seen[1, 4:8, 4:8] = 60_000
    source = tmp_path / "in.ome.tif"
    tifffile.imwrite(source, seen, metadata={"axes": "ZYX"}, photometric="minisblack")
    range_ = RangeConfig(kind=RangeKind.minmax, symmetric=True)
    of = pixel_spec(value_range=range_, conditional=True, camera={"offset_adu": 100.0, "gain": 2.0})
    made = pixel_engine(Known(Prediction.x0, torch.linspace(0.99, 0.01, 100)), of, steps=2, psf_sigma_px=0.0)
    report = restored(made, source, tmp_path / "out.ome.tif")
    assert np.abs(tifffile.imread(tmp_path / "out.ome.tif").astype(int) - seen).max() <= 2
    assert report.measures["chi_squared"] < 0.1
    assert [stage.name for stage in report.stages] == ["step 1/2", "step 2/2"]


PLANES = 1000 + np.arange(5 * 40 * 48, dtype=np.uint16).reshape(5, 40, 48)


def from_the_command_line(source, out, *more, capsys):
    words = [
        "restore",
        str(source),
        "-o",
        str(out),
        "--engine",
        "richardson-lucy",
        "--steps",
        "2",
        "--device",
        "cpu",
    ]
    code = main(
        [
            *words,
            *(() if any(word.startswith("--psf") for word in more) else ("--psf-sigma-px", "1.2")),
            *more,
        ]
    )
    return code, capsys.readouterr().err


def test_a_damaged_page_in_the_middle_is_named_and_the_others_are_done(tmp_path, capsys):
    source, out, whole = (tmp_path / name for name in ("in.tif", "out.ome.tif", "whole.ome.tif"))
    tifffile.imwrite(source, PLANES, compression="zlib", metadata={"axes": "ZYX"}, photometric="minisblack")
    assert from_the_command_line(source, whole, capsys=capsys)[0] == 0
    with tifffile.TiffFile(source) as file:
        at, size = file.pages[2].dataoffsets[0], file.pages[2].databytecounts[0]
    data = bytearray(source.read_bytes())
    data[at + 10 : at + size] = bytes(size - 10)
    source.write_bytes(data)
    code, said = from_the_command_line(source, out, capsys=capsys)
    assert code == 1
    assert "damaged block at z 2" in said
    assert "the other planes are done" in said
    got, good = tifffile.imread(out).astype(int), tifffile.imread(whole).astype(int)
    assert (got[2] == 0).all()
    others = [0, 1, 3, 4]
    assert np.abs(got[others] - good[others])[:, 6:-6, 6:-6].max() < 40  # the flat start is another mean


BAD = {
    "unknown axes": ({"metadata": {"axes": "QYX"}, "ome": True}, (), r"axes out of TZCYX, got QYX .*--axes"),
    "wrong letters": ({}, ("--axes", "ZZX"), "each of TZCYX at most once"),
    "no gain": ({}, ("--gain", "0"), "gain must be above 0"),
    "offset": ({}, ("--offset-adu", "70000"), "offset_adu must lie in 0 … 65535"),
    "two point spreads": ({}, ("--psf", "x.tif", "--psf-sigma-px", "1"), "exclude each other"),
    "no such file": ({}, ("--psf", "x.tif"), r"x\.tif: expected a TIFF of a point spread"),
    "light spreads far": ({}, ("--psf-sigma-px", "30"), r"light spreads 120 px, and the planes have 40×48"),
    "another size": ({}, ("--scale", "2"), "larger by a whole factor that the network has"),
    "no such truth": ({}, ("--truth", "t.tif"), r"--truth t\.tif: there is no such file"),
    "strength": ({}, ("--strength", "0.5"), "keeps its own values"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_said_in_one_line_and_leaves_nothing(tmp_path, name, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how, words, match = BAD[name]
    source = tmp_path / ("in.ome.tif" if how.get("ome") else "in.tif")
    tifffile.imwrite(source, PLANES, photometric="minisblack", **{"metadata": {"axes": "ZYX"}, **how})
    code, said = from_the_command_line(source, tmp_path / "out.ome.tif", *words, capsys=capsys)
    assert code in {1, 2}
    assert re.search(match, said), said
    assert len(said.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_store_that_exists_is_kept(tmp_path, capsys):
    pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
    source, out = tmp_path / "in.tif", tmp_path / "out.zarr"
    tifffile.imwrite(source, PLANES, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert from_the_command_line(source, out, capsys=capsys)[0] == 0
    before = sorted(path.stat().st_mtime_ns for path in out.rglob("*"))
    code, said = from_the_command_line(source, out, capsys=capsys)
    assert code == 1
    assert "exists; use --force" in said
    assert sorted(path.stat().st_mtime_ns for path in out.rglob("*")) == before


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
from hypir_core.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The system refuses to let a file grow beyond 6000 bytes, as a full disk does."""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_disk_that_is_full_in_the_middle_of_a_stack_is_said_and_leaves_no_result(tmp_path):
    source, out = tmp_path / "in.tif", tmp_path / "out" / "out.ome.tif"
    out.parent.mkdir()
    tifffile.imwrite(source, PLANES, metadata={"axes": "ZYX"}, photometric="minisblack")
    words = ["restore", str(source), "-o", str(out), "--engine", "richardson-lucy", "--psf-sigma-px", "1.2"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *words, "--device", "cpu"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"File too large|room on the disk", done.stderr)
    assert not out.exists()


def test_what_is_odd_is_noted(tmp_path, capsys):
    """Holes with their planes, saturated and dark pixels, nothing to see, a lopsided point spread, 12 and 32 bits."""
    made = {name: PLANES.astype(np.float32) for name in ("holes", "dark")} | {
        "saturated": PLANES.copy(),
        "flat": np.full_like(PLANES, 7),
        "zero": np.zeros_like(PLANES),
        "int32": PLANES.astype(np.int32),
        "uint32": PLANES.astype(np.uint32),
        "bits12": np.minimum(PLANES, 4095),
    }
    made["holes"][1, 3:6, 4:9] = np.nan
    made["holes"][4, 20, 20] = np.inf
    made["saturated"][1] = 65535
    lopsided = np.zeros((7, 7), np.float32)
    lopsided[5, 5] = 1
    tifffile.imwrite(tmp_path / "psf.tif", lopsided)
    said = {}
    for name, values in made.items():
        source, out = tmp_path / f"{name}.tif", tmp_path / "out" / f"{name}.ome.tif"
        tifffile.imwrite(source, values, metadata={"axes": "ZYX"}, photometric="minisblack")
        words = {
            "dark": ("--offset-adu", "9000"),
            "bits12": ("--camera-bits", "12"),
            "int32": ("--psf", str(tmp_path / "psf.tif")),
        }
        code, said[name] = from_the_command_line(source, out, *words.get(name, ()), capsys=capsys)
        assert code == 0, said[name]
        got = tifffile.imread(out)
        assert got.dtype == values.dtype
        assert np.isnan(got).sum() == (16 if name == "holes" else 0)
    assert "(at z 1, z 4)" in said["holes"]
    assert "nan" not in said["holes"]
    assert "darker than the camera's offset: check offset_adu" in said["dark"]
    assert "20.00% of the pixels are saturated" in said["saturated"]
    assert re.search(r"\d\d\.\d\d% of the pixels are saturated", said["bits12"])
    assert "saturated" not in said["uint32"] + said["holes"]
    assert "off its centre by +2.00 and +2.00 px" in said["int32"]
    assert (tifffile.imread(tmp_path / "out" / "zero.ome.tif") == 0).all()
    assert (tifffile.imread(tmp_path / "out" / "flat.ome.tif") == 7).all()


def test_a_point_spread_from_beads(tmp_path, capsys):
    beads = torch.zeros(1, 1, 96, 96)
    for y, x in ((20, 20), (60, 30), (30, 70), (75, 75)):
        beads[0, 0, y, x] = 40_000
    seen = Camera(offset_adu=100).expose(
        PsfOperator(gaussian_psf((1.5, 1.5))).A(beads) + 4, torch.Generator().manual_seed(0)
    )
    stack = np.stack([np.full((96, 96), 100, np.uint16), seen[0, 0].numpy().astype(np.uint16)])
    tifffile.imwrite(tmp_path / "beads.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    words = ["psf", str(tmp_path / "beads.tif"), "-o", str(tmp_path / "psf.tif"), "--size", "15"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "4 beads averaged, 15×15 px, about 3." in out
    assert "sharpest plane is taken, z 1" in err
    found = read_psf(tmp_path / "psf.tif")
    assert (found - gaussian_psf((1.5, 1.5), size_px=(15, 15))).abs().max() < 0.003
    assert main(words) == 1  # it exists
    assert main([*words, "--force", "--size", "16"]) == 2
    assert "odd" in capsys.readouterr().err
