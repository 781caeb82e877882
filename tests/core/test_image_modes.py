"""What other programs write: palettes, 1 bit, CMYK, alpha of every kind, odd TIFF and npy layouts."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from hypir_core.errors import ImageFileError
from hypir_core.files.reading import read_picture
from tests.core.picture_samples import EXTENSION, random_samples


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("1", "png"),
        ("1", "tiff"),
        ("1", "bmp"),
        ("L", "bmp"),
        ("RGB", "bmp"),
        ("P", "bmp"),
        ("P", "png"),
        ("P", "tiff"),
        ("LA", "png"),
        ("RGBA", "tiff"),
        ("L", "jpg"),
        ("RGB", "jpg"),
        ("CMYK", "jpg"),
        ("CMYK", "tiff"),
    ],
)
def test_modes_match_pillows_conversion(tmp_path, mode, name):
    source = Image.fromarray(random_samples((11, 14, 3), "uint8")).convert("L" if mode == "LA" else "RGB")
    source = source.convert(mode)
    path = tmp_path / f"a{EXTENSION[name]}"
    source.save(path)
    picture = read_picture(path)
    with Image.open(path) as reference:
        grey = mode in ("1", "L", "LA")
        expected = np.asarray(reference.convert("L" if grey else "RGB"))
    np.testing.assert_array_equal(picture.color_hwc, expected[..., None] if grey else expected)
    assert picture.source_mode == mode
    assert (picture.alpha_hw is not None) == (mode in ("LA", "RGBA"))


def test_palette_with_transparency(tmp_path):
    source = Image.new("P", (3, 1))
    source.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    source.putdata([0, 1, 2])
    source.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    picture = read_picture(tmp_path / "a.png")
    assert picture.color_hwc.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert picture.alpha_hw.tolist() == [[0, 128, 255]]
    assert picture.source_mode == "P"


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_tiff_of_other_writers(tmp_path, compression, planar):
    samples = random_samples((20, 13, 3), "uint16")
    stored = samples if planar == "contig" else np.moveaxis(samples, -1, 0)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        rowsperstrip=6,
    )
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").color_hwc, samples)


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}])
def test_16_bit_tiff_layouts(tmp_path, options):
    samples = random_samples((20, 33), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="minisblack", **options)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").color_hwc[..., 0], samples)


def test_tiff_where_zero_is_white(tmp_path):
    samples = random_samples((4, 5), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="miniswhite")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").color_hwc[..., 0], 65535 - samples)


def test_tiff_with_premultiplied_alpha(tmp_path):
    stored = np.array([[[10000, 5000, 0, 20000], [7, 7, 7, 0], [65535, 1, 2, 65535]]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(tmp_path / "a.tif")
    assert picture.color_hwc.tolist() == [[[32768, 16384, 0], [0, 0, 0], [65535, 1, 2]]]
    assert picture.alpha_hw.tolist() == [[20000, 0, 65535]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_whose_fourth_sample_is_no_alpha(tmp_path, dtype):
    samples = random_samples((3, 4, 4), dtype)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(ImageFileError, match="3 colour channels and at most an alpha channel, got 4"):
        read_picture(tmp_path / "a.tif")
    picture = read_picture(tmp_path / "a.tif", bands="any")
    np.testing.assert_array_equal(picture.color_hwc, samples)
    assert picture.alpha_hw is None


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_npy_of_other_float_types(tmp_path, dtype):
    values = (random_samples((3, 4), "uint8") / 256).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(values))
    np.testing.assert_array_equal(
        read_picture(tmp_path / "a.npy").color_hwc[..., 0], values.astype(np.float32)
    )


def test_content_decides_not_the_extension(tmp_path):
    Image.new("RGB", (4, 3), (1, 2, 3)).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.format == "bmp"
    assert picture.color_hwc[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["png", "webp", "tiff"])
def test_first_picture_of_several(tmp_path, name):
    frames = [Image.new("RGB", (6, 5), color) for color in ((200, 0, 0), (0, 200, 0))]
    path = tmp_path / f"a{EXTENSION[name]}"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], **({"lossless": True} if name == "webp" else {})
    )
    assert read_picture(path).color_hwc[0, 0].tolist() == [200, 0, 0]


def cmyk_profile_by_black_alone():
    """Build an ICC v2 CMYK profile (lut8) whose L* is 100 (1 - K) whatever the other inks are."""

    def four(number):
        return struct.pack(">I", number)

    straight = bytes(range(256))
    grid = b"".join(bytes([0 if black else 255, 128, 128]) for _ in range(8) for black in (0, 1))
    identity = b"".join(struct.pack(">i", 65536 if i in (0, 4, 8) else 0) for i in range(9))
    lut = b"mft1" + four(0) + bytes([4, 3, 2, 0]) + identity + straight * 4 + grid + straight * 3
    white = b"XYZ " + four(0) + struct.pack(">iii", 63190, 65536, 54061)
    table = (
        four(2) + b"wtpt" + four(156) + four(len(white)) + b"A2B0" + four(156 + len(white)) + four(len(lut))
    )
    d50 = struct.pack(">iii", 63190, 65536, 54061)
    date = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    head = b"\0" * 8 + b"\x02\x10\0\0" + b"prtrCMYKLab " + date + b"acsp" + b"\0" * 28 + d50
    total = 128 + len(table) + len(white) + len(lut)
    return (four(total) + head[4:]).ljust(128, b"\0") + table + white + lut


@pytest.mark.parametrize("name", ["jpg", "tiff"])
def test_cmyk_goes_through_its_profile(tmp_path, name):
    path = tmp_path / f"a{EXTENSION[name]}"
    Image.new("CMYK", (16, 16), (0, 255, 90, 127)).save(path, icc_profile=cmyk_profile_by_black_alone())
    picture = read_picture(path)
    lightness = 100 * (1 - 127 / 255)
    luminance = ((lightness + 16) / 116) ** 3  # CIE 1976 L*, inverted
    grey = 255 * (1.055 * luminance ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    np.testing.assert_allclose(picture.color_hwc.reshape(-1, 3).mean(0), grey, atol=2)
    assert picture.icc is None
    assert picture.source_mode == "CMYK"


def test_unusable_cmyk_profile_is_an_error(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg", icc_profile=b"not a profile" * 20)
    with pytest.raises(ImageFileError, match="expected a usable CMYK profile"):
        read_picture(tmp_path / "a.jpg")
