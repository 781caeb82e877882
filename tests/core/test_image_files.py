"""Pictures in every format, depth and mode: what is read is what was written."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypir_core.errors import ImageFileError
from hypir_core.files.formats import FORMATS, is_picture_path, output_extension
from hypir_core.files.picture import to_planes
from hypir_core.files.reading import content_hash, read_picture
from hypir_core.files.writing import write_picture
from tests.core.picture_samples import (
    EXTENSION,
    handmade_png,
    planes_of,
    png_chunk,
    random_samples,
    smooth_planes,
)

SMALL = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIZES = st.tuples(st.sampled_from([1, 2, 3, 7, 16, 31]), st.sampled_from([1, 2, 5, 8, 17, 33]))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("png", "uint8"),
        ("png", "uint16"),
        ("tiff", "uint8"),
        ("tiff", "uint16"),
        ("tiff", "float32"),
        ("npy", "float32"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_alpha", [False, True])
@given(size=SIZES)
@SMALL
def test_lossless_formats_return_every_sample(tmp_path_factory, name, dtype, channels, with_alpha, size):
    path = tmp_path_factory.mktemp("round") / f"a{EXTENSION[name]}"
    color = random_samples((*size, channels), dtype)
    alpha = random_samples((*size, 1), dtype, seed=1) if with_alpha else None

    write_picture(
        path,
        planes_of(color),
        alpha_01=None if alpha is None else planes_of(alpha),
        bits=color.dtype.itemsize * 8,
    )
    picture = read_picture(path)

    assert picture.color_hwc.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(picture.color_hwc, color)
    assert (picture.alpha_hw is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha_hw, alpha[..., 0])
    assert picture.size_hw == size
    assert picture.format == name


@pytest.mark.parametrize("name", ["jpg", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_stay_close(tmp_path, name, channels):
    path = tmp_path / f"a{EXTENSION[name]}"
    write_picture(path, smooth_planes(channels))
    color_01, alpha_01 = to_planes(read_picture(path))
    assert alpha_01 is None
    assert (color_01 - smooth_planes(channels)).abs().mean() < 2 / 255


def test_webp_keeps_alpha_and_the_colour_under_it(tmp_path):
    alpha = torch.zeros(1, 1, 24, 40)
    alpha[..., 20:] = 1
    write_picture(tmp_path / "a.webp", smooth_planes(3), alpha_01=alpha, bits=16)
    picture = read_picture(tmp_path / "a.webp")
    color_01, alpha_01 = to_planes(picture)
    assert picture.bits == 8
    assert torch.equal(alpha_01, alpha)
    assert (color_01 - smooth_planes(3)).abs().mean() < 4 / 255


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_reads_a_png_made_from_the_specification(tmp_path, channels, dtype):
    samples = random_samples((5, 7, channels), dtype)
    (tmp_path / "a.png").write_bytes(handmade_png(samples))
    picture = read_picture(tmp_path / "a.png")
    colors = 3 if channels > 2 else 1
    np.testing.assert_array_equal(picture.color_hwc, samples[..., :colors])
    assert picture.bits == samples.dtype.itemsize * 8
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha_hw, samples[..., -1])


def test_16_bit_png_with_a_transparent_colour(tmp_path):
    samples = random_samples((4, 4, 3), "uint16")
    key = png_chunk(b"tRNS", struct.pack(">HHH", *samples[1, 2].tolist()))
    (tmp_path / "a.png").write_bytes(handmade_png(samples, extra=key))
    alpha = read_picture(tmp_path / "a.png").alpha_hw
    assert alpha[1, 2] == 0
    assert (alpha == 65535).sum() == 15


def test_rounding_is_half_up_and_clamped(tmp_path):
    values = torch.tensor([-0.5, 0.0, 0.499 / 255, 0.5 / 255, 1.5 / 255, 2.5 / 255, 254.51 / 255, 1.0, 1.5])
    write_picture(tmp_path / "a.png", values.reshape(1, 1, 1, -1))
    assert read_picture(tmp_path / "a.png").color_hwc.ravel().tolist() == [0, 0, 0, 1, 2, 3, 255, 255, 255]


def test_planes_are_samples_over_white(tmp_path):
    samples = random_samples((6, 9, 4), "uint16")
    (tmp_path / "a.png").write_bytes(handmade_png(samples))
    color_01, alpha_01 = to_planes(read_picture(tmp_path / "a.png"))
    expected = torch.from_numpy(samples.astype(np.float64) / 65535).permute(2, 0, 1)[None]
    assert (color_01 - expected[:, :3]).abs().max() < 6e-8
    assert (alpha_01 - expected[:, 3:]).abs().max() < 6e-8
    assert color_01.dtype == torch.float32
    assert color_01.shape == (1, 3, 6, 9)


def test_depth_follows_the_source_and_the_format(tmp_path):
    (tmp_path / "deep.png").write_bytes(handmade_png(random_samples((3, 3, 3), "uint16")))
    deep = read_picture(tmp_path / "deep.png")
    color_01, _ = to_planes(deep)
    bits = {}
    for name in ("png", "tiff", "npy", "jpg", "webp"):
        path = tmp_path / f"out{EXTENSION[name]}"
        write_picture(path, color_01, like=deep)
        bits[name] = read_picture(path).bits
    assert bits == {"png": 16, "tiff": 16, "npy": 32, "jpg": 8, "webp": 8}


def test_bfloat16_and_three_dimensions_are_accepted(tmp_path):
    write_picture(tmp_path / "a.png", torch.ones(3, 2, 4, dtype=torch.bfloat16), alpha_01=torch.ones(2, 4))
    picture = read_picture(tmp_path / "a.png")
    assert picture.size_hw == (2, 4)
    assert picture.alpha_hw.min() == 255


def test_extensions(tmp_path):
    named = {ending for entry in FORMATS for ending in entry.load().extensions}
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".npy"} <= named
    assert is_picture_path(tmp_path / "A.JPEG")
    assert not is_picture_path(tmp_path / "notes.txt")
    assert output_extension(tmp_path / "a.JPG") == ".jpg"
    assert output_extension(tmp_path / "a.bmp") == ".png"
    assert output_extension(tmp_path / "a.jpg", format_name="tiff") == ".tif"
    with pytest.raises(ImageFileError, match="can be written"):
        output_extension(tmp_path / "a.jpg", format_name="bmp")


def test_content_hash_is_sha256(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert content_hash(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    with pytest.raises(ImageFileError, match="no such file"):
        content_hash(tmp_path / "b")
