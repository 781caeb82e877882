"""GeoTIFF in, GeoTIFF out: bands, place on the ground, holes, strips."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from hypir_core import Request, Runtime, TargetSize, TileWish, load_engine
from hypir_core.errors import ConfigError, ImageFileError, MissingDependencyError, RangeError, ShapeError
from hypir_core.files.scenes.axes import Wanted
from hypir_core.files.scenes.catalog import open_scene
from tests.core.scene_samples import Enlarge, engine, ramp, restored, truth, write_weights

rasterio = pytest.importorskip("rasterio", reason="needs the extra scenes (rasterio)")

TURNED = (9.78, 2.08, 600000.0, 2.08, -9.78, 5800000.0)
TILES = Request(tile=TileWish(tile_px=48, overlap_px=8))


def write(path, values, *, transform=TURNED, names=True, mask=None, **profile):
    bands, h, w = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=w,
        height=h,
        count=bands,
        dtype=values.dtype,
        crs="EPSG:32632",
        transform=rasterio.Affine(*transform),
        **profile,
    ) as file:
        file.write(values)
        if mask is not None:
            file.write_mask(mask)
        if names:
            for number in range(1, bands + 1):
                file.set_band_description(number, f"B{number:02}")
        file.update_tags(SENSOR="toy")
    return path


def read(path):
    with rasterio.open(path) as file:
        return file.read(), file.dataset_mask(), file.profile, file.descriptions, file.tags()


def test_thirteen_bands_keep_values_names_and_place(tmp_path):
    values = ramp(13, 60, 70)
    source = write(tmp_path / "in.tif", values)
    made = engine((2, 2), 13)
    report = restored(made, source, tmp_path / "out.tif", TILES)
    out, mask, profile, names, tags = read(tmp_path / "out.tif")
    assert np.abs(out - np.floor(truth(made, values) + 0.5)).max() <= 1
    assert (mask == 255).all()
    assert names == tuple(f"B{n:02}" for n in range(1, 14))
    assert tags["SENSOR"] == "toy"
    assert "hypir.report" in tags
    assert profile["dtype"] == "uint16"
    assert profile["tiled"]
    assert profile["compress"] == "deflate"
    assert report.input_px == (60, 70)
    assert report.output_px == (120, 140)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_point_keeps_its_ground_position(tmp_path, scale):
    source = write(tmp_path / "in.tif", ramp(2, 20, 30))
    restored(engine((4, 4), 2), source, tmp_path / "out.tif", Request(target=TargetSize(scale=scale)))
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        assert b.crs == a.crs
        for x, y in ((0, 0), (30, 20), (7.25, 3.5)):
            back = ~b.transform @ (a.transform @ (x, y))
            assert np.allclose(back, (x * scale, y * scale), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_number_formats_and_negative_values(tmp_path, dtype):
    values = ramp(2, 24, 24, dtype=np.float32, high=200)
    values = values - 100 if dtype != "uint8" else values
    values = values.astype(dtype)
    source = write(tmp_path / "in.tif", values)
    made = engine((2, 2), 2)
    restored(made, source, tmp_path / "out.tif")
    out, _, profile, _, _ = read(tmp_path / "out.tif")
    assert profile["dtype"] == dtype
    assert np.abs(out - truth(made, values)).max() <= (1e-4 if dtype == "float32" else 0.5001)


def test_holes_are_filled_for_the_network_and_masked_in_the_result(tmp_path):
    values = ramp(3, 40, 40)
    whole = values.copy()
    values[:, 10:14, 20:30] = 0
    values[1, 30, 5] = 0  # one band is enough
    source = write(tmp_path / "in.tif", values, nodata=0)
    made = engine((2, 2), 3)
    report = restored(made, source, tmp_path / "out.tif", TILES)
    out, mask, profile, _, _ = read(tmp_path / "out.tif")
    hole = np.zeros((40, 40), bool)
    hole[10:14, 20:30] = hole[30, 5] = True
    assert ((mask == 0) == hole.repeat(2, 0).repeat(2, 1)).all()
    assert (out[:, mask == 0] == 0).all()
    assert profile["nodata"] == 0
    # Beside the hole the result is near what it would be without one; a zero would pull it down by thousands.
    near = np.abs(out.astype(int) - truth(made, whole))[:, mask > 0]
    assert near.max() < 200
    far = np.zeros_like(hole)
    far[:8] = True
    off = np.abs(out - np.floor(truth(made, whole) + 0.5))[:, far.repeat(2, 0).repeat(2, 1)]
    assert off.max() <= 1
    assert any("41 of 1600 cells have no data" in note for note in report.notes)


def test_one_nan_reaches_no_further_than_its_neighbours(tmp_path):
    values = ramp(2, 30, 30, dtype=np.float32)
    holed = values.copy()
    holed[0, 12, 12] = np.nan
    made = engine((2, 2), 2)
    restored(made, write(tmp_path / "a.tif", values), tmp_path / "whole.tif")
    restored(made, write(tmp_path / "b.tif", holed), tmp_path / "holed.tif")
    a, b = read(tmp_path / "whole.tif")[0], read(tmp_path / "holed.tif")[0]
    assert np.isnan(b[:, 24:26, 24:26]).all()
    assert np.isnan(b).sum() == 2 * 4
    changed = np.argwhere(np.nan_to_num(np.abs(a - b), nan=1).max(0) > 0)
    assert changed.min() >= 22
    assert changed.max() <= 27


def test_a_mask_of_its_own_is_carried(tmp_path):
    mask = np.full((20, 20), 255, np.uint8)
    mask[3:6, 4:9] = 0
    source = write(tmp_path / "in.tif", ramp(4, 20, 20), mask=mask)
    restored(engine((2, 2), 4), source, tmp_path / "out.tif")
    assert (read(tmp_path / "out.tif")[1] == mask.repeat(2, 0).repeat(2, 1)).all()
    assert not list(tmp_path.glob("*.msk"))


def test_a_legal_value_never_becomes_nodata(tmp_path):
    class Zero(Enlarge):
        def forward(self, x):
            return super().forward(x) * 0

    source = write(tmp_path / "in.tif", ramp(3, 16, 16), nodata=0)
    restored(engine((2, 2), 3, net=Zero((2, 2))), source, tmp_path / "out.tif")
    out, mask, *_ = read(tmp_path / "out.tif")
    assert (out == 1).all()
    assert (mask == 255).all()


@pytest.mark.parametrize("bands", [("B04", "b03", "B02"), ("4", "3", "2")])
def test_bands_are_chosen_by_name_or_number(tmp_path, bands):
    values = ramp(6, 16, 16)
    made = engine((2, 2), 3)
    restored(made, write(tmp_path / "in.tif", values), tmp_path / "out.tif", bands=bands)
    out, _, _, names, _ = read(tmp_path / "out.tif")
    assert names == ("B04", "B03", "B02")
    assert np.abs(out - truth(made, values[[3, 2, 1]])).max() <= 0.5001


class TestWeightsThatNameTheirBands:
    """Their names are B04, B03, B02; `engine` learnt them in this order."""

    @pytest.fixture
    def made(self):
        made = engine((2, 2), 3)
        return replace(made, spec=replace(made.spec, bands=("B04", "b03", "B02")))

    def test_a_scene_that_names_them_is_read_in_their_order(self, tmp_path, made):
        values = ramp(6, 16, 16)
        report = restored(made, write(tmp_path / "in.tif", values), tmp_path / "out.tif")
        out, _, _, names, _ = read(tmp_path / "out.tif")
        assert names == ("B04", "B03", "B02")
        assert np.abs(out - truth(made, values[[3, 2, 1]])).max() <= 0.5001
        assert any("bands were taken by name: B04, b03, B02 of 1 B01" in note for note in report.notes)

    def test_in_parts_and_in_several_processes_too(self, tmp_path, made):
        source = write(tmp_path / "in.tif", ramp(6, 16, 16))
        scene = open_scene(source, Wanted(channels=3, named=made.spec.bands), format_name="geotiff")
        again = pickle.loads(pickle.dumps(scene))
        try:
            assert again.grid.bands == scene.grid.bands == ("B04", "B03", "B02")
            assert any("by name" in note for note in again.notes)
        finally:
            scene.close()
            again.close()

    def test_a_scene_without_names_is_read_in_its_order_and_that_is_said(self, tmp_path, made):
        values = ramp(3, 16, 16)
        source = write(tmp_path / "in.tif", values, names=False, photometric="minisblack")
        report = restored(made, source, tmp_path / "out.tif", bands=())
        assert np.abs(read(tmp_path / "out.tif")[0] - truth(made, values)).max() <= 0.5001
        assert any("does not name its bands; they were taken in its order as B04" in n for n in report.notes)

    @pytest.mark.parametrize(
        ("count", "names", "said"),
        [
            (
                3,
                True,
                r"take the bands B04, b03, B02, and the file has 1 B01, 2 B02, 3 B03; choose with --bands",
            ),
            (
                5,
                False,
                r"take the bands B04, b03, B02, and the file has 5 bands without names; choose 3 of them",
            ),
        ],
    )
    def test_a_scene_that_lacks_them_is_refused(self, tmp_path, made, count, names, said):
        source = write(tmp_path / "in.tif", ramp(count, 16, 16), names=names)
        TestBadInput().refused(ImageFileError, made, source, tmp_path, said)

    def test_a_choice_of_ones_own_comes_first(self, tmp_path, made):
        values = ramp(3, 16, 16)
        restored(made, write(tmp_path / "in.tif", values), tmp_path / "out.tif", bands=("3", "2", "1"))
        assert np.abs(read(tmp_path / "out.tif")[0] - truth(made, values[::-1])).max() <= 0.5001

    def test_the_names_lie_in_the_weights(self, tmp_path):
        path = write_weights(tmp_path / "w.safetensors", 3, bands=("B04", "B03", "B02"))
        made = load_engine("upscaler", {"weights": path}, device=torch.device("cpu"))
        assert made.spec.bands == ("B04", "B03", "B02")
        with pytest.raises(ConfigError, match="bands must name each of 3 channels, got B04"):
            write_weights(tmp_path / "x.safetensors", 3, bands=("B04",))


def test_a_network_of_one_channel_takes_band_by_band(tmp_path):
    values = ramp(5, 16, 20)
    made = engine((2, 2), 1)
    restored(made, write(tmp_path / "in.tif", values), tmp_path / "out.tif")
    assert np.abs(read(tmp_path / "out.tif")[0] - truth(made, values)).max() <= 0.5001


def test_fewer_bands_out_than_in(tmp_path):
    class First(Enlarge):
        def forward(self, x):
            return super().forward(x)[:, :3]

    values = ramp(4, 16, 16)
    made = engine((2, 2), 4, out_channels=3, net=First((2, 2)))
    restored(made, write(tmp_path / "in.tif", values), tmp_path / "out.tif")
    assert np.abs(read(tmp_path / "out.tif")[0] - truth(made, values)).max() <= 0.5001


def test_a_unit_network_sees_parts_of_white(tmp_path):
    class Seen(Enlarge):
        high = 0.0

        def forward(self, x):
            Seen.high = max(Seen.high, float(x.max()))
            return super().forward(x)

    values = ramp(4, 16, 16)
    made = engine((2, 2), 4, net=Seen((2, 2)), file_values=False)
    restored(made, write(tmp_path / "in.tif", values), tmp_path / "out.tif")
    assert abs(Seen.high - values.max() / 65535) < 1e-6
    assert np.abs(read(tmp_path / "out.tif")[0] - truth(made, values)).max() <= 1


def test_clipped_values_are_told(tmp_path):
    class Double(Enlarge):
        def forward(self, x):
            return super().forward(x) * 2

    source = write(tmp_path / "in.tif", ramp(2, 16, 16, dtype=np.uint8, high=250))
    report = restored(engine((2, 2), 2, net=Double((2, 2))), source, tmp_path / "out.tif")
    assert any("beyond uint8" in note and "a warning" in note for note in report.notes)


def test_a_georeferenced_photo_keeps_its_place(tmp_path):
    """Three bands of 8 bits stay a picture; the tags are scaled there as well."""
    source = write(
        tmp_path / "in.tif", ramp(3, 24, 32, dtype=np.uint8, high=250), photometric="RGB", names=False
    )
    restored(engine((2, 2), 3, file_values=False), source, tmp_path / "out.tif")
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        assert b.crs == a.crs
        assert np.allclose(~b.transform @ (a.transform @ (5.5, 7)), (11, 14), atol=1e-6)


class TestBadInput:
    def refused(self, error, made, source, tmp_path, match, request=None, **writing):
        with pytest.raises(error, match=match) as caught:
            restored(made, source, tmp_path / "out.tif", request, **writing)
        assert "\n" not in str(caught.value)
        assert sorted(p.name for p in tmp_path.iterdir()) == [source.name]

    def test_other_bands(self, tmp_path):
        source = write(tmp_path / "in.tif", ramp(4, 16, 16))
        said = r"takes 13 channels, in.tif has 4 \(1 B01, .*4 B04\); choose an engine or weights made for 4"
        self.refused(ShapeError, engine((2, 2), 13), source, tmp_path, said)
        said = r"takes 3 channels, in.tif has 4 .*; choose 3 of them with --bands, or an engine or weights made for 4"
        self.refused(ShapeError, engine((2, 2), 3), source, tmp_path, said)

    def test_an_unknown_band(self, tmp_path):
        source = write(tmp_path / "in.tif", ramp(4, 16, 16))
        self.refused(
            ImageFileError, engine((2, 2), 1), source, tmp_path, "--bands out of 1 B01.*'B99'", bands=("B99",)
        )

    def test_no_data_at_all(self, tmp_path):
        source = write(tmp_path / "in.tif", np.zeros((4, 16, 16), np.uint16), nodata=0)
        self.refused(ConfigError, engine((2, 2), 4), source, tmp_path, "some cells with data, got none")

    def test_a_factor_that_the_network_lacks(self, tmp_path):
        source = write(tmp_path / "in.tif", ramp(4, 16, 16))
        asked = Request(target=TargetSize(scale=1.5))
        self.refused(ConfigError, engine((4, 4), 4), source, tmp_path, "choose --scale 2", asked)

    @pytest.mark.parametrize("asked", [{"strength": 0.5}, {"sharpen": 0.5}])
    def test_what_mixes_values(self, tmp_path, asked):
        source = write(tmp_path / "in.tif", ramp(4, 16, 16))
        self.refused(
            ConfigError, engine((2, 2), 4), source, tmp_path, "a scene keeps its own values", Request(**asked)
        )

    def test_a_damaged_block_is_named(self, tmp_path):
        source = write(tmp_path / "in.tif", ramp(4, 200, 200), compress="deflate")
        data = bytearray(source.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
        source.write_bytes(data)
        self.refused(ImageFileError, engine((2, 2), 4), source, tmp_path, r"a damaged block at y \d+")

    def test_the_input_under_another_name(self, tmp_path):
        source = write(tmp_path / "in.tif", ramp(4, 16, 16))
        (tmp_path / "out.tif").hardlink_to(source)
        before = source.read_bytes()
        with pytest.raises(ImageFileError, match="not an input"):
            restored(engine((2, 2), 4), source, tmp_path / "out.tif", force=True)
        assert source.read_bytes() == before

    def test_a_disk_without_room(self, tmp_path, monkeypatch):
        import shutil

        source = write(tmp_path / "in.tif", ramp(4, 16, 16))
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
        self.refused(ImageFileError, engine((2, 2), 4), source, tmp_path, "room for the result")

    def test_a_picture_has_no_bands_to_choose(self, tmp_path):
        from hypir_core.files.writing import write_picture

        write_picture(tmp_path / "in.png", torch.rand(3, 8, 8))
        self.refused(
            ConfigError, engine((2, 2), 3), tmp_path / "in.png", tmp_path, "--bands belong", bands=("1",)
        )

    def test_without_rasterio_the_extra_is_named(self, tmp_path, monkeypatch):
        import sys

        source = write(tmp_path / "in.tif", ramp(4, 16, 16))
        monkeypatch.setitem(sys.modules, "rasterio", None)
        self.refused(
            MissingDependencyError,
            engine((2, 2), 4),
            source,
            tmp_path,
            r"pip install 'onestep-restore\[scenes\]'",
        )

    def test_a_failing_network_leaves_nothing(self, tmp_path):
        class Fails(Enlarge):
            calls = 0

            def forward(self, x):
                Fails.calls += 1
                return super().forward(x) * (float("nan") if Fails.calls > 6 else 1)

        source = write(tmp_path / "in.tif", ramp(4, 100, 100))
        made, one = engine((2, 2), 4, net=Fails((2, 2))), Runtime(batch_tiles=1)
        self.refused(RangeError, made, source, tmp_path, "NaN", TILES, key="k" * 32, runtime=one)


def test_the_command_restores_thirteen_bands(tmp_path, capsys):
    from hypir_core.cli import main

    source = write(tmp_path / "scene.tif", ramp(13, 32, 40))
    weights = write_weights(tmp_path / "w.safetensors", 13, white=10000)
    words = ["restore", source, "-o", tmp_path / "out.tif", "--engine", "upscaler", "--weights", weights]
    assert main([*map(str, words), "--device", "cpu"]) == 0
    assert "the file does not say" not in capsys.readouterr().err
    out, _, _, names, tags = read(tmp_path / "out.tif")
    assert out.shape == (13, 64, 80)
    assert names[12] == "B13"
    assert out.mean() == pytest.approx(read(source)[0].mean(), rel=0.2)  # reflectances, not parts of 65535
    assert '"engine": "upscaler"' in tags["hypir.report"]
