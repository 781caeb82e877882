"""Training reads pictures as restoring does."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from hypir_core.errors import ImageFileError
from hypir_core.files.picture import to_planes
from hypir_core.files.reading import read_picture
from tests.core.picture_samples import handmade_png, random_samples
from tests.field import carrying_files as made
from train.data.endings import ENDINGS
from train.data.levels import to_01
from train.data.pictures import read_rgb, read_size

PLAIN = [
    *((field, name) for field in ("icc", "grey icc", "cmyk", "orientation", "16 bit", "float", "pages") for name in
      ("png", "jpg", "webp", "tiff", "bmp", "gif", "jp2", "ppm", "npy")),
    ("transparency", "png"),
    ("transparency", "gif"),
    ("raw exif", "png"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "name"), PLAIN)
def test_training_sees_what_restoring_sees(tmp_path, field, name):
    from hypir_core.files.metadata.kept import FIELDS

    if name not in FIELDS[field].carried_by:
        return
    path = tmp_path / f"a.{name}"
    made.MAKERS[field](path, name)
    color, _ = to_planes(read_picture(path))
    expected = color[0] if color.shape[1] == 3 else color[0].expand(3, -1, -1)
    for file in (path, io.BytesIO(path.read_bytes())):
        pixels = read_rgb(file)
        assert torch.equal(to_01(pixels), expected)
        assert read_size(file) == (pixels.shape[2], pixels.shape[1])


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".dib", ".pgm", ".tga", ".avif"])
def test_endings_are_those_of_restoring(ending):
    assert ending in ENDINGS


def test_a_jpeg_without_its_end_is_not_trained_on(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(random_samples((160, 48, 3), "uint8")).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(ImageFileError, match=r"^torn: cannot be decoded \(the JPEG is truncated"):
        read_rgb(path, "torn")
    assert not read_picture(path).is_complete


def test_bands_are_not_taken_for_colours(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, random_samples((9, 8, 13), "uint16"), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(ImageFileError, match="got 13 channels"):
        read_rgb(path)
    with pytest.raises(ImageFileError, match=r"^cannot be read \(expected 1 colour"):
        read_size(path)


def test_messages_name_the_picture_once(tmp_path):
    (tmp_path / "text.png").write_text("words")
    with pytest.raises(ImageFileError, match=r"^is not a picture$"):
        read_size(tmp_path / "text.png")
    with pytest.raises(ImageFileError, match=r"^text: cannot be decoded .*got text that starts"):
        read_rgb(tmp_path / "text.png", "text")
    with pytest.raises(ImageFileError, match=r"^cannot be read "):
        read_size(tmp_path / "gone.png")


def test_16_bits_are_kept(tmp_path):
    samples = random_samples((5, 7, 3), "uint16")
    (tmp_path / "a.png").write_bytes(handmade_png(samples))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png").permute(1, 2, 0).numpy(), samples)
