"""Training data in the files that people have: every format, larger than memory, of two resolutions, by a package."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from hypir_core.errors import ConfigError
from train.config import Crop, DataConfig, SourceConfig, SourceKind
from train.data.custom import DATASETS
from train.data.opening import open_source
from train.data.source import Channels

ONE = Channels(hq=1, lq=1)


def volume() -> np.ndarray:
    return np.arange(8 * 12 * 16, dtype=np.int16).reshape(8, 12, 16)


def write_nifti(path: Path) -> None:
    nib = pytest.importorskip("nibabel", reason="needs the extra volumes (nibabel)")
    nib.save(nib.Nifti1Image(volume().T, np.eye(4)), path)


def write_hdf5(path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra scenes (h5py)")
    with h5py.File(path, "w") as file:
        file["a"] = volume()
        file["a"].attrs["axes"] = "ZYX"


def write_zarr(path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
    zarr.create_array(path, data=volume(), chunks=(1, 12, 16), dimension_names=["z", "y", "x"])


def write_stack(path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")
    tifffile.imwrite(path, volume(), ome=True, metadata={"axes": "ZYX"})


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.nii.gz", write_nifti), ("a.h5", write_hdf5), ("a.zarr", write_zarr), ("a.ome.tif", write_stack)],
)
def test_a_volume_of_every_format_gives_the_same_tiles(tmp_path, name, write):
    write(tmp_path / name)
    config = DataConfig(
        root=tmp_path, crop=Crop.none, crop_px=(4, 8, 8), source=SourceConfig(kind=SourceKind.scenes)
    )
    source = open_source(config, scale=2, channels=ONE, dims=3)
    assert len(source) == 2 * 2 * 2
    assert torch.equal(source.item(7).hq, torch.from_numpy(volume()[None, 4:, 4:, 8:].astype(np.float32)))


def test_an_array_that_no_memory_holds_is_read_tile_by_tile(tmp_path):
    """34 GB by its header; the file holds the one block that was written."""
    h5py = pytest.importorskip("h5py", reason="needs the extra scenes (h5py)")
    side = 1 << 17
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        data = file.create_dataset("a", shape=(side, side), dtype="uint16", chunks=(64, 64))
        data[-64:, -64:] = np.arange(64 * 64).reshape(64, 64)
    source_config = SourceConfig(kind=SourceKind.scenes, tile_px=64, stride_px=1 << 15)
    config = DataConfig(root=tmp_path, crop=Crop.none, crop_px=64, source=source_config)
    tracemalloc.start()
    source = open_source(config, scale=2, channels=ONE)
    assert len(source) == 25
    last = source.item(24).hq
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert torch.equal(last, torch.arange(64.0 * 64).view(1, 64, 64))
    assert peak < 8 << 20


def test_two_resolutions_in_a_place_are_refused_with_both_names(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="needs the extra scenes (rasterio)")
    for name, cell in (("a", 20.0), ("b", 10.0), ("c", 10.5), ("d", 60.0)):
        place = rasterio.Affine(cell, 0, 5e5, 0, -cell, 4e6)
        profile = {"driver": "GTiff", "width": 32, "height": 32, "count": 1, "dtype": "uint16"}
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", crs="EPSG:32632", transform=place, **profile
        ) as file:
            file.write(np.ones((1, 32, 32), np.uint16))
    config = DataConfig(
        root=tmp_path, crop=Crop.none, crop_px=16, source=SourceConfig(kind=SourceKind.scenes)
    )
    with pytest.raises(ConfigError) as caught:
        open_source(config, scale=2, channels=ONE)
    said = str(caught.value)
    assert said.startswith(
        "data.root: expected rasters of one resolution, got cells of 10 m (b.tif …) and of 20 m"
    )
    assert "(a.tif and 1 more); give each resolution a folder" in said
    for name in "ad":
        (tmp_path / f"{name}.tif").unlink()
    assert len(open_source(config, scale=2, channels=ONE)) == 8  # 10 m and 10.5 m are alike


def test_a_data_set_comes_with_an_installed_package(tmp_path, monkeypatch):
    about = tmp_path / "own_scenes-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-scenes\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[onestep_restore.datasets]\nmy_scenes = own_scenes:Ones\n")
    (tmp_path / "own_scenes.py").write_text(
        "import numpy as np\n\n"
        "class Ones(list):\n"
        "    def __init__(self, root, *, count=2):\n"
        "        super().__init__(np.full((1, 16, 16), n, np.float32) for n in range(count))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for table in ("_entries", "_names"):
        monkeypatch.setattr(DATASETS, table, dict(getattr(DATASETS, table)))
    monkeypatch.setattr(DATASETS, "_group", "onestep_restore.datasets")
    config = DataConfig(
        root=tmp_path, crop_px=16, source=SourceConfig(dataset="my_scenes", options={"count": 3})
    )
    source = open_source(config, scale=2, channels=ONE)
    assert [float(source.item(n).hq.max()) for n in range(len(source))] == [0, 1, 2]
    with pytest.raises(ConfigError, match="my_scenes does not take root and its options"):
        open_source(
            DataConfig(root=tmp_path, crop_px=16, source=SourceConfig(dataset="my_scenes", options={"n": 1})),
            scale=2,
            channels=ONE,
        )
    sys.modules.pop("own_scenes", None)
