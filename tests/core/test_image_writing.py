"""Writing is whole or not at all, and never over an input."""

from __future__ import annotations

import errno

import pytest
import torch

from hypir_core.atomic import atomic_file, explain_os_error
from hypir_core.errors import ConfigError, ImageFileError, RangeError, ShapeError, UnknownNameError
from hypir_core.files.reading import read_picture
from hypir_core.files.writing import write_picture
from tests.core.picture_samples import EXTENSION, smooth_planes


def assert_one_line(caught):
    assert "\n" not in str(caught.value)


def not_written(path, match, color_01=None, error=ImageFileError, **options):
    before = (
        {entry: entry.stat().st_mtime_ns for entry in path.parent.glob("**/*")}
        if path.parent.is_dir()
        else {}
    )
    with pytest.raises(error, match=match) as caught:
        write_picture(path, smooth_planes(3) if color_01 is None else color_01, **options)
    assert_one_line(caught)
    after = (
        {entry: entry.stat().st_mtime_ns for entry in path.parent.glob("**/*")}
        if path.parent.is_dir()
        else {}
    )
    assert before == after


def test_existing_output_needs_force(tmp_path):
    path = tmp_path / "new" / "folder" / "a.png"
    write_picture(path, torch.zeros(1, 1, 2, 2))
    not_written(path, "exists; .*--force")
    write_picture(path, torch.ones(1, 1, 2, 2), force=True)
    assert read_picture(path).color_hwc.min() == 255
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]


def test_inputs_are_never_overwritten(tmp_path):
    write_picture(tmp_path / "a.png", smooth_planes(3))
    picture = read_picture(tmp_path / "a.png")
    not_written(tmp_path / "a.png", "got the input .*choose another", like=picture, force=True)
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    not_written(tmp_path / "link.png", "got the input", protect=[tmp_path / "a.png"], force=True)
    not_written(tmp_path / "a.png", "got the input", protect=[str(tmp_path / "link.png")], force=True)
    write_picture(tmp_path / "b.png", smooth_planes(3), protect=[tmp_path / "gone.png", tmp_path / "a.png"])


def test_names_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    not_written(tmp_path / "file" / "a.png", "expected folders only above .*choose another folder")
    (tmp_path / "folder.png").mkdir()
    not_written(tmp_path / "folder.png", "got a folder", force=True)
    not_written(tmp_path / "a.xyz", r"ends in one of \.png, .*got '\.xyz'")
    not_written(tmp_path / "a", "got 'no extension'")
    not_written(tmp_path / "a.bmp", "can be written .*got 'bmp'; use png")
    not_written(tmp_path / "a.png", r"ends in \.jpg for the format jpg, got '\.png'", format_name="jpg")
    not_written(tmp_path / "a.png", "did you mean 'tiff'", format_name="tif", error=UnknownNameError)
    not_written(tmp_path / ("n" * 300 + ".png"), "shorter name")
    write_picture(tmp_path / "no-extension", smooth_planes(3), format_name="png")
    write_picture(tmp_path / ("n" * 250 + ".png"), smooth_planes(3))


def test_jpeg_refuses_transparency_but_not_an_opaque_alpha(tmp_path):
    alpha = torch.ones(1, 1, 24, 40)
    write_picture(tmp_path / "opaque.jpg", smooth_planes(3), alpha_01=alpha)
    alpha[..., 3, 4] = 0.9
    not_written(tmp_path / "a.jpg", "cannot hold; use one of png, webp, tiff, npy", alpha_01=alpha)


def test_sides_that_a_format_cannot_hold(tmp_path):
    not_written(tmp_path / "a.webp", "at most 16383 px .*got 16384×1; use png", torch.zeros(1, 1, 1, 16384))
    not_written(tmp_path / "a.jpg", "at most 65500 px", torch.zeros(1, 1, 65501, 1))


def test_tensors_and_settings_are_checked(tmp_path):
    path = tmp_path / "a.png"
    not_written(path, r"\[1 1\|3 H W\]", torch.zeros(2, 3, 4, 4), error=ShapeError)
    not_written(path, r"\[1 1\|3 H W\]", torch.zeros(3, 0, 4), error=ShapeError)
    not_written(path, "torch.uint8", torch.zeros(3, 4, 4, dtype=torch.uint8), error=ShapeError)
    not_written(path, "alpha .*size", alpha_01=torch.ones(40, 24), error=ShapeError)
    not_written(path, "bits must be", bits=12, error=ConfigError)
    not_written(path, "quality must be", quality=0, error=ConfigError)
    damaged = smooth_planes(3)
    damaged[0, 1, 5, 5] = float("nan")
    not_written(path, "NaN or infinity", damaged, error=RangeError)
    not_written(tmp_path / "a.npy", "NaN or infinity", damaged, error=RangeError)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["png", "jpg", "webp", "tiff", "npy"])
def test_a_write_that_the_system_stops_leaves_the_old_file(tmp_path, name, bits):
    resource = pytest.importorskip("resource", reason="needs POSIX file size limits")
    path = tmp_path / f"a{EXTENSION[name]}"
    path.write_bytes(b"what was there before")
    color_01 = torch.rand(1, 3, 90, 90)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ImageFileError, match=r"expected a (file size|place)") as caught:
            write_picture(path, color_01, bits=bits, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_one_line(caught)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"what was there before"


def test_an_interrupt_leaves_nothing(tmp_path):
    def stopped_half_way():
        with atomic_file(tmp_path / "a.png") as file:
            file.write(b"half")
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_explained(tmp_path):
    words = explain_os_error(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    assert words.endswith(
        "expected room on the disk, got: No space left on device; free some space or choose another folder"
    )


def test_output_follows_the_umask(tmp_path):
    write_picture(tmp_path / "a.png", smooth_planes(3))
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
