"""What travels beside the pixels: orientation, EXIF, ICC profile, text."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from hypir_core.errors import ConfigError, ImageFileError
from hypir_core.files.picture import to_planes
from hypir_core.files.reading import read_picture, read_text
from hypir_core.files.streams import tiff
from hypir_core.files.writing import write_picture
from tests.core.picture_samples import EXTENSION, handmade_png, png_chunk, random_samples, smooth_planes

MAKER_NOTE = b"maker" + bytes(range(200))


def camera_exif(orientation=1, *, thumbnail=b"", comment=b"", order="<"):
    """Build an EXIF block as a camera does, with Pillow; a thumbnail directory is added by hand."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif[0x010E] = "A caption"
    photo = exif.get_ifd(0x8769)
    photo[0x927C] = MAKER_NOTE
    photo[0xA002], photo[0xA003] = 4000, 3000
    photo[0x9003] = "2001:02:03 04:05:06"
    if comment:
        photo[0x9286] = comment
    exif.get_ifd(0x8825)[1] = "N"
    blob = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    if thumbnail:
        (start,) = struct.unpack_from(order + "I", blob, 4)
        (count,) = struct.unpack_from(order + "H", blob, start)
        offset = len(blob)
        struct.pack_into(order + "I", blob, start + 2 + 12 * count, offset)
        blob += struct.pack(order + "H", 2)
        blob += struct.pack(order + "HHII", 0x0201, 4, 1, offset + 30)
        blob += struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail))
        blob += struct.pack(order + "I", 0) + thumbnail
    return bytes(blob)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("png", {}),
        ("jpg", {}),
        ("webp", {"lossless": True}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(tmp_path, name, options, orientation):
    path = tmp_path / f"a{EXTENSION[name]}"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    Image.fromarray(random_samples((8, 24, 3), "uint8")).save(path, exif=exif, **options)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.color_hwc, expected)
    assert picture.size_hw == ((24, 8) if orientation >= 5 else (8, 24))
    assert picture.orientation == orientation

    write_picture(tmp_path / "b.png", to_planes(picture)[0], like=picture)
    with Image.open(tmp_path / "b.png") as written:
        assert written.getexif().get(0x0112, 1) == 1
        assert written.getexif()[0x010F] == "Maker"
    np.testing.assert_array_equal(read_picture(tmp_path / "b.png").color_hwc, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_files(tmp_path, orientation):
    samples = random_samples((2, 3, 3), "uint16")
    chunk = png_chunk(b"eXIf", camera_exif(orientation))
    (tmp_path / "a.png").write_bytes(handmade_png(samples, extra=chunk))
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=[tag])
    markers = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))  # the position of each pixel
    markers.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(markers))
    expected = samples.reshape(6, 3)[upright]
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").color_hwc, expected)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").color_hwc, expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_survives_and_tells_the_new_size(tmp_path, name, bits, order):
    Image.new("RGB", (8, 8)).save(
        tmp_path / "a.jpg", exif=b"Exif\0\0" + camera_exif(6, thumbnail=b"\xff\xd8old", order=order)
    )
    picture = read_picture(tmp_path / "a.jpg")
    path = tmp_path / f"b{EXTENSION[name]}"
    write_picture(path, smooth_planes(3), like=picture, text={"hypir": "x"}, bits=bits)
    if bits == 8 or name in (
        "jpg",
        "webp",
    ):  # an independent reader; it cannot open 16-bit colour TIFF exactly
        with Image.open(path) as written:
            exif = written.getexif()
            photo = exif.get_ifd(0x8769)
            assert exif[0x010E] == "A caption"
            assert exif.get_ifd(0x8825)[1] == "N"
            assert photo[0x927C] == MAKER_NOTE
            assert photo[0x9003] == "2001:02:03 04:05:06"
            assert (photo[0xA002], photo[0xA003]) == (40, 24)
            assert not exif.get_ifd(0x0201)
    again = read_picture(path)
    assert MAKER_NOTE in again.exif
    assert b"\xff\xd8old" not in again.exif
    assert read_text(path) == {"hypir": "x"}


def test_exif_and_profile_in_a_big_tiff(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "CLASSIC_TIFF_BYTES", 0)
    icc = b"-" * 16 + b"RGB " + b"-" * 200
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", exif=camera_exif(1), icc_profile=icc)
    picture = read_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.tif", smooth_planes(3), like=picture, text={"hypir": "x"})
    with tifffile.TiffFile(tmp_path / "b.tif") as opened:
        assert opened.is_bigtiff
        assert opened.pages.first.tags["ExifTag"].value["MakerNote"] == MAKER_NOTE
    again = read_picture(tmp_path / "b.tif")
    assert MAKER_NOTE in again.exif
    assert again.icc == picture.icc
    assert read_text(tmp_path / "b.tif") == {"hypir": "x"}


