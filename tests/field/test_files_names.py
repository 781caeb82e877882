"""Odd names, full disks and stopped programs: one line each, and nothing half-written."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypir_core.atomic import atomic_file, sweep_leftovers
from hypir_core.errors import FileError, ImageFileError
from hypir_core.files.opening import checked_header
from hypir_core.files.reading import content_hash, pages, read_picture, read_text
from hypir_core.files.sink import open_sink
from hypir_core.files.source import open_source
from hypir_core.files.writing import write_picture

COLOR = torch.rand(1, 3, 4, 5)
READERS = (read_picture, pages, read_text, content_hash)


def read_boxes(path):
    with open_source(path) as source:
        return source


def one_line(caught, path):
    words = str(caught.value)
    assert "\n" not in words
    assert words.count(path if isinstance(path, str) else str(path)) <= 1


@pytest.mark.parametrize("reader", [*READERS, read_boxes])
@pytest.mark.parametrize(
    "name", ["n" * 300 + ".png", "a\0b.png", "gone.png", "gone/deeper.png", "\udcff\udcfe.png"]
)
def test_names_that_cannot_be_read(tmp_path, reader, name):
    with pytest.raises(ImageFileError) as caught:
        reader(tmp_path / name)
    one_line(caught, str(tmp_path / name))


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif", ".npy"])
@pytest.mark.parametrize("name", ["n" * 300, "ü" * 200, "a\0b"])
def test_names_that_cannot_be_written(tmp_path, name, ending):
    path = tmp_path / (name + ending)
    for write in (
        lambda: write_picture(path, COLOR),
        lambda: streamed(path),
    ):
        with pytest.raises(ImageFileError, match="name") as caught:
            write()
        one_line(caught, path)
        assert list(tmp_path.iterdir()) == []


def streamed(path, *, force=False):
    sink = open_sink(path, (4, 5), 3, force=force)
    try:
        sink.write(0, COLOR)
        sink.commit()
    finally:
        sink.abort()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
@pytest.mark.parametrize("ending", [b".png", b".jpg", b".webp", b".tif", b".npy"])
def test_names_that_are_not_utf_8_are_names_too(tmp_path, ending):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xeate" + ending))
    write_picture(path, COLOR)
    streamed(path, force=True)
    for reader in (*READERS, read_boxes):
        reader(path)
    path.write_bytes(b"words")
    with pytest.raises(ImageFileError, match="expected a picture"):
        read_picture(path)


@given(
    name=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=80
    ).filter(lambda name: name not in (".", ".."))
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids many more characters")
def test_any_name_is_written_and_read_or_refused_in_a_line(tmp_path, name):
    path = tmp_path / f"{name}.png"
    if len(os.fsencode(path.name)) > 255:
        with pytest.raises(ImageFileError, match="shorter name"):
            write_picture(path, COLOR, force=True)
        return
    write_picture(path, COLOR, force=True)
    assert read_picture(path).size_hw == (4, 5)
    assert not [entry for entry in tmp_path.iterdir() if entry.name.endswith(".tmp")]
    path.unlink()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_what_the_system_says_while_writing_is_one_line(tmp_path, code):
    path = tmp_path / "a.bin"

    def fails():
        with atomic_file(path, error=FileError) as file:
            file.write(b"half")
            raise OSError(code, os.strerror(code))

    with pytest.raises(FileError, match=os.strerror(code)) as caught:
        fails()
    one_line(caught, path)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_says_while_reading_is_one_line(tmp_path):
    with pytest.raises(ImageFileError, match="expected a file that can be read, got: Input/output error"):
        checked_header(tmp_path / "a.png", BrokenDisk(b"x" * 100), None)


class BrokenDisk(io.BytesIO):
    """A file on a disk that fails."""

    def read(self, *_size):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_is_full_when_the_file_is_closed(tmp_path, monkeypatch):
    """Small files stay in the buffer: the system says that the disk is full when they are closed."""
    path, opened = tmp_path / "a.png", Path.open

    def on_a_full_disk(self, mode="r", *args, **options):
        if self.suffix == ".tmp":
            opened(self, "xb").close()
            return opened(Path("/dev/full"), "w+b")
        return opened(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    for write in (lambda: write_picture(path, COLOR), lambda: streamed(path)):
        with pytest.raises(ImageFileError, match="expected room on the disk") as caught:
            write()
        one_line(caught, path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
def test_a_program_that_is_stopped_leaves_what_was_there(tmp_path, signal, name):
    """SIGTERM ends a program without cleaning up; the leftover has a hidden name of its own, never the picture's."""
    script = textwrap.dedent(f"""
        import os, signal, torch
        from hypir_core.files.sink import open_sink
        sink = open_sink({str(tmp_path / name)!r}, (64, 64), 3, force=True)
        sink.write(0, torch.rand(1, 3, 32, 64))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
        os.kill(os.getpid(), signal.{signal})
    """)
    (tmp_path / name).write_bytes(b"what was there before")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode != 0
    assert (tmp_path / name).read_bytes() == b"what was there before"
    others = [entry.name for entry in tmp_path.iterdir() if entry.name != name]
    assert all(other.startswith(f".{name}.") and other.endswith(".tmp") for other in others)
    if signal == "SIGINT":
        assert others == []


def test_what_killed_programs_left_is_swept_and_nothing_else(tmp_path):
    long_ago = 1_000_000_000
    old = [".a.png.0123456789ab.tmp", f".{'n' * 40}.ffffffffffff.tmp"]
    others = ["a.png", ".a.png.tmp", ".hidden", "b.0123456789ab.tmp", ".a.png.0123456789AB.tmp"]
    for name in (*old, *others):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / ".c.png.0123456789ab.tmp").touch()  # somebody is writing it
    assert sweep_leftovers(tmp_path) == 2
    assert {entry.name for entry in tmp_path.iterdir()} == {*others, ".c.png.0123456789ab.tmp"}
    assert sweep_leftovers(tmp_path / "gone") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_next_run_sweeps_its_output_folder(tmp_path):
    from hypir_core.cli import main

    write_picture(tmp_path / "in" / "a.png", COLOR)
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / ".a.png.0123456789ab.tmp"
    left.touch()
    os.utime(left, (1_000_000_000, 1_000_000_000))
    assert main(["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert (tmp_path / "out" / "a.png").exists()
    assert not left.exists()
