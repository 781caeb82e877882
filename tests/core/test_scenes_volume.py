"""Volumes and stacks: axes, number formats and the size of a cell go in and come out; 2-D and 3-D networks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hypir_core import Request, TargetSize, TileWish
from hypir_core.errors import ConfigError, ImageFileError
from hypir_core.files.scenes.axes import Wanted
from hypir_core.files.scenes.catalog import open_scene
from hypir_core.files.scenes.recognise import scene_format
from hypir_core.image.ranges import RangeConfig, RangeKind
from tests.core.scene_samples import engine, ramp, restored, truth, write_volume_weights

TILES = Request(tile=TileWish(tile_px=24, overlap_px=8))
THREE = (2, 2, 2)


def opened(path, **wanted):
    asked = Wanted(**wanted)
    name = scene_format(path, asked, file_values=True)
    assert name is not None
    return open_scene(path, asked, format_name=name)


def everything(path, **wanted):
    """Return all stored numbers [c *sizes] of a scene, and its axes."""
    from hypir_core.tiling.geometry import Box

    scene = opened(path, **wanted)
    whole = scene.block(Box((0,) * len(scene.sizes_px), scene.sizes_px)).stored
    scene.close()
    return whole, scene.grid.axes


class TestNifti:
    nib = pytest.importorskip("nibabel", reason="needs the extra volumes (nibabel)")
    MATRIX = np.array([[0.9, 0.1, 0, -20], [-0.1, 1.1, 0.2, 5], [0, -0.1, 3, 7], [0, 0, 0, 1]], np.float64)

    def write(self, path, values_zyx, **header):
        image = self.nib.Nifti1Image(values_zyx.T, self.MATRIX)
        image.header.set_slope_inter(*header.get("scaling", (None, None)))
        image.header.set_xyzt_units("mm")
        self.nib.save(image, path)
        return path

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_a_network_of_three_axes(self, tmp_path, ending):
        values = ramp(14, 20, 24, dtype=np.int16, high=3000) - np.int16(1000)
        source = self.write(tmp_path / f"in{ending}", values)
        made, out = engine(THREE), tmp_path / f"out{ending}"
        restored(made, source, out, TILES)
        image = self.nib.load(out)
        assert image.get_data_dtype() == np.int16
        assert image.shape == (48, 40, 28)
        got = np.asanyarray(image.dataobj).T
        assert np.abs(got - truth(made, values[None])[0]).max() <= 0.5001
        # The corner of the first voxel lies where it lay: centres are moved by a quarter of a voxel.
        corner = [self.nib.load(p).affine @ (-0.5, -0.5, -0.5, 1) for p in (source, out)]
        assert np.allclose(*corner, atol=1e-5)
        point = np.array([3.2, 5.7, 1.9])
        finer = (point + 0.5) * 2 - 0.5
        places = self.nib.load(source).affine @ [*point, 1], image.affine @ [*finer, 1]
        assert np.allclose(*places, atol=1e-5)
        assert image.header.get_zooms() == pytest.approx(
            [z / 2 for z in self.nib.load(source).header.get_zooms()]
        )

    def test_a_factor_of_its_own_for_each_axis(self, tmp_path):
        source = self.write(tmp_path / "in.nii", ramp(6, 16, 12, dtype=np.float32))
        restored(engine((1, 4, 4)), source, tmp_path / "out.nii")
        image = self.nib.load(tmp_path / "out.nii")
        assert image.shape == (48, 64, 6)
        zooms = self.nib.load(source).header.get_zooms()
        assert image.header.get_zooms() == pytest.approx((zooms[0] / 4, zooms[1] / 4, zooms[2]))

    def test_scaled_numbers_are_seen_as_values_and_stored_as_numbers(self, tmp_path):
        stored = ramp(5, 12, 12, dtype=np.int16, high=300)
        source = self.write(tmp_path / "in.nii", stored, scaling=(2.0, -1024.0))
        made = engine(THREE)
        restored(made, source, tmp_path / "out.nii")
        image = self.nib.load(tmp_path / "out.nii")
        assert (image.dataobj.slope, image.dataobj.inter) == (2.0, -1024.0)
        got, wanted = image.get_fdata().T, truth(made, stored[None] * 2.0 - 1024)[0]
        assert np.abs(got - wanted).max() <= 1.0001

    def test_slice_by_slice_with_one_range_for_all(self, tmp_path):
        """A z-score of each slice would make dark slices as bright as the others."""
        values = ramp(5, 16, 16, dtype=np.float32) * np.arange(1, 6, dtype=np.float32)[:, None, None]
        source = self.write(tmp_path / "in.nii", values)
        made = engine((2, 2), value_range=RangeConfig(kind=RangeKind.minmax, clip=True))
        restored(made, source, tmp_path / "out.nii")
        got = np.asanyarray(self.nib.load(tmp_path / "out.nii").dataobj).T
        wanted = np.stack([truth(made, part[None])[0] for part in values])
        assert got.shape == (5, 32, 32)
        assert np.allclose(got, wanted, rtol=1e-4)

    def test_a_series_of_volumes(self, tmp_path):
        values = ramp(3, 6, 10, 12, dtype=np.uint8, high=200)
        source = self.write(tmp_path / "in.nii", values)
        made = engine(THREE)
        restored(made, source, tmp_path / "out.nii")
        image = self.nib.load(tmp_path / "out.nii")
        assert image.shape == (24, 20, 12, 3)
        got = np.asanyarray(image.dataobj).T
        for t in range(3):
            assert np.abs(got[t] - truth(made, values[t][None])[0]).max() <= 0.5001

    def test_the_command_restores_a_volume_with_a_generator_of_three_axes(self, tmp_path):
        from hypir_core.cli import main

        source = self.write(tmp_path / "in.nii.gz", ramp(9, 20, 16, dtype=np.int16, high=900))
        weights = write_volume_weights(tmp_path / "w.safetensors", white=1000)
        words = [
            "restore",
            source,
            "-o",
            tmp_path / "out.nii.gz",
            "--engine",
            "upscaler",
            "--weights",
            weights,
        ]
        assert main([*map(str, words), "--device", "cpu"]) == 0
        image = self.nib.load(tmp_path / "out.nii.gz")
        assert image.shape == (32, 40, 18)
        assert image.get_data_dtype() == np.int16
        assert np.std(image.get_fdata()) > 0

    def test_a_truncated_volume(self, tmp_path):
        source = self.write(tmp_path / "in.nii", ramp(6, 16, 16))
        source.write_bytes(source.read_bytes()[:-600])
        with pytest.raises(ImageFileError, match=r"a damaged block at z .*too early"):
            restored(engine(THREE), source, tmp_path / "out.nii")
        assert [p.name for p in tmp_path.iterdir()] == ["in.nii"]

    def test_a_volume_is_not_written_as_a_picture(self, tmp_path):
        source = self.write(tmp_path / "in.nii", ramp(4, 8, 8))
        with pytest.raises(ImageFileError, match="a scene is not written as a picture"):
            restored(engine(THREE), source, tmp_path / "out.png")


class TestStacks:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize(
        ("axes", "shape"), [("TZCYX", (2, 3, 2, 12, 16)), ("ZYX", (5, 12, 16)), ("CYX", (3, 9, 8))]
    )
    @pytest.mark.parametrize("dialect", ["ome", "imagej"])
    def test_axes_numbers_and_sizes_come_back(self, tmp_path, axes, shape, dtype, dialect):
        values = ramp(*shape, dtype=dtype, high=200)
        source, out = tmp_path / "in.tif", tmp_path / "out.tif"
        if dialect == "ome":
            meta = {"axes": axes, "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.4, "PhysicalSizeZ": 1.5}
            self.tifffile.imwrite(
                source, values, ome=True, metadata=meta, compression="zlib", photometric="minisblack"
            )
        else:
            meta = {"axes": axes, "spacing": 1.5, "unit": "um"}
            self.tifffile.imwrite(source, values, imagej=True, metadata=meta, resolution=(5, 2.5))
        made = engine((2, 2))
        restored(made, source, out, TILES)
        with self.tifffile.TiffFile(out) as file:
            assert file.is_ome == (dialect == "ome")
            assert file.is_imagej == (dialect == "imagej")
            assert file.series[0].axes == axes
            got = file.series[0].asarray()
        assert got.dtype == np.dtype(dtype)
        wanted = truth(made, values.reshape(-1, *shape[-2:])[:, None].reshape(-1, *shape[-2:]))
        limit = 1e-4 if dtype == "float32" else 0.5001
        assert np.abs(got.reshape(wanted.shape) - wanted).max() <= limit
        scene = opened(out)
        assert scene.placement.spacing["x"] == pytest.approx(0.1)
        assert scene.placement.spacing["y"] == pytest.approx(0.2)
        assert scene.placement.units["x"] == "µm"
        if "Z" in axes:
            assert scene.placement.spacing["z"] == pytest.approx(1.5)
        scene.close()

    def test_channels_of_a_stack_through_a_network_of_as_many(self, tmp_path):
        values = ramp(4, 2, 12, 16)
        self.tifffile.imwrite(tmp_path / "in.tif", values, imagej=True, metadata={"axes": "ZCYX"})
        made = engine((2, 2), 2)
        restored(made, tmp_path / "in.tif", tmp_path / "out.ome.tif")
        with self.tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
            assert file.is_ome
            got = file.series[0].asarray()
        for z in range(4):
            assert np.abs(got[z] - truth(made, values[z])).max() <= 0.5001

    def test_pages_that_say_nothing_ask_for_axes(self, tmp_path):
        values = ramp(6, 12, 12)
        self.tifffile.imwrite(tmp_path / "in.tif", values, metadata={"axes": "QYX"}, photometric="minisblack")
        with pytest.raises(ConfigError, match="--axes: expected 3 letters"):
            restored(engine((2, 2)), tmp_path / "in.tif", tmp_path / "out.tif", axes="YX")
        restored(engine((2, 2)), tmp_path / "in.tif", tmp_path / "out.tif", axes="TYX")
        got, axes = everything(tmp_path / "out.tif")
        assert axes == "tyx"
        assert np.abs(got[0] - truth(engine((2, 2)), values)).max() <= 0.5001

    def test_a_damaged_page_is_named(self, tmp_path):
        values = ramp(6, 40, 40)
        path = tmp_path / "in.ome.tif"
        self.tifffile.imwrite(path, values, ome=True, metadata={"axes": "ZYX"}, compression="zlib")
        with self.tifffile.TiffFile(path) as file:
            page = file.pages[3]
            at, size = page.dataoffsets[0], page.databytecounts[0]
        data = bytearray(path.read_bytes())
        data[at : at + size] = b"\xff" * size
        path.write_bytes(data)
        with pytest.raises(ImageFileError, match=r"a damaged block at z 3.*page 3"):
            restored(engine((2, 2)), path, tmp_path / "out.ome.tif")
        assert [p.name for p in tmp_path.iterdir()] == ["in.ome.tif"]


class TestStores:
    @pytest.mark.parametrize(("suffix", "extra"), [(".zarr", "zarr"), (".h5", "h5py")])
    def test_a_store_keeps_axes_bands_and_sizes(self, tmp_path, suffix, extra):
        """Written from a stack, read, and written once more from itself."""
        pytest.importorskip(extra, reason=f"needs the extra scenes ({extra})")
        tifffile = pytest.importorskip("tifffile")
        values = ramp(4, 2, 10, 12)
        meta = {
            "axes": "ZCYX",
            "PhysicalSizeX": 0.4,
            "PhysicalSizeY": 0.4,
            "Channel": {"Name": ["nucleus", "actin"]},
        }
        tifffile.imwrite(tmp_path / "in.ome.tif", values, ome=True, metadata=meta | {"PhysicalSizeZ": 2.0})
        made = engine(THREE, 2)
        first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
        restored(made, tmp_path / "in.ome.tif", first)
        restored(made, first, second)
        got, axes = everything(first, dims=3)
        assert axes == "zyx"
        assert np.abs(got - truth(made, values.swapaxes(0, 1))).max() <= 0.5001
        again, _ = everything(second, dims=3)
        assert np.abs(again - truth(made, got)).max() <= 0.5001
        scene = opened(second)
        assert scene.grid.bands == ("nucleus", "actin")
        assert scene.placement.spacing == pytest.approx({"z": 0.5, "y": 0.1, "x": 0.1})
        scene.close()

    def test_an_ome_zarr_lies_where_it_lay(self, tmp_path):
        pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(
            tmp_path / "in.ome.tif", ramp(3, 8, 8), ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 1.0}
        )
        restored(engine((2, 2)), tmp_path / "in.ome.tif", tmp_path / "a.zarr")
        import zarr

        level = dict(zarr.open_group(tmp_path / "a.zarr", mode="r").attrs)["ome"]["multiscales"][0][
            "datasets"
        ][0]
        scale, moved = level["coordinateTransformations"]
        assert scale["scale"][-1] == 0.5
        assert moved["translation"][-1] == -0.25

    def test_a_data_set_is_named_where_there_are_several(self, tmp_path):
        h5py = pytest.importorskip("h5py", reason="needs the extra scenes (h5py)")
        path, values = tmp_path / "in.h5", ramp(4, 12, 12)
        with h5py.File(path, "w") as file:
            file["a/cube"], file["b"] = values, values + 1
        made = engine((2, 2), 4)
        with pytest.raises(ImageFileError, match=r"got 2 \(/a/cube, /b\); name one with --dataset"):
            restored(made, path, tmp_path / "out.h5")
        with pytest.raises(ConfigError, match="expected --dataset out of /a/cube, /b; got c"):
            restored(made, path, tmp_path / "out.h5", dataset="c")
        report = restored(made, path, tmp_path / "out.h5", dataset="a/cube")
        assert any("read as CYX" in note for note in report.notes)
        with h5py.File(tmp_path / "out.h5") as file:
            assert np.abs(file["a/cube"][:] - truth(made, values)).max() <= 0.5001

    def test_a_store_is_overwritten_only_when_told(self, tmp_path):
        zarr = pytest.importorskip("zarr", reason="needs the extra scenes (zarr)")
        source = tmp_path / "in.zarr"
        zarr.save_array(source, ramp(8, 8))
        restored(engine((2, 2)), source, tmp_path / "out.zarr")
        with pytest.raises(ImageFileError, match="use --force"):
            restored(engine((2, 2)), source, tmp_path / "out.zarr")
        restored(engine((2, 2)), source, tmp_path / "out.zarr", force=True)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]


class TestDicom:
    pydicom = pytest.importorskip("pydicom", reason="needs the extra volumes (pydicom)")

    def write(self, folder, values_zyx, *, series="1.2.3", name="slice"):
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, generate_uid

        folder.mkdir(exist_ok=True)
        for z, pixels in enumerate(values_zyx):
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            meta.MediaStorageSOPInstanceUID = generate_uid()
            one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
            one.SeriesInstanceUID, one.SeriesDescription, one.InstanceNumber = series, f"toy {series}", z + 1
            one.SOPClassUID, one.SOPInstanceUID = (
                meta.MediaStorageSOPClassUID,
                meta.MediaStorageSOPInstanceUID,
            )
            one.Rows, one.Columns = pixels.shape
            one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
            one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
            one.PixelSpacing, one.ImageOrientationPatient = [0.8, 0.5], [1, 0, 0, 0, 1, 0]
            one.ImagePositionPatient = [10, 20, 30 + 2.5 * z]
            one.RescaleSlope, one.RescaleIntercept = 1, -1024
            one.PixelData = pixels.astype("<i2").tobytes()
            # Names fall as positions rise: their order must not matter.
            one.save_as(folder / f"{name}{99 - z}.dcm", enforce_file_format=True)
        return folder

    def test_a_series_becomes_a_volume_in_the_order_of_positions(self, tmp_path):
        nib = pytest.importorskip("nibabel", reason="needs the extra volumes (nibabel)")
        values = ramp(5, 10, 12, dtype=np.int16, high=2000)
        source = self.write(tmp_path / "series", values)
        made = engine(THREE)
        restored(made, source, tmp_path / "out.nii")
        image = nib.load(tmp_path / "out.nii")
        assert np.abs(image.get_fdata().T - truth(made, values[None] - 1024.0)[0]).max() <= 0.5001
        # DICOM counts left and posterior, NIfTI right and anterior; cells are half as long.
        assert np.allclose(np.diag(image.affine)[:3], (-0.25, -0.4, 1.25))
        assert np.allclose(image.affine @ (-0.5, -0.5, -0.5, 1), (-9.75, -19.6, 28.75, 1))

    def test_two_series_in_one_folder(self, tmp_path):
        source = self.write(tmp_path / "series", ramp(2, 8, 8))
        self.write(source, ramp(2, 8, 8), series="1.2.4", name="other")
        with pytest.raises(ImageFileError, match=r"expected one series, got 2 \(toy 1.2.3, toy 1.2.4\)"):
            restored(engine(THREE), source, tmp_path / "out.nii")


def test_a_scene_is_opened_anew_in_another_process(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    from hypir_core.tiling.geometry import Box

    values = ramp(3, 8, 8)
    tifffile.imwrite(tmp_path / "in.ome.tif", values, ome=True, metadata={"axes": "ZYX"})
    here = opened(tmp_path / "in.ome.tif")
    scene = pickle.loads(pickle.dumps(here))
    here.close()
    assert (scene.block(Box((1, 2, 0), (2, 3, 8))).stored[0] == values[1:, 2:5]).all()
    assert scene.read(Box((0, 0, 0), (1, 1, 1))).shape == (1, 1, 1, 1, 1)
    scene.close()


def test_three_axes_are_refused_for_a_scene_of_two(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "in.tif", ramp(8, 8))
    with pytest.raises(ConfigError, match=r"restores volumes of 3 axes, and .* has the axes YX"):
        restored(engine(THREE), tmp_path / "in.tif", tmp_path / "out.tif")


def test_a_scale_that_an_axis_keeps(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "in.tif", ramp(5, 8, 8), imagej=True, metadata={"axes": "TYX"})
    restored(
        engine((1, 4, 4)), tmp_path / "in.tif", tmp_path / "out.tif", Request(target=TargetSize(scale=2))
    )
    assert everything(tmp_path / "out.tif")[0].shape == (1, 5, 16, 16)
