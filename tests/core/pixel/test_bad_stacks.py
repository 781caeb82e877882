"""Bad and odd stacks of every format through the engine of pixels: one line, no partial file, or a note that says so."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from hypir_core.cli import main
from tests.core.pixel.test_pixel_file import weights

tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")
pytest.importorskip("diffusers", reason="the network is the one of diffusers")

FORMATS = ("tiff", "ome", "imagej", "zarr")
ENDINGS = {"tiff": ".tif", "ome": ".ome.tif", "imagej": ".tif", "zarr": ".zarr"}
STACK = (300 + np.random.default_rng(0).poisson(20, (3, 24, 28)) * 20).astype(np.uint16)


def written(folder, kind: str, values: np.ndarray, axes: str = "ZYX"):
    path = folder / f"in{ENDINGS[kind]}"
    if kind == "zarr":
        zarr = pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
        group = zarr.open_group(path, mode="w", zarr_format=2)
        group.attrs["multiscales"] = [
            {"version": "0.4", "axes": [{"name": a.lower()} for a in axes], "datasets": [{"path": "0"}]}
        ]
        group.create_array("0", data=values, chunks=(1,) * (values.ndim - 2) + values.shape[-2:])
    elif kind == "imagej":
        tifffile.imwrite(path, values, imagej=True, metadata={"axes": axes})
    else:
        tifffile.imwrite(path, values, metadata={"axes": axes}, photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("net") / "net.safetensors", peaks_e=(2.5, 79.0))


@pytest.fixture
def run(net, tmp_path, capsys):
    """Restores a file; returns the exit code, what was said, and the result, read again."""

    def of(source, *words, engine: tuple[str, ...] | None = None, name: str = "out"):
        kind = ".zarr" if source.suffix == ".zarr" else ".ome.tif"
        out = tmp_path / "made" / f"{name}{kind}"
        pixel = ("--engine", "pixel", "--weights", str(net), "--steps", "2", "--guidance", "pkl")
        code = main(
            [
                "restore",
                str(source),
                "-o",
                str(out),
                *(pixel if engine is None else engine),
                "--device",
                "cpu",
                *words,
            ]
        )
        said = capsys.readouterr().err
        left = sorted(path.name for path in out.parent.iterdir()) if out.parent.exists() else []
        if code:
            assert left == [] or "the other planes are done" in said
            assert len(said.strip().splitlines()) == 1, said
        else:
            assert left == [out.name]
        return code, said, _read(out) if out.exists() else None

    return of


def _read(path):
    if path.suffix != ".zarr":
        return tifffile.imread(path)
    import zarr

    return zarr.open_group(path, mode="r")["0"][:]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stack_is_no_picture_for_an_engine_of_photos(run, tmp_path, kind):
    """One of its pages would come out, and a file that claims all of them."""
    code, said, _ = run(written(tmp_path, kind, STACK), engine=("--engine", "built-in"))
    assert code == 1
    assert re.search(
        r"'built-in' takes 3 channels, in\S+ has 1 .*choose an engine or weights made for 1", said
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_holes_stay_where_they_are_and_their_planes_are_named(run, tmp_path, kind):
    values = STACK.astype(np.float32)
    values[0] = np.nan
    values[2, 3, 4:6] = np.inf, -np.inf
    code, said, made = run(written(tmp_path, kind, values))
    assert code == 0
    assert f"{24 * 28 + 2} of {3 * 24 * 28} cells have no data" in said
    assert "(at z 0, z 2)" in said
    assert np.array_equal(np.isfinite(made), np.isfinite(values))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stack_without_any_data_is_refused(run, tmp_path, kind):
    code, said, _ = run(written(tmp_path, kind, np.full((2, 8, 8), np.nan, np.float32)))
    assert code == 1
    assert "expected some cells with data, got none" in said


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", [0, 7, 300])
def test_stacks_with_nothing_to_see_are_restored(run, tmp_path, kind, value):
    """Constant, all zero, all below the offset: numbers come out, and nobody takes them for wrong."""
    code, said, made = run(written(tmp_path, kind, np.full_like(STACK, value)))
    assert code == 0
    assert made.dtype == np.uint16
    assert made.shape == STACK.shape
    assert "constant" not in said
    below = "100.00% of the pixels are darker than the camera's offset: check offset_adu" in said
    assert below == (value < 100)


@pytest.mark.parametrize("kind", FORMATS)
def test_saturated_and_dark_pixels_are_counted(run, tmp_path, kind):
    values = STACK.copy()
    values[1, :3], values[2, :2] = 65535, 40
    code, said, _ = run(written(tmp_path, kind, values))
    assert code == 0
    assert f"{3 * 28 / STACK.size:.2%} of the pixels are saturated" in said
    assert f"{2 * 28 / STACK.size:.2%} of the pixels are darker than the camera's offset" in said


def test_few_saturated_pixels_are_not_worth_a_word(run, tmp_path):
    values = STACK.copy()
    values[1, 0, 0] = 65535  # one of 2016, .05 %
    code, said, _ = run(written(tmp_path, "ome", values))
    assert code == 0
    assert "are saturated" not in said


@pytest.mark.parametrize("kind", FORMATS)
def test_planes_smaller_than_the_networks_grain(run, tmp_path, kind):
    code, _, made = run(written(tmp_path, kind, STACK[:, :3, :2]))
    assert code == 0
    assert made.shape == (3, 3, 2)


@pytest.mark.parametrize("kind", FORMATS)
def test_planes_smaller_than_the_point_spread(run, tmp_path, kind):
    code, said, _ = run(written(tmp_path, kind, STACK[:, :3, :3]), "--psf-sigma-px", "1")
    assert code == 1
    assert "light spreads 4 px" in said


TYPES = [
    (kind, dtype)
    for kind, dtypes in (
        ("tiff", ("int16", "int32", "uint32", "float64")),
        ("ome", ("int16", "int32", "uint32", "float64")),
        ("zarr", ("int16", "int32", "uint32", "int64", "float64")),
    )
    for dtype in dtypes
]


@pytest.mark.parametrize(("kind", "dtype"), TYPES)
def test_every_format_of_numbers_comes_back(run, tmp_path, kind, dtype):
    """The same light in another format is the same result."""
    _, _, plain = run(written(tmp_path / "a", kind, STACK) if _made(tmp_path / "a") else None, name="plain")
    shutil.rmtree(tmp_path / "made")
    code, _, made = run(written(tmp_path, kind, STACK.astype(dtype)))
    assert code == 0
    assert made.dtype == dtype
    assert np.abs(made.astype(float) - plain).max() <= 1


def _made(folder) -> bool:
    folder.mkdir()
    return True


def test_what_a_format_cannot_hold_is_said_before_the_work(run, tmp_path):
    source = written(tmp_path, "tiff", STACK.astype(np.int64))
    code, said, _ = run(source)
    assert code == 1
    assert "expected a format that holds int64, got OME-TIFF" in said
    code, _, made = run(source, "--bits", "32")
    assert (code, made.dtype) == (0, np.float32)
    out = tmp_path / "out.tif"
    words = ("--engine", "richardson-lucy", "--psf-sigma-px", "1", "--device", "cpu")
    assert main(["restore", str(source), "-o", str(out), *words]) == 0
    assert tifffile.imread(out).dtype == np.int64


def test_complex_numbers_are_refused(run, tmp_path):
    code, said, _ = run(written(tmp_path, "tiff", STACK.astype(np.complex64)))
    assert code == 1
    assert "expected integers or floats, got complex64" in said


def test_twelve_bits_in_sixteen(run, tmp_path):
    """What the camera cannot write is saturated: 4095 of 12 bits, in a file of 16."""
    values = np.minimum(STACK, 4095)
    values[0, :2] = 4095
    source = written(tmp_path, "imagej", values)
    assert "are saturated" not in run(source, name="a")[1]
    shutil.rmtree(tmp_path / "made")
    assert f"{2 * 28 / STACK.size:.2%} of the pixels are saturated" in run(source, "--camera-bits", "12")[1]


@pytest.mark.parametrize("kind", ["tiff", "ome"])
def test_axes_that_nobody_knows_are_asked_for(run, tmp_path, kind):
    values, axes = (STACK, "QYX") if kind == "ome" else (np.stack([STACK, STACK]), "QZYX")
    source = written(tmp_path, kind, values, axes)
    code, said, _ = run(source)
    assert code == 1
    likely = axes.replace("Q", "Z" if kind == "ome" else "T")
    assert re.search(rf"expected axes out of TZCYX, got {axes} .*--axes, such as {likely}", said), said
    code, _, made = run(source, "--axes", likely)
    assert code == 0
    assert made.shape == values.shape


def test_colours_for_a_network_of_one_channel(run, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 65535, (3, 24, 28, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "plane.tif", rgb[0], photometric="rgb")
    code, said, _ = run(tmp_path / "plane.tif")
    assert code == 1
    assert "'pixel' takes 1 channel, the picture has 3" in said
    tifffile.imwrite(tmp_path / "stack.tif", rgb, photometric="rgb")
    code, said, _ = run(tmp_path / "stack.tif")
    assert code == 1
    assert "got QYXS of 3×24×28×3; say what they are with --axes, such as ZYXC" in said
    code, said, made = run(written(tmp_path, "zarr", np.moveaxis(rgb, -1, 1), "ZCYX"))
    assert code == 0
    assert made.shape == (3, 3, 24, 28)
    assert "each of 3 channels went through the network for itself" in said


@pytest.mark.parametrize("kind", ["tiff", "ome", "imagej"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.66])
def test_a_file_that_was_cut_off_is_refused(run, tmp_path, kind, part):
    source = written(tmp_path, kind, STACK)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * part)])
    code, said, _ = run(source)
    assert code == 1
    assert re.search(r"expected a (complete picture|picture), .*copy it again from its source", said), said


def test_a_file_whose_words_were_cut_off_says_so(run, tmp_path):
    """All pages are there, and the text that names the axes is not."""
    source = written(tmp_path, "ome", STACK)
    source.write_bytes(source.read_bytes()[:-30])
    code, said, made = run(source)
    assert code == 0
    assert made.shape == STACK.shape
    assert "note: the file may be damaged" in said
    assert "the file names no axes" in said
    assert all(line.startswith("hypir: ") for line in said.splitlines())  # nothing of the library's own


def test_a_damaged_block_of_a_store_is_named_and_the_other_planes_are_done(run, tmp_path):
    source = written(tmp_path, "zarr", STACK)
    (block,) = (path for path in source.rglob("*") if path.name in {"1.0.0", "1"} and path.is_file())
    block.write_bytes(block.read_bytes()[:20])
    code, said, made = run(source)
    assert code == 1
    assert re.search(r"damaged block at z 1.*the other planes are done", said)
    assert (made[1] == 0).all()
    assert made[0].any()
    assert made[2].any()


def test_light_far_from_the_weights_is_noted(run, tmp_path):
    """The weights' range is 0 to 50 electrons; a wrong gain makes thousands of them."""
    source = written(tmp_path, "ome", STACK)
    assert "check the units of the file" in run(source, "--gain", "0.01")[1]
    shutil.rmtree(tmp_path / "made")
    assert "check the units" not in run(source, "--gain", "20")[1]
    shutil.rmtree(tmp_path / "made")
    assert "learned from 2.5 to 79" in run(source, "--gain", "0.1", "--peak-e", "4000")[1]
