"""Bad files get one line that says what was expected, what came and what to do."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.errors import ImageFileError, MissingDependencyError
from hypir_core.files.reading import read_picture
from hypir_core.files.writing import write_picture
from tests.core.picture_samples import (
    EXTENSION,
    handmade_png,
    planes_of,
    png_chunk,
    random_samples,
    smooth_planes,
)


def assert_one_line(caught):
    assert "\n" not in str(caught.value)


def refused(path, match, **options):
    with pytest.raises(ImageFileError, match=match) as caught:
        read_picture(path, **options)
    assert_one_line(caught)
    assert str(path) in str(caught.value)


def test_missing_folder_empty_and_text(tmp_path):
    refused(tmp_path / "none.png", "no such file; check the path")
    refused(tmp_path, "got a folder")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "got an empty file")
    refused(tmp_path / "empty.png" / "below.png", "no such file")
    (tmp_path / "words.png").write_text("hello\nworld, this is no picture")
    refused(tmp_path / "words.png", r"expected a picture \(PNG, .*got text that starts with 'hello")
    (tmp_path / "noise.png").write_bytes(b"\x00\x01\xfe\xff" * 10)
    refused(tmp_path / "noise.png", "unknown content that starts with the bytes 00 01 fe ff")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path):
    (tmp_path / "a.png").write_bytes(handmade_png(random_samples((2, 2, 3), "uint8")))
    (tmp_path / "a.png").chmod(0)
    refused(tmp_path / "a.png", "change its permissions")


def truncation_cases():
    for name, options in (
        ("png", {}),
        ("webp", {}),
        ("bmp", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("tiff", {"compression": "jpeg"}),
    ):
        yield pytest.param(name, options, id=f"{name}-{'-'.join(map(str, options.values()))}")


@pytest.mark.parametrize(("name", "options"), truncation_cases())
def test_truncated_files_are_never_filled_up(tmp_path, name, options):
    path = tmp_path / f"a{EXTENSION[name]}"
    Image.fromarray(random_samples((40, 50, 3), "uint8")).save(path, **options)
    whole = path.read_bytes()
    for kept in (13, 30, len(whole) // 4, len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:kept])
        refused(path, "expected a complete .*copy it again")


@pytest.mark.parametrize("name", ["png", "tiff", "npy"])
def test_truncated_deep_files(tmp_path, name, caplog):
    path = tmp_path / f"a{EXTENSION[name]}"
    write_picture(path, planes_of(random_samples((40, 50, 3), "uint16")), bits=16)
    whole = path.read_bytes()
    for kept in (13, 30, len(whole) // 4, len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:kept])
        refused(path, "expected a complete .*copy it again")
    assert caplog.text == ""


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_flipped_byte_in_a_png_is_noticed(tmp_path, dtype):
    data = bytearray(handmade_png(random_samples((40, 50, 3), dtype)))
    data[len(data) // 2] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png", "expected a complete png")


def bomb(name, side_px):
    if name == "png":
        head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0))
        return (
            b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(b"\0")) + png_chunk(b"IEND", b"")
        )
    if name == "bmp":
        info = struct.pack("<IiiHHIIiiII", 40, side_px, -side_px, 1, 24, 0, 0, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info
    if name == "webp":
        chunk = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + (side_px - 1).to_bytes(3, "little") * 2
        return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    if name == "jpg":
        return (
            b"\xff\xd8\xff\xc0"
            + struct.pack(">HBHHB", 17, 8, side_px, side_px, 3)
            + b"\1\x11\0\2\x11\0\3\x11\0"
        )
    if name == "tiff":
        tags = [(256, side_px), (257, side_px), (258, 16), (277, 3), (262, 2)]
        table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
        return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + b"\0" * 4
    out = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (side_px, side_px, 3)}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


@pytest.mark.parametrize("name", ["png", "bmp", "webp", "tiff", "npy", "jpg"])
def test_decompression_bombs_are_refused_from_the_header(tmp_path, name):
    side_px = 65500 if name == "jpg" else 100_000
    (tmp_path / "a.png").write_bytes(bomb(name, side_px))
    refused(tmp_path / "a.png", f"at most 268435456 pixels .*claims {side_px}×{side_px}; shrink")


def test_the_limit_is_the_callers_and_pillows_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 30)).save(path)
    before = Image.MAX_IMAGE_PIXELS
    read_picture(path, max_pixels=900)
    refused(path, "claims 30×30", max_pixels=899)
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # what another program in the process may have chosen
    for name in ("png", "jpg", "webp", "tiff", "bmp"):
        Image.new("RGB", (30, 30), (9, 9, 9)).save(tmp_path / f"b{EXTENSION[name]}")
        picture = read_picture(tmp_path / f"b{EXTENSION[name]}")
        assert abs(int(picture.color_hwc.max()) - 9) <= 1


@pytest.mark.parametrize("name", ["png", "bmp", "tiff", "npy", "jpg"])
def test_zero_size(tmp_path, name):
    (tmp_path / "a.png").write_bytes(bomb(name, 0))
    refused(tmp_path / "a.png", "expected at least 1×1 px, got 0×0")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "NaN or infinity"),
        (np.inf, "NaN or infinity"),
        (255.0, r"\[0,1\], got 0 to 255"),
        (-0.1, "-0.1 to 0"),
    ],
)
@pytest.mark.parametrize("name", ["npy", "tiff"])
def test_float_values_are_checked(tmp_path, name, value, message):
    values = np.zeros((4, 5, 3), np.float32)
    values[1, 2, 0] = value
    path = tmp_path / f"a{EXTENSION[name]}"
    if name == "npy":
        np.save(path, values)
    else:
        tifffile.imwrite(path, values, photometric="rgb")
    refused(path, message)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 3), np.uint8), "expected float32 values .*got uint8"),
        (np.zeros(3, np.float32), r"shape \[3\]"),
        (np.zeros((2, 2, 5), np.float32), r"got 5 channels.*shape is \[2, 2, 5\]"),
        (np.array([[{}]], object), "got object"),
    ],
)
def test_npy_of_the_wrong_kind(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", message)


@pytest.mark.parametrize(
    ("old", "new"), [(b"}", b" "), (b"(2", b"L2"), (b"\x01\x00", b"\x09\x00"), (b"'shape'", b"'shope'")]
)
def test_npy_with_a_damaged_header(tmp_path, old, new):
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.float32))
    data = (tmp_path / "a.npy").read_bytes()
    assert old in data
    (tmp_path / "a.npy").write_bytes(data.replace(old, new, 1))
    refused(tmp_path / "a.npy", "expected a complete picture")


def test_unsupported_tiffs(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4), np.uint32), photometric="minisblack")
    refused(tmp_path / "a.tif", "8-bit, 16-bit or float samples, got 32-bit uint32")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 4, 3), np.uint16), photometric="cielab")
    refused(tmp_path / "b.tif", "CIELAB colours; convert it to RGB")


@given(st.binary(max_size=80), st.sampled_from(["png", "bmp", "webp", "tiff", "npy", "jpg"]))
@settings(max_examples=80, deadline=None)
def test_garbage_behind_a_signature_is_an_image_error(tmp_path_factory, garbage, name):
    path = tmp_path_factory.mktemp("garbage") / "a.png"
    path.write_bytes(bomb(name, 3)[:26] + garbage)
    with pytest.raises(ImageFileError) as caught:
        read_picture(path)
    assert_one_line(caught)


def test_16_bit_png_without_imagecodecs_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(handmade_png(random_samples((2, 2, 3), "uint16")))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(MissingDependencyError, match=r"16-bit PNG needs .*onestep-restore\[cli\]"):
        read_picture(tmp_path / "a.png")
    for name in ("png", "jpg", "webp", "npy"):  # Pillow alone is enough
        write_picture(tmp_path / f"b{EXTENSION[name]}", smooth_planes(3))
        read_picture(tmp_path / f"b{EXTENSION[name]}")
    for name in ("png", "tiff"):  # writing never needs the extra
        write_picture(tmp_path / f"c{EXTENSION[name]}", smooth_planes(3), bits=16)
    monkeypatch.undo()
    for name in ("png", "tiff"):
        assert read_picture(tmp_path / f"c{EXTENSION[name]}").bits == 16
