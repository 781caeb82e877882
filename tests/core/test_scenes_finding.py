"""Scenes in folders: found, named after themselves, restored by the command; a folder that is a scene is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hypir_core.batch.finding import find_pictures
from hypir_core.batch.naming import name_outputs
from hypir_core.files.scenes.axes import Wanted, guessed_axes
from hypir_core.files.scenes.recognise import scene_format
from tests.core.scene_samples import ramp, write_weights


def test_scenes_are_found_and_named_after_themselves(tmp_path):
    for name in ("a.nii", "b.nii.gz", "c.tif", "d.h5", "e.txt"):
        (tmp_path / name).touch()
    (tmp_path / "f.zarr").mkdir()
    (tmp_path / "f.zarr" / "zarr.json").touch()
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").touch()
    (tmp_path / "pictures").mkdir()
    for name in ("x.png", "notes.dcm"):
        (tmp_path / "pictures" / name).touch()
    found = find_pictures([str(tmp_path)]).pictures
    plan = name_outputs(found, tmp_path / "out", format_name=None, several=True)
    named = {job.source.relative_to(tmp_path).as_posix(): job.output.name for job in plan.jobs}
    assert named == {
        "a.nii": "a.nii",
        "b.nii.gz": "b.nii.gz",
        "c.tif": "c.tif",
        "d.h5": "d.h5",
        "f.zarr": "f.zarr",
        "series": "series.nii",
        "pictures/x.png": "x.png",
        "pictures/notes.dcm": "notes.nii",
    }


def test_a_folder_of_rasters_by_the_command_and_once_more(tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio", reason="needs the extra scenes (rasterio)")
    from hypir_core.cli import main

    profile = {"driver": "GTiff", "width": 16, "height": 12, "count": 4, "dtype": "int16", "crs": "EPSG:3857"}
    place = rasterio.Affine(10, 0, 500, 0, -10, 900)
    (tmp_path / "in").mkdir()
    for name in ("one.tif", "two.tif"):
        with rasterio.open(tmp_path / "in" / name, "w", transform=place, **profile) as file:
            file.write(ramp(4, 12, 16, dtype=np.int16))
    weights = write_weights(tmp_path / "w.safetensors", 4, white=10000)
    words = ["restore", tmp_path / "in", "-o", tmp_path / "out", "--engine", "upscaler", "--weights", weights]
    for _ in range(2):
        assert main([*map(str, words), "--device", "cpu"]) == 0
        assert "failed" not in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "hypir-manifest.jsonl",
        "one.tif",
        "two.tif",
    ]
    lines = (tmp_path / "out" / "hypir-manifest.jsonl").read_text().splitlines()
    assert len(lines) == 2  # the second run skipped both


@pytest.mark.parametrize(
    ("shape", "dims", "channels", "axes"),
    [
        ((8, 9), 2, 1, "yx"),
        ((4, 8, 9), 2, 4, "cyx"),
        ((8, 9, 4), 2, 4, "yxc"),
        ((5, 8, 9), 2, 4, "zyx"),
        ((5, 8, 9), 3, 1, "zyx"),
        ((3, 5, 8, 9), 3, 3, "czyx"),
        ((6, 5, 8, 9), 3, 3, "tzyx"),
        ((6, 3, 8, 9), 2, 3, "zcyx"),
    ],
)
def test_axes_that_nobody_names_are_guessed_by_the_network(shape, dims, channels, axes):
    found, notes = guessed_axes(shape, Wanted(dims=dims, channels=channels), Path("x.h5"))
    assert found == axes
    assert "--axes" in notes[0]


def test_what_is_a_picture_stays_one(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")
    photo = Wanted(dims=2, channels=3)
    made = {
        "rgb": (np.zeros((8, 8, 3), np.uint8), {"photometric": "rgb"}),
        "grey16": (np.zeros((8, 8), np.uint16), {}),
        "float": (np.zeros((8, 8), np.float32), {}),
        "rgba": (np.zeros((8, 8, 4), np.uint8), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        "int16": (np.zeros((8, 8), np.int16), {}),
        "bands": (np.zeros((8, 8, 6), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}),
        "stack": (np.zeros((5, 8, 8), np.uint8), {"imagej": True, "metadata": {"axes": "ZYX"}}),
    }
    kinds = {}
    for name, (pixels, more) in made.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, **more)
        kinds[name] = scene_format(tmp_path / f"{name}.tif", photo, file_values=False)
    assert kinds == dict.fromkeys(("rgb", "grey16", "float", "rgba")) | {
        "int16": "geotiff",
        "bands": "geotiff",
        "stack": "stack",
    }
    assert scene_format(tmp_path / "rgb.tif", photo, file_values=True) == "geotiff"
    assert scene_format(tmp_path / "rgb.tif", Wanted(dims=2, channels=13), file_values=False) == "geotiff"
