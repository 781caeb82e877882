"""Scenes with wrong bytes in them: an error of one line or a result, never a traceback, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hypir_core.errors import HypirError, ImageFileError
from tests.core.scene_samples import engine, ramp, restored

VALUES = ramp(6, 20, 20)


def write_nifti(path: Path) -> None:
    nib = pytest.importorskip("nibabel", reason="needs the extra volumes (nibabel)")
    nib.save(nib.Nifti1Image(VALUES.astype(np.int16).T, np.eye(4)), path)


def write_stack(path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")
    tifffile.imwrite(path, VALUES, ome=True, metadata={"axes": "ZYX"}, compression="zlib")


def write_hdf5(path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra scenes (h5py)")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", data=VALUES, chunks=(1, 20, 20), compression="gzip")
        data.attrs["axes"] = "ZYX"


def write_raster(path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs the extra scenes (rasterio)")
    profile = {
        "width": 60,
        "height": 60,
        "count": 1,
        "dtype": "int16",
        "compress": "deflate",
        "crs": "EPSG:32632",
    }
    place = rasterio.Affine(10, 0, 0, 0, -10, 0)
    with rasterio.open(path, "w", driver="GTiff", transform=place, **profile) as file:
        file.write(ramp(1, 60, 60, dtype=np.int16))


def spoilt(content: bytes, trial: int) -> bytes:
    """Cut it off, change a byte of its head, or thirty anywhere."""
    rng = np.random.default_rng(trial)
    if trial % 3 == 0:
        return content[: rng.integers(1, len(content))]
    changed = bytearray(content)
    for _ in range(1 if trial % 3 == 1 else 30):
        changed[rng.integers(0, min(len(changed), 600) if trial % 3 == 1 else len(changed))] = rng.integers(
            0, 256
        )
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")  # libraries warn of what they find
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("in.nii", write_nifti),
        ("in.nii.gz", write_nifti),
        ("in.ome.tif", write_stack),
        ("in.h5", write_hdf5),
        ("in.tif", write_raster),
    ],
)
def test_wrong_bytes_are_an_error_of_one_line(tmp_path, name, write):
    source, out = tmp_path / name, tmp_path / name.replace("in", "out", 1)
    write(source)
    whole, said = source.read_bytes(), []
    for trial in range(30):
        source.write_bytes(spoilt(whole, trial))
        try:
            restored(engine((2, 2)), source, out)
        except HypirError as err:
            said.append(str(err))
        else:
            out.unlink()
        assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(said) >= 10  # what is cut off, at least
    assert not any("\n" in line for line in said)


@pytest.mark.parametrize("trial", range(6))
def test_a_zarr_without_its_head_is_an_error_of_one_line(tmp_path, trial):
    zarr = pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
    source = tmp_path / "in.zarr"
    zarr.create_array(source, data=VALUES, chunks=(1, 20, 20), dimension_names=["z", "y", "x"])
    head = source / "zarr.json"
    head.write_bytes(head.read_bytes()[: trial * 40])
    with pytest.raises(HypirError) as caught:
        restored(engine((2, 2)), source, tmp_path / "out.zarr")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


def test_a_gzipped_volume_with_wrong_bytes_says_that_it_is_incomplete(tmp_path):
    source = tmp_path / "in.nii.gz"
    write_nifti(source)
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    source.write_bytes(content)
    with pytest.raises(
        ImageFileError, match=r"in\.nii\.gz: expected a complete gzip file, but .*; copy it again"
    ):
        restored(engine((2, 2)), source, tmp_path / "out.nii")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system lets this process write no larger file, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="needs a system that limits files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_gzipped_volume_without_room_to_unpack_it_says_where_room_is_missing(tmp_path):
    nib = pytest.importorskip("nibabel", reason="needs the extra volumes (nibabel)")
    source = tmp_path / "in.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 64), np.int16), np.eye(4)), source)
    with (
        files_of_at_most(1 << 16),
        pytest.raises(ImageFileError, match=r"in\.nii\.gz: expected to unpack it into .*TMPDIR"),
    ):
        restored(engine((2, 2)), source, tmp_path / "out.nii")
    restored(engine((2, 2)), source, tmp_path / "out.nii")