def test_vendor_notes_stay_where_they_were(tmp_path):
    exif = camera_exif(1)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.exif == exif
    write_picture(tmp_path / "b.jpg", smooth_planes(3), like=picture, text={"hypir": "x"})
    written = read_picture(tmp_path / "b.jpg").exif
    assert written[8 : len(exif)] == exif[8:]
    assert written.index(MAKER_NOTE) == exif.index(MAKER_NOTE)


def test_a_comment_that_was_there_is_kept(tmp_path):
    exif = camera_exif(1, comment=b"ASCII\0\0\0holiday")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    assert read_text(tmp_path / "a.jpg") == {"UserComment": "holiday"}
    picture = read_picture(tmp_path / "a.jpg")
    for name in ("b.jpg", "c.jpg"):
        write_picture(tmp_path / name, smooth_planes(3), like=picture, text={"hypir": "x"})
        assert read_text(tmp_path / name) == {"UserComment": "holiday", "hypir": "x"}
        picture = read_picture(tmp_path / name)


def test_damaged_exif_is_dropped_with_a_warning(tmp_path, caplog):
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.exif is None
    assert "EXIF dropped" in caplog.text


@given(
    cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 399), st.integers(1, 255)), max_size=4)
)
@settings(max_examples=60, deadline=None)
def test_any_exif_damage_leaves_a_picture(tmp_path_factory, cut, flips):
    exif = bytearray(camera_exif(6, thumbnail=b"\xff\xd8" + b"t" * 20)[: max(1, cut)])
    for position, mask in flips:
        exif[position % len(exif)] ^= mask
    folder = tmp_path_factory.mktemp("exif")
    Image.new("RGB", (4, 8), (9, 9, 9)).save(folder / "a.png", exif=bytes(exif))
    picture = read_picture(folder / "a.png")
    assert sorted(picture.size_hw) == [4, 8]
    write_picture(folder / "b.png", smooth_planes(3), like=picture)
    write_picture(folder / "b.tif", smooth_planes(3), like=picture, text={"hypir": "x"})
    assert read_text(folder / "b.tif")["hypir"] == "x"


@pytest.mark.parametrize("name", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("bits", [8, 16])
def test_icc_profile_is_kept_byte_for_byte(tmp_path, name, bits):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc += bytes(range(256)) * 400  # longer than one JPEG segment
    Image.new("RGB", (8, 8)).save(tmp_path / "in.jpg", icc_profile=icc)
    picture = read_picture(tmp_path / "in.jpg")
    assert picture.icc == icc
    path = tmp_path / f"a{EXTENSION[name]}"
    write_picture(path, smooth_planes(3), like=picture, bits=bits)
    assert read_picture(path).icc == icc
    write_picture(tmp_path / f"grey{EXTENSION[name]}", smooth_planes(1), like=picture, bits=bits)
    assert read_picture(tmp_path / f"grey{EXTENSION[name]}").icc == (icc if name == "webp" else None)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["png", "jpg", "webp", "tiff"])
def test_text_comes_back(tmp_path, name, bits):
    text = {"hypir.request": '{"prompt": "Zürich 湖, a \\"lake\\""}', "hypir.report": "x" * 5000}
    path = tmp_path / f"a{EXTENSION[name]}"
    write_picture(path, smooth_planes(3), text=text, bits=bits)
    assert read_text(path) == text


def test_png_text_is_found_by_pillow_and_read_from_other_writers(tmp_path):
    write_picture(tmp_path / "a.png", smooth_planes(3), text={"hypir": "湖"}, bits=16)
    with Image.open(tmp_path / "a.png") as written:
        assert written.text == {"hypir": "湖"}
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("plain", "words")
    info.add_text("packed", "more words", zip=True)
    info.add_itxt("both", "語", zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "b.png", pnginfo=info)
    assert read_text(tmp_path / "b.png") == {"plain": "words", "packed": "more words", "both": "語"}


def test_files_without_text_say_so(tmp_path):
    for name in ("png", "jpg", "npy", "tiff"):
        write_picture(tmp_path / f"a{EXTENSION[name]}", smooth_planes(3))
        assert read_text(tmp_path / f"a{EXTENSION[name]}") == {}


def test_text_too_long_for_a_jpeg(tmp_path):
    with pytest.raises(ImageFileError, match=r"at most 65527 bytes of EXIF.*write png, webp or tiff"):
        write_picture(tmp_path / "a.jpg", smooth_planes(3), text={"hypir": "x" * 70000})
    assert list(tmp_path.iterdir()) == []


def test_png_text_key_is_checked(tmp_path):
    with pytest.raises(ConfigError, match="1 to 79 Latin-1"):
        write_picture(tmp_path / "a.png", smooth_planes(3), text={"": "x"})
    assert list(tmp_path.iterdir()) == []
