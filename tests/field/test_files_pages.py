"""Bands, pages, thumbnails, truncated files and formats of other programs: kept, said or refused by name."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, features

from hypir_core.errors import FileError, HypirError, ImageFileError
from hypir_core.files.formats import KNOWN_UNREADABLE, is_picture_path, unreadable_reason
from hypir_core.files.reading import pages, read_picture, read_picture_of, read_size_of
from hypir_core.files.writing import write_picture
from tests.core.picture_samples import random_samples, smooth_planes


def refused(path, match, **options):
    with pytest.raises(ImageFileError, match=match) as caught:
        read_picture(path, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16", "float64"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bands", [2, 3, 5, 13])
def test_bands_are_refused_by_number_and_read_for_training(tmp_path, dtype, planar, bands):
    path = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(0, 200, (12, 9, bands)).astype(dtype)
    stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=planar, metadata=None)
    refused(
        path, f"1 colour channel and at most an alpha channel, got {bands} channels; bands are not restored"
    )
    picture = read_picture(path, bands="any")
    np.testing.assert_array_equal(picture.color_hwc, values.astype(picture.color_hwc.dtype))
    assert picture.color_hwc.dtype == (dtype if dtype in ("uint8", "uint16") else np.float32)
    assert picture.alpha_hw is None


@pytest.mark.parametrize(("channels", "photometric"), [(5, "rgb"), (5, "separated"), (6, "rgb")])
def test_more_than_an_alpha_beside_the_colours_is_refused(tmp_path, channels, photometric):
    path = tmp_path / "a.tif"
    colors = 3 if photometric == "rgb" else 4
    extra = ["unassalpha", *["unspecified"] * (channels - colors - 1)]
    samples = random_samples((6, 7, channels), "uint8")
    if channels == 5 and photometric == "separated":
        extra = ["unspecified"]
    tifffile.imwrite(path, samples, photometric=photometric, extrasamples=extra)
    refused(path, f"got {channels} channels")


def test_npy_of_many_bands(tmp_path):
    values = np.random.default_rng(0).normal(size=(6, 7, 13)).astype(np.float32) * 100
    np.save(tmp_path / "a.npy", values)
    refused(tmp_path / "a.npy", "3 colour channels and at most an alpha channel, got 13 channels")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.npy", bands="any").color_hwc, values)
    np.save(tmp_path / "b.npy", np.full((3, 3, 7), np.nan, np.float32))
    refused(tmp_path / "b.npy", "expected finite values", bands="any")


def stack_variants(tmp_path):
    slices = random_samples((5, 20, 30), "uint16")
    tifffile.imwrite(tmp_path / "shaped.tif", slices, photometric="minisblack")
    tifffile.imwrite(tmp_path / "imagej.tif", slices, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(
        tmp_path / "a.ome.tif", slices, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"
    )
    tifffile.imwrite(tmp_path / "volume.tif", slices, volumetric=True, photometric="minisblack")
    return slices


def test_a_stack_is_refused_and_its_slices_can_be_named(tmp_path):
    slices = stack_variants(tmp_path)
    for name in ("shaped.tif", "imagej.tif", "a.ome.tif"):
        refused(tmp_path / name, "expected 1 slice, got a stack of 5; stacks are not restored")
        assert pages(tmp_path / name) == 5
        for index in range(5):
            picture = read_picture(tmp_path / name, page=index)
            np.testing.assert_array_equal(picture.color_hwc[..., 0], slices[index])
            assert (picture.page, picture.pages, picture.notes) == (index, 5, ())
        write_picture(tmp_path / "slice.tif", smooth_planes(1), like=read_picture(tmp_path / name, page=2))
        with tifffile.TiffFile(tmp_path / "slice.tif") as opened:
            assert not opened.is_imagej
            assert not opened.is_ome
            assert 270 not in opened.pages.first.tags
        read_picture(tmp_path / "slice.tif")  # claims no stack
        (tmp_path / "slice.tif").unlink()
    refused(tmp_path / "volume.tif", "a volume of 5 slices in one page")


def test_one_slice_is_no_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", random_samples((20, 30, 3), "uint8"), photometric="rgb")
    tifffile.imwrite(tmp_path / "b.tif", random_samples((20, 30), "uint16"), imagej=True)
    tifffile.imwrite(
        tmp_path / "c.ome.tif", random_samples((20, 30, 3), "uint8"), ome=True, photometric="rgb"
    )
    for name in ("a.tif", "b.tif", "c.ome.tif"):
        assert read_picture(tmp_path / name).notes == ()


FRAMES = [Image.new("RGB", (8, 6), color) for color in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tif", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("gif", {}),
        ("png", {}),
        ("webp", {"lossless": True}),
        pytest.param(
            "avif",
            {"quality": 100},
            marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF"),
        ),
    ],
)
def test_pages_are_counted_said_and_read(tmp_path, name, options):
    path = tmp_path / f"a.{name}"
    FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:], **options)
    assert pages(path) == 3
    first = read_picture(path)
    kind = "pages" if name == "tif" else "frames"
    assert first.notes == (f"the first of 3 {kind} is read; the others are not",)
    for index, frame in enumerate(FRAMES):
        picture = read_picture(path, page=index)
        np.testing.assert_allclose(
            picture.color_hwc.astype(int), np.asarray(frame).astype(int), atol=9 if name == "avif" else 0
        )
        assert picture.notes == ()
        assert (picture.page, picture.pages) == (index, 3)
    np.testing.assert_array_equal(first.color_hwc, read_picture(path, page=0).color_hwc)
    for wrong in (3, -1):
        refused(path, f"expected a page from 0 to 2, got {wrong}", page=wrong)


def test_16_bit_pages_of_different_sizes(tmp_path):
    samples = [random_samples((4 + index, 9 - index, 3), "uint16", seed=index) for index in range(3)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in samples:
            writer.write(page, photometric="rgb", metadata=None, contiguous=False)
    for index, page in enumerate(samples):
        np.testing.assert_array_equal(read_picture(tmp_path / "a.tif", page=index).color_hwc, page)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_first_page_that_is_a_thumbnail(tmp_path, dtype):
    full, small = random_samples((40, 60, 3), dtype), random_samples((4, 6, 3), dtype, seed=1)
    with tifffile.TiffWriter(tmp_path / "chain.tif") as writer:
        writer.write(small, photometric="rgb", subfiletype=1, metadata=None)
        writer.write(full, photometric="rgb", metadata=None)
    with tifffile.TiffWriter(tmp_path / "below.tif") as writer:
        writer.write(
            small,
            photometric="rgb",
            subfiletype=1,
            subifds=1,
            metadata=None,
            software="Scanner",
            extratags=[(274, "H", 1, 3, True)],
        )
        writer.write(full, photometric="rgb", metadata=None, software=False)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        writer.write(full, photometric="rgb", subifds=1, metadata=None)
        writer.write(small, photometric="rgb", subfiletype=1, metadata=None)
    for name, expected in (("chain", full), ("below", full[::-1, ::-1]), ("pyramid", full)):
        picture = read_picture(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(picture.color_hwc, expected)
        assert picture.pages == 1
        assert ("thumbnail" in " ".join(picture.notes)) == (name != "pyramid")
        with (tmp_path / f"{name}.tif").open("rb") as file:
            assert read_size_of(file, name) == (40, 60)
    assert b"Scanner" in read_picture(tmp_path / "below.tif").exif


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_truncated_jpeg_is_read_as_far_as_it_goes(tmp_path, options):
    path = tmp_path / "a.jpg"
    whole = random_samples((160, 48, 3), "uint8")
    Image.fromarray(whole).save(path, quality=90, **options)
    data = path.read_bytes()
    complete = read_picture(path)
    assert complete.notes == ()
    path.write_bytes(data[: len(data) * 6 // 10])
    picture = read_picture(path)
    assert picture.size_hw == (160, 48)
    assert len(picture.notes) == 1
    assert "the JPEG is truncated: about" in picture.notes[0]
    if not options:
        np.testing.assert_array_equal(picture.color_hwc[:64], complete.color_hwc[:64])
        share = int(picture.notes[0].split("about ")[1].split()[0])
        assert 45 <= share <= 75
    for kept in (30, 400):
        path.write_bytes(data[:kept])
        refused(path, "expected a complete")


@pytest.mark.parametrize(
    ("name", "mode", "expected_mode"),
    [
        ("a.gif", "P", "RGB"),
        ("a.gif", "L", "RGB"),
        ("a.jp2", "RGB", "RGB"),
        ("a.jp2", "L", "L"),
        ("a.jp2", "RGBA", "RGBA"),
        ("a.j2k", "RGB", "RGB"),
        ("a.tga", "RGB", "RGB"),
        ("a.tga", "RGBA", "RGBA"),
        ("a.tga", "L", "L"),
        ("a.ppm", "RGB", "RGB"),
        ("a.pgm", "L", "L"),
        ("a.pbm", "1", "L"),
    ],
)
def test_formats_that_pillow_reads(tmp_path, name, mode, expected_mode):
    path = tmp_path / name
    samples = random_samples((13, 17, 3), "uint8")
    source = Image.fromarray(samples)
    source = (source.quantize(16) if mode == "P" else source.convert(mode)) if mode != "RGB" else source
    if mode == "RGBA":
        source.putalpha(Image.fromarray(random_samples((13, 17), "uint8", seed=1)))
    source.save(path)
    with Image.open(path) as opened:
        expected = np.asarray(opened.convert(expected_mode))
    picture = read_picture(path)
    colors = 3 if expected_mode.startswith("RGB") else 1
    np.testing.assert_array_equal(picture.color_hwc, expected.reshape(13, 17, -1)[..., :colors])
    assert (picture.alpha_hw is not None) == (expected_mode == "RGBA")
    if picture.alpha_hw is not None:
        np.testing.assert_array_equal(picture.alpha_hw, expected[..., 3])
    assert is_picture_path(path)
    with path.open("rb") as file:
        assert read_size_of(file, name) == (13, 17)
        np.testing.assert_array_equal(read_picture_of(file, name).color_hwc, picture.color_hwc)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_upright(tmp_path, orientation):
    markers = np.zeros((32, 64, 3), np.uint8)
    markers[:16, :32] = 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(markers).save(tmp_path / "a.avif", exif=exif, quality=95)
    picture = read_picture(tmp_path / "a.avif")
    upright = [markers, markers[:, ::-1], markers[::-1, ::-1], markers[::-1]]
    expected = (
        upright + [u.swapaxes(0, 1) for u in (markers, markers[::-1], markers[::-1, ::-1], markers[:, ::-1])]
    )[orientation - 1]
    assert np.abs(picture.color_hwc.astype(int) - expected).mean() < 8
    assert picture.orientation == orientation


@pytest.mark.parametrize("white", [1023, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_ppm(tmp_path, white, channels):
    samples = np.random.default_rng(0).integers(0, white + 1, (5, 7, channels)).astype(">u2")
    head = f"P{6 if channels == 3 else 5}\n# a comment\n7 5\n{white}\n".encode()
    (tmp_path / "a.ppm").write_bytes(head + samples.tobytes())
    picture = read_picture(tmp_path / "a.ppm")
    expected = np.round(samples.astype(np.float64) * 65535 / white)
    np.testing.assert_allclose(picture.color_hwc.astype(int), expected, atol=1)
    (tmp_path / "b.ppm").write_bytes(head + samples.tobytes()[:-1])
    refused(tmp_path / "b.ppm", "expected a complete ppm")


def test_float_pfm(tmp_path):
    values = (random_samples((5, 7), "uint8") / 255).astype(np.float32)
    (tmp_path / "a.pfm").write_bytes(b"Pf\n7 5\n-1.0\n" + values[::-1].astype("<f4").tobytes())
    np.testing.assert_array_equal(read_picture(tmp_path / "a.pfm").color_hwc[..., 0], values)


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_jp2(tmp_path, bits):
    import imagecodecs

    samples = (random_samples((20, 24, 3), "uint16") >> (16 - bits)).astype(np.uint16)
    (tmp_path / "a.jp2").write_bytes(
        imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, bitspersample=bits)
    )
    picture = read_picture(tmp_path / "a.jp2")
    expected = np.round(samples.astype(np.float64) * 65535 / (2**bits - 1))
    np.testing.assert_allclose(picture.color_hwc.astype(int), expected, atol=1)
    assert picture.bits == 16


STRANGERS = {
    "a.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture; its decoder|a HEIC picture"),
    "a.jxl": (b"\xff\x0a\xfa\x1f\x41\x91", "a JPEG XL"),
    "b.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL"),
    "a.cr2": (b"II*\0\x10\0\0\0CR\x02\0", "a Canon raw file; develop it first"),
    "a.cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1", "a Canon raw file; develop it first"),
    "a.raf": (b"FUJIFILMCCD-RAW 0201", "a Fujifilm raw file; develop it first"),
    "a.orf": (b"IIRO\x08\0\0\0", "an Olympus raw file"),
    "a.rw2": (b"IIU\0\x08\0\0\0", "a Panasonic raw file"),
    "a.psd": (b"8BPS\0\1", "a Photoshop file; export it"),
    "a.exr": (b"\x76\x2f\x31\x01\x02", "an OpenEXR file; convert it"),
    "a.mp4": (b"\0\0\0\x18ftypisom\0\0\2\0", "a video; export its frames"),
    "a.pdf": (b"%PDF-1.7\n", "a PDF; export it"),
    "a.svg": (b'<svg xmlns="">', "an SVG drawing"),
    "a.ico": (b"\0\0\1\0\1\0", "an icon"),
    "a.dds": (b"DDS |\0\0\0", "a DDS texture"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_known_files_that_cannot_be_read_are_named_by_content(tmp_path, name):
    data, match = STRANGERS[name]
    path = tmp_path / "holiday.png"  # the content decides
    path.write_bytes(data.ljust(64, b"\0"))
    refused(path, match)
    assert unreadable_reason(tmp_path / name.upper())
    assert not is_picture_path(tmp_path / name)


def test_dng_and_other_raw_files_that_begin_as_tiff(tmp_path):
    small, sensor = random_samples((8, 8, 3), "uint8"), random_samples((64, 64), "uint16")
    with tifffile.TiffWriter(tmp_path / "a.dng") as writer:
        writer.write(
            small,
            photometric="rgb",
            subfiletype=1,
            subifds=1,
            extratags=[(50706, "B", 4, (1, 4, 0, 0), True)],
        )
        writer.write(sensor, photometric="cfa")
    with tifffile.TiffWriter(tmp_path / "a.nef") as writer:
        writer.write(small, photometric="rgb", subfiletype=1, subifds=1)
        writer.write(sensor, photometric="cfa")
    for name in ("a.dng", "a.nef"):
        refused(tmp_path / name, "got a camera's raw file; .*develop it first")


def test_endings_are_told_once():
    for ending, reason in KNOWN_UNREADABLE.items():
        assert ending.startswith(".")
        assert ending == ending.lower()
        assert not reason.endswith(".")
        assert not is_picture_path(Path(f"a{ending}"))


def test_file_errors_are_one_family():
    assert issubclass(ImageFileError, FileError)
    assert issubclass(FileError, HypirError)


def test_a_jpeg_of_several_pictures_says_so(tmp_path):
    FRAMES[0].resize((64, 64)).save(
        tmp_path / "a.mpo", format="MPO", save_all=True, append_images=[FRAMES[1].resize((64, 64))]
    )
    picture = read_picture(tmp_path / "a.mpo")
    assert picture.format == "jpg"
    assert "the first of 2 pictures in the JPEG" in picture.notes[0]


def test_tiff_directories_in_a_ring_end(tmp_path):
    out = io.BytesIO()
    Image.new("L", (4, 4), 9).save(out, "TIFF")
    data = bytearray(out.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    (tmp_path / "a.tif").write_bytes(data)
    assert pages(tmp_path / "a.tif") == 1
    assert int(read_picture(tmp_path / "a.tif").color_hwc[0, 0, 0]) == 9
