"""Bad scenes, as real files: what is refused, what is mended, and what is said; nothing is left half-written."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hypir_core import Runtime, TileWish, load_engine
from hypir_core.cli import main
from hypir_core.errors import ConfigError, ImageFileError
from hypir_core.image.histogram import Statistics
from hypir_core.image.ranges import FitOn, RangeConfig, RangeKind, named_range, settle
from hypir_core.models.architectures import ARCHITECTURES, build_architecture, register_generator
from hypir_core.models.architectures.sizes import Sizes
from hypir_core.request import Request
from hypir_core.weights.spec import GeneratorSpec, spec_to_metadata
from hypir_core.weights.tensors import write_tensors
from tests.core.scene_samples import Enlarge, engine, ramp, restored, truth, write_weights

TILES = Request(tile=TileWish(tile_px=24, overlap_px=8))


class Never(Enlarge):
    """Nothing may come to it."""

    def forward(self, x):
        raise AssertionError("the work began")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestRasters:
    rasterio = pytest.importorskip("rasterio", reason="needs the extra scenes (rasterio)")

    def write(self, path, values, *, cell=10.0, crs="EPSG:32632", transform=None, **more):
        bands, height, width = values.shape
        profile = {"driver": "GTiff", "width": width, "height": height, "count": bands, "dtype": values.dtype}
        place = transform or (self.rasterio.Affine(cell, 0, 5e5, 0, -cell, 4e6) if cell else None)
        if place:
            more |= {"crs": crs, "transform": place}
        path.parent.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.rasterio.errors.NotGeoreferencedWarning)
            with self.rasterio.open(path, "w", **profile, **more) as file:
                file.write(values)
        return path

    def hypir(self, tmp_path, *inputs):
        weights = write_weights(tmp_path / "w.safetensors", 4, white=10000)
        words = ["restore", *inputs, "-o", tmp_path / "out", "--engine", "upscaler", "--weights", weights]
        return main([*map(str, words), "--device", "cpu"])

    def test_two_resolutions_in_a_folder_are_refused_and_the_coarser_files_are_named(self, tmp_path, capsys):
        scenes = tmp_path / "in"
        for name, cell in (("a", 10), ("b", 10.5), ("c", 20), ("d", 60)):
            self.write(scenes / f"{name}.tif", ramp(4, 12, 16, dtype=np.int16), cell=cell)
        (scenes / "torn.tif").write_bytes(b"II*\0 nothing")
        assert self.hypir(tmp_path, scenes) == 2
        said = capsys.readouterr().err
        assert "got cells of 10 m (a.tif …) and of 20 m and 60 m (" in said
        assert f"({scenes / 'c.tif'}, {scenes / 'd.tif'})" in said
        assert not (tmp_path / "out").exists()
        assert self.hypir(tmp_path, scenes / "a.tif", scenes / "b.tif") == 0
        assert left(tmp_path / "out") == ["a.tif", "b.tif", "hypir-manifest.jsonl"]

    def test_a_turned_raster_and_one_in_degrees_are_of_no_other_resolution(self, tmp_path):
        scenes = tmp_path / "in"
        values = ramp(4, 12, 16, dtype=np.int16)
        self.write(scenes / "a.tif", values)
        self.write(
            scenes / "b.tif",
            values,
            transform=self.rasterio.Affine(6, 8, 0, 8, -6, 0),
        )
        self.write(scenes / "c.tif", values, cell=1e-4, crs="EPSG:4326")
        self.write(scenes / "d.tif", values, cell=0)
        assert self.hypir(tmp_path, scenes) == 0
        assert left(tmp_path / "out") == ["a.tif", "b.tif", "c.tif", "d.tif", "hypir-manifest.jsonl"]

    def test_a_raster_that_lies_nowhere_says_so_and_a_turned_one_keeps_its_place(self, tmp_path):
        values = ramp(2, 12, 16)
        source = self.write(tmp_path / "in.tif", values, cell=0)
        report = restored(engine((2, 2), 2), source, tmp_path / "out.tif")
        assert "the file does not say where it lies on the ground" in report.notes
        turned = self.rasterio.Affine(6, 8, 5e5, 8, -6, 4e6)
        self.write(tmp_path / "turned.tif", values, transform=turned)
        report = restored(engine((2, 2), 2), tmp_path / "turned.tif", tmp_path / "placed.tif")
        assert not any("where it lies" in note for note in report.notes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.rasterio.errors.NotGeoreferencedWarning)
            none = self.rasterio.open(tmp_path / "out.tif")
        with none, self.rasterio.open(tmp_path / "placed.tif") as there:
            assert none.crs is None
            assert none.transform.is_identity
            assert there.crs.to_epsg() == 32632
            assert there.transform.almost_equals(turned @ self.rasterio.Affine.scale(0.5))

    def test_bands_without_names_are_taken_in_their_order_and_that_is_said(self, tmp_path):
        values = ramp(3, 12, 16, dtype=np.int16)
        source = self.write(tmp_path / "in.tif", values)
        made = engine((2, 2), 3)
        report = restored(made, source, tmp_path / "out.tif")
        assert "the file does not name its bands; they were taken in its order" in report.notes
        with self.rasterio.open(tmp_path / "out.tif") as file:
            assert np.abs(file.read() - truth(made, values)).max() <= 0.5001
        report = restored(made, source, tmp_path / "chosen.tif", bands=("3", "2", "1"))
        assert not any("name its bands" in note for note in report.notes)

    def test_a_flat_band_keeps_its_values_and_is_named(self, tmp_path):
        values = ramp(3, 24, 24, dtype=np.float32)
        values[1] = 4321.5
        source = self.write(tmp_path / "in.tif", values)
        made = engine((2, 2), 3, value_range=RangeConfig(kind=RangeKind.zscore))
        report = restored(made, source, tmp_path / "out.tif", TILES)
        said = [note for note in report.notes if note.startswith("range: ")]
        assert said == ["range: the values of channel 2 are all equal, so 'zscore' left them as they are"]
        with self.rasterio.open(tmp_path / "out.tif") as file:
            assert np.allclose(file.read(2), 4321.5, rtol=1e-6)
            assert np.allclose(file.read(1), truth(made, values)[0], rtol=1e-5)

    def test_what_is_not_a_number_is_filled_masked_and_counted(self, tmp_path):
        values = ramp(2, 24, 24, dtype=np.float32)
        values[0, 3, 4], values[1, 9, 9], values[0, 20, :5] = np.nan, np.inf, -9999
        source = self.write(tmp_path / "in.tif", values, nodata=-9999)
        report = restored(engine((2, 2), 2), source, tmp_path / "out.tif")
        assert any(note.startswith("7 of 576 cells have no data: filled") for note in report.notes)
        hole = ~np.isfinite(values).all(0) | (values == -9999).any(0)
        with self.rasterio.open(tmp_path / "out.tif") as file:
            assert ((file.dataset_mask() == 0) == hole.repeat(2, 0).repeat(2, 1)).all()
            assert np.isfinite(file.read()[:, file.dataset_mask() > 0]).all()

    def test_results_that_the_number_format_cannot_hold_are_refused_before_the_work(self, tmp_path):
        values = ramp(2, 12, 16, dtype=np.uint8, high=200)
        source = self.write(tmp_path / "in.tif", values)
        white = RangeConfig(kind=RangeKind.white, white=10000)
        made = engine((2, 2), 2, net=Never((2, 2)), out_range=white)
        said = r"give values from 0 to 10000, .*written as uint8, which holds 0 to 255; choose --bits 32"
        with pytest.raises(ConfigError, match=said):
            restored(made, source, tmp_path / "out.tif")
        assert left(tmp_path) == ["in.tif"]
        restored(replace(made, net=Enlarge((2, 2))), source, tmp_path / "out.tif", bits=32)
        with self.rasterio.open(tmp_path / "out.tif") as file:
            assert file.dtypes == ("float32", "float32")
            assert np.allclose(file.read(), truth(engine((2, 2), 2), values) * 10000, rtol=1e-5)


class TestVolumes:
    nib = pytest.importorskip("nibabel", reason="needs the extra volumes (nibabel)")

    def write(self, path, values_zyx):
        self.nib.save(self.nib.Nifti1Image(values_zyx.T, np.diag([1.0, 1.0, 2.0, 1.0])), path)
        return path

    def read(self, path):
        return np.asanyarray(self.nib.load(path).dataobj).T

    def test_a_range_that_cuts_warns_once_for_all_slices(self, tmp_path, capsys):
        """Reflectances above 0.3 are lost to the network: the same sentence would come for every slice."""
        values = np.linspace(0, 0.6, 5 * 16 * 16, dtype=np.float32).reshape(5, 16, 16)
        source = self.write(tmp_path / "in.nii", values)
        weights = write_range_weights(tmp_path / "w.safetensors", named_range("sen2_stretch"))
        words = ["restore", source, "-o", tmp_path / "out.nii", "--engine", "upscaler", "--weights", weights]
        assert main([*map(str, words), "--device", "cpu"]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "range:" in line]
        assert len(said) == 1
        assert "range: 50 % of the values were cut, beyond the black and white of 'white'" in said[0]
        assert self.read(tmp_path / "out.nii").max() <= 1

    def test_values_far_outside_what_a_range_was_fitted_on_are_told_with_their_share(self, tmp_path):
        seen = Statistics()
        seen.add(torch.linspace(0, 100, 1000)[None, None])
        fitted = settle(RangeConfig(kind=RangeKind.minmax, fit=FitOn.dataset), seen)
        made = engine((2, 2), value_range=fitted)
        notes = {}
        for high in (104.0, 200.0):
            values = np.linspace(0, high, 4 * 16 * 16, dtype=np.float32).reshape(4, 16, 16)
            source = self.write(tmp_path / f"{high:g}.nii", values)
            notes[high] = restored(made, source, tmp_path / f"out{high:g}.nii").notes
        assert not any("outside" in note for note in notes[104.0])
        (said,) = [note for note in notes[200.0] if "outside" in note]
        assert said.startswith("range: 50 % of the values lie outside")
        assert said.endswith("check the units of the file")

    def test_a_gzipped_volume_is_unpacked_and_that_is_said(self, tmp_path):
        values = ramp(5, 12, 16, dtype=np.int16)
        made = engine((2, 2, 2))
        plain, packed = (self.write(tmp_path / f"in{end}", values) for end in (".nii", ".nii.gz"))
        said = "the file is gzipped: it was unpacked into a scratch file, to read slices of it"
        assert said in restored(made, packed, tmp_path / "packed.nii").notes
        assert said not in restored(made, plain, tmp_path / "plain.nii").notes
        assert (self.read(tmp_path / "packed.nii") == self.read(tmp_path / "plain.nii")).all()
        packed.write_bytes(packed.read_bytes()[:-40])
        with pytest.raises(
            ImageFileError, match=r"in\.nii\.gz: expected a complete gzip file, .*copy it again"
        ):
            restored(made, packed, tmp_path / "none.nii")
        assert not (tmp_path / "none.nii").exists()

    def test_a_volume_thinner_than_the_network_is_padded_and_that_is_said(self, tmp_path, monkeypatch):
        for table in ("_entries", "_names"):
            monkeypatch.setattr(ARCHITECTURES, table, dict(getattr(ARCHITECTURES, table)))

        @register_generator("deep")
        class Deep(nn.Module):
            """Takes eight slices or more, as a network with three halvings does."""

            Options, receptive_radius, maps_per_cell, least_px = Sizes, 1, 1, 8

            def __init__(self, options):
                super().__init__()
                self.conv = nn.Conv3d(options.in_channels, options.makes, 3, padding=1)

            def forward(self, x):
                assert min(x.shape[2:]) >= 8
                return self.conv(x)

        weights = write_range_weights(
            tmp_path / "w.safetensors", RangeConfig(kind=RangeKind.white, white=1000), "deep", dims=3, scale=1
        )
        made = load_engine("upscaler", {"weights": weights}, device=torch.device("cpu"), dtype="float32")
        values = ramp(3, 12, 16, dtype=np.float32)
        report = restored(made, self.write(tmp_path / "in.nii", values), tmp_path / "out.nii")
        said = "the input has 3×12×16 cells, and the network takes at least 8 along every axis: it saw 8×12×16, the"
        assert any(note.startswith(said) for note in report.notes)
        wanted = truth(made, np.pad(values, ((0, 5), (0, 0), (0, 0)), "edge")[None] / 1000)[0, :3] * 1000
        assert np.allclose(self.read(tmp_path / "out.nii"), wanted, rtol=1e-4, atol=1e-2)
        thick = self.write(tmp_path / "thick.nii", ramp(9, 12, 16, dtype=np.float32))
        notes = restored(made, thick, tmp_path / "thick_out.nii").notes
        assert not any("at least 8" in note for note in notes)


def write_range_weights(
    path: Path, value_range: RangeConfig, architecture: str = "compact", *, dims: int = 2, scale: int = 2
) -> Path:
    """A small network of one channel that takes values in that range."""
    options = {"features": 8, "blocks": 1} if architecture == "compact" else {}
    spec = GeneratorSpec(
        name="tiny", architecture=architecture, scale=scale, dims=dims, in_channels=1, out_channels=1, options=options,
        value_range=value_range, trained_on="nothing", trained_with="nothing", licence="Apache-2.0",
    )  # fmt: skip
    data = {**options, "in_channels": 1, "out_channels": 1, "scale": scale, "dims": dims}
    net = build_architecture(architecture, data, where="test")
    write_tensors(path, net.state_dict(), spec_to_metadata(spec))
    return path


class TestStores:
    def test_a_damaged_chunk_of_a_zarr_is_named(self, tmp_path):
        zarr = pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
        source = tmp_path / "in.zarr"
        zarr.create_array(source, data=ramp(4, 32, 32), chunks=(1, 16, 32), dimension_names=["z", "y", "x"])
        chunk = source / "c" / "2" / "1" / "0"
        chunk.write_bytes(chunk.read_bytes()[:-30])
        with pytest.raises(
            ImageFileError, match=r"in\.zarr: expected a complete file, got a damaged block at z 2"
        ):
            restored(engine((2, 2)), source, tmp_path / "out.zarr")
        assert left(tmp_path) == ["in.zarr"]

    def test_a_cut_off_hdf5_file_is_refused(self, tmp_path):
        h5py = pytest.importorskip("h5py", reason="needs the extra scenes (h5py)")
        source = tmp_path / "in.h5"
        with h5py.File(source, "w") as file:
            file.create_dataset("a", data=ramp(4, 32, 32), chunks=(1, 32, 32), compression="gzip")
        source.write_bytes(source.read_bytes()[:-2000])
        with pytest.raises(
            ImageFileError, match=r"in\.h5: expected an HDF5 file, but .*truncated.*copy it again"
        ):
            restored(engine((2, 2)), source, tmp_path / "out.h5")
        assert left(tmp_path) == ["in.h5"]

    def test_a_damaged_chunk_of_an_hdf5_file_is_named(self, tmp_path):
        h5py = pytest.importorskip("h5py", reason="needs the extra scenes (h5py)")
        source = tmp_path / "in.h5"
        with h5py.File(source, "w") as file:
            data = file.create_dataset("a", data=ramp(4, 32, 32), chunks=(1, 32, 32), compression="gzip")
            data.attrs["axes"] = "ZYX"
            at = data.id.get_chunk_info(2)
        content = bytearray(source.read_bytes())
        content[at.byte_offset : at.byte_offset + at.size] = bytes(at.size)
        source.write_bytes(content)
        with pytest.raises(
            ImageFileError, match=r"in\.h5: expected a complete file, got a damaged block at z 2"
        ):
            restored(engine((2, 2)), source, tmp_path / "out.h5")
        assert left(tmp_path) == ["in.h5"]

    def test_a_result_that_is_larger_than_the_disk_is_refused_before_the_work(self, tmp_path):
        """The array says that it is 8 TB; what was never written of a Zarr takes no room."""
        zarr = pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
        source = tmp_path / "in.zarr"
        zarr.create_array(source, shape=(1 << 21, 1 << 21), chunks=(512, 512), dtype="uint16")
        with pytest.raises(
            ImageFileError, match=r"room for the result and its strips, \d+\.\d+ GB, got .* GB on the disk"
        ):
            restored(engine((2, 2), net=Never((2, 2))), source, tmp_path / "out.zarr", runtime=Runtime())
        assert left(tmp_path) == ["in.zarr"]
