"""A batch as people have it: one bad picture, two of one name, a stop in between, a full disk."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.batch.finding import find_pictures
from hypir_core.batch.manifest import MANIFEST, Manifest
from hypir_core.batch.naming import Job, Plan, name_outputs, unlike_names, with_pages
from hypir_core.cli import main
from hypir_core.errors import ConfigError, FileError


def hypir(*words: object) -> int:
    return main([str(word) for word in words])


def picture(path: Path, size: tuple[int, int] = (12, 8), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as opened:
        return opened.size


def made(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST}


# One picture must not end a run.


def test_a_picture_that_is_too_long_fails_alone(tmp_path, capsys):
    source = tmp_path / "in"
    picture(source / "a.png")
    picture(source / "panorama.jpg", (6000, 4))
    assert hypir("restore", source, "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "panorama.jpg: the result would be 24000×16 px" in said or "holds at most" in said
    assert said.count("panorama.jpg") <= 2
    assert "1 of 2 pictures failed; the others are done" in said
    assert made(tmp_path / "out") == {"a.png"}


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("mat1 and mat2 shapes"),
        OSError(28, "No space left on device"),
        ValueError("odd"),
        MemoryError(),
    ],
    ids=lambda fault: type(fault).__name__,
)
@pytest.mark.parametrize("where", ["restore_through", "write_picture", "read_picture"])
def test_whatever_goes_wrong_with_one_picture_is_told_and_the_rest_is_done(
    tmp_path, capsys, monkeypatch, fault, where
):
    from hypir_core.batch import restoring

    source = tmp_path / "in"
    for name in ("a.png", "b.png", "c.png"):
        picture(source / name)
    real, calls = getattr(restoring, where), []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise fault
        return real(*args, **kwargs)

    monkeypatch.setattr(restoring, where, failing)
    assert hypir("restore", source, "-o", tmp_path / "out", "--scale", 1) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2
    assert "b.png: " in said[0]
    assert made(tmp_path / "out") == {"a.png", "c.png"}


def test_a_manifest_that_cannot_be_written_fails_the_picture_and_not_the_run(tmp_path, capsys, monkeypatch):
    source = tmp_path / "in"
    for name in ("a.png", "b.png"):
        picture(source / name)

    def full(self, result):
        raise FileError(f"{self.path}: no space left on the disk")

    monkeypatch.setattr(Manifest, "add", full)
    assert hypir("restore", source, "-o", tmp_path / "out", "--scale", 1) == 1
    assert capsys.readouterr().err.count("restored, but") == 2
    assert made(tmp_path / "out") == {"a.png", "b.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes")
def test_names_that_are_no_utf8_and_names_that_are_too_long(tmp_path, capsys):
    source = tmp_path / "in"
    picture(source / "good.png")
    shutil.copy(source / "good.png", os.fsencode(source) + b"/f\xeate.png")
    long = source / ("x" * 250 + ".png")
    shutil.copy(source / "good.png", long)
    assert hypir("restore", source, "-o", tmp_path / "out", "--format", "tiff", "--scale", 1) == 0
    names = [os.fsencode(p.name) for p in (tmp_path / "out").iterdir()]
    assert sorted(len(name) for name in names if name != MANIFEST.encode()) == [8, 8, 254]
    assert sum(b"\xea" in name for name in names) == 1
    assert hypir("restore", source, "-o", tmp_path / "out", "--format", "tiff", "--scale", 1) == 0


# Every input has an output of its own.


def test_two_folders_with_one_name(tmp_path):
    first, second = picture(tmp_path / "d1" / "a.png"), picture(tmp_path / "d2" / "a.png", (8, 12))
    out, compare = tmp_path / "out", tmp_path / "compare"
    words = ["restore", first, second, "-o", out, "--compare", compare, "--scale", 1]
    assert hypir(*words) == 0
    assert made(out) == {"a_d1.png", "a_d2.png"}
    assert made(compare) == {"a_d1.png", "a_d2.png"}
    assert hypir(*words, "--force") == 0
    assert size_of(out / "a_d1.png") == (12, 8)
    assert size_of(out / "a_d2.png") == (8, 12)


def test_endings_and_a_name_that_is_taken(tmp_path):
    source = tmp_path / "in"
    for name in ("a.jpg", "a.png", "a_jpg.png", "B.png", "b.jpg"):
        picture(source / name)
    assert hypir("restore", source, "-o", tmp_path / "out", "--format", "png", "--scale", 1) == 0
    names = made(tmp_path / "out")
    assert len({name.casefold() for name in names}) == 5


@given(st.lists(st.sampled_from(["a.png", "A.png", "a_x.png", "a_1.png", "b.png", "a_x_1.png"]), max_size=12))
@settings(max_examples=200, deadline=None)
def test_names_are_always_unlike(names):
    made = unlike_names(names, lambda _index: ("x", "y"))
    keys = [name.casefold() for name in made]
    assert len(set(keys)) == len(names)
    alone = [n for n in names if [m.casefold() for m in names].count(n.casefold()) == 1]
    assert set(alone) <= set(made)


def test_sixteen_thousand_names_take_no_time():
    names = [f"p{i % 4000}.png" for i in range(16000)]
    begin = time.perf_counter()
    made = unlike_names(names, lambda index: ("jpg", f"d{index // 4000}"))
    assert time.perf_counter() - begin < 2
    assert len(set(made)) == 16000


# Named inputs are never dropped.


def test_a_named_picture_below_the_output_is_restored(tmp_path, monkeypatch):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "elsewhere" / "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert hypir("restore", "a.jpg", "-o", ".", "--format", "png", "--scale", 1) == 0
    assert (tmp_path / "a.png").exists()
    assert (
        hypir("restore", "a.jpg", "elsewhere/b.jpg", "-o", ".", "--format", "png", "--scale", 1, "--force")
        == 0
    )
    assert (tmp_path / "b.png").exists()


def test_results_of_an_earlier_run_are_not_inputs_of_the_next(tmp_path, monkeypatch, capsys):
    picture(tmp_path / "photos" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    words = ("restore", "photos", "-o", "photos", "--format", "png", "--scale", 1)
    assert hypir(*words) == 0
    assert hypir(*words) == 0
    assert made(tmp_path / "photos") == {"a.jpg", "a.png"}
    (tmp_path / "photos" / MANIFEST).unlink()  # the picture itself says what it is
    assert hypir("restore", "photos", "-o", "photos", "--format", "png", "--scale", 1, "--force") == 0
    assert made(tmp_path / "photos") == {"a.jpg", "a.png"}


def test_kinds_that_cannot_be_read_are_named_once(tmp_path, capsys):
    source = tmp_path / "in"
    picture(source / "a.png")
    for name in ("1.heic", "2.heic", "3.cr2", "._a.png", "notes.txt"):
        (source / name).write_bytes(b"x")
    assert hypir("restore", source, "-o", tmp_path / "out", "--scale", 1) == 0
    said = capsys.readouterr().err
    assert "2 files were passed over: HEIC" in said
    assert "1 file was passed over: a camera's raw file" in said
    assert "._a" not in said
    assert "notes" not in said


def test_a_name_with_brackets_is_that_file(tmp_path, monkeypatch):
    picture(tmp_path / "a[1].png")
    picture(tmp_path / "a1.png")
    monkeypatch.chdir(tmp_path)
    assert [f.path.name for f in find_pictures(["a[1].png"]).pictures] == ["a[1].png"]
    (tmp_path / "a[1].png").unlink()
    assert [f.path.name for f in find_pictures(["a[1].png"]).pictures] == ["a1.png"]


def test_every_page(tmp_path):
    frames = [Image.new("RGB", (6, 6), (i * 40, 10, 10)) for i in range(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    assert (
        hypir(
            "restore",
            tmp_path / "pages.tif",
            tmp_path / "film.gif",
            "-o",
            tmp_path / "out",
            "--pages",
            "all",
            "--scale",
            1,
        )
        == 0
    )
    names = made(tmp_path / "out")
    assert names == {f"pages_p00{i}.tif" for i in (1, 2, 3)} | {f"film_p00{i}.png" for i in (1, 2, 3)}
    with Image.open(tmp_path / "out" / "pages_p002.tif") as page:
        middle = np.asarray(page.convert("RGB"))
    assert abs(int(middle[..., 0].mean()) - 40) < 12
    alone = Plan(jobs=(Job(Path("a"), Path("o.png")),), is_folder=False)
    assert with_pages(alone, [1]) == alone


def test_the_first_page_alone_is_said(tmp_path, capsys):
    frames = [Image.new("RGB", (6, 6), (i * 40, 10, 10)) for i in range(3)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    assert hypir("restore", tmp_path / "pages.tif", "-o", tmp_path / "one.png", "--scale", 1) == 0
    assert "page" in capsys.readouterr().err


# What is done is known.


def test_another_mask_or_a_comparison_is_another_result(tmp_path):
    source = tmp_path / "in"
    picture(source / "a.png")
    mask = picture(tmp_path / "mask.png", mode="L")
    out = tmp_path / "out"
    assert hypir("restore", source, "-o", out, "--scale", 1) == 0
    first = (out / "a.png").read_bytes()
    assert hypir("restore", source, "-o", out, "--scale", 1) == 0  # nothing to do
    assert (
        hypir("restore", source, "-o", out, "--scale", 1, "--mask", mask) == 1
    )  # another result is in the way
    assert hypir("restore", source, "-o", out, "--scale", 1, "--mask", mask, "--force") == 0
    assert (out / "a.png").read_bytes() != first
    keys = {json.loads(line)["key"] for line in (out / MANIFEST).read_text().splitlines()}
    assert len(keys) == 2


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_a_kill_between_the_picture_and_its_line_loses_nothing(tmp_path, ending):
    source, out = tmp_path / "in", tmp_path / "out"
    picture(source / "a.png")
    words = ("restore", source, "-o", out, "--format", ending, "--scale", 1)
    assert hypir(*words) == 0
    (made_file,) = (p for p in out.iterdir() if p.name != MANIFEST)
    stamp = made_file.stat().st_mtime_ns
    (out / MANIFEST).unlink()
    assert hypir(*words) == 0
    assert made_file.stat().st_mtime_ns == stamp
    (out / MANIFEST).unlink(missing_ok=True)
    assert hypir(*words, "--strength", 0.5) == 1  # another result is in the way
    assert made_file.stat().st_mtime_ns == stamp


def test_force_makes_a_broken_result_again(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    picture(source / "a.png")
    assert hypir("restore", source, "-o", out, "--scale", 1) == 0
    (out / "a.png").write_bytes(b"broken")
    assert hypir("restore", source, "-o", out, "--scale", 1) == 0
    assert (out / "a.png").read_bytes() == b"broken"
    assert hypir("restore", source, "-o", out, "--scale", 1, "--force") == 0
    assert size_of(out / "a.png") == (12, 8)


def test_the_same_folder_under_another_spelling(tmp_path, monkeypatch):
    picture(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert hypir("restore", "in", "-o", "out", "--scale", 1) == 0
    stamp = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    assert hypir("restore", tmp_path / "in", "-o", tmp_path / "in" / ".." / "out", "--scale", 1) == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    assert hypir("restore", "in", "-o", "moved", "--scale", 1) == 0
    assert (tmp_path / "moved" / "a.png").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("text", ["hello\nworld\n", '{"a": 1}\n{"b": 2}\n', "[]\n\n", b"\xff\xfe\x00bad"])
def test_a_foreign_manifest_is_a_message(tmp_path, capsys, text):
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MANIFEST).write_bytes(text.encode() if isinstance(text, str) else text)
    assert hypir("restore", tmp_path / "in", "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert MANIFEST in said
    assert "expected a manifest of this program" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "x.gif"], "expected a format that can be written"),
        (["-o", "x.png", "--format", "jpg"], "expected a name that ends in .jpg"),
        (["-o", "x.png", "--report", "there.json"], "there.json exists"),
        (["-o", "x.png", "--report", "a.png", "--force"], "a.png is an input; name another --report"),
        (["-o", "file.txt/x.png"], "file.txt is not a folder"),
        (["-o", "x.png", "--mask", "there.json"], "--mask"),
        (["-o", "x.png", "--tile", "3"], "tile must be at least"),
    ],
)
def test_mistakes_are_told_before_the_work(tmp_path, monkeypatch, capsys, words, said):
    from hypir_core.batch import restoring

    picture(tmp_path / "a.png")
    (tmp_path / "there.json").write_text("{}")
    (tmp_path / "file.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(restoring, "restore_through", lambda *_a, **_k: pytest.fail("the work began"))
    assert hypir("restore", "a.png", *words) == 2
    assert said in capsys.readouterr().err


def test_a_format_that_is_too_small_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    from hypir_core.batch import restoring

    picture(tmp_path / "a.png", (4100, 2))
    monkeypatch.setattr(restoring, "restore_through", lambda *_a, **_k: pytest.fail("the work began"))
    assert hypir("restore", tmp_path / "a.png", "-o", tmp_path / "x.webp", "--scale", 4) == 1
    assert "webp holds at most 16383 px a side" in capsys.readouterr().err


def test_a_very_long_result_is_streamed(tmp_path):
    picture(tmp_path / "long.png", (4200, 4))
    assert hypir("restore", tmp_path / "long.png", "-o", tmp_path / "out.tif", "--scale", 4) == 0
    assert size_of(tmp_path / "out.tif") == (16800, 16)


@pytest.mark.parametrize(
    ("mode", "name", "words", "said"),
    [
        ("RGB", "out.jpg", [], "a format that takes rows (npy, png, tiff)"),
        ("RGBA", "out.png", [], "a picture without an alpha channel"),
        ("RGB", "out.png", ["--compare", "c.png"], "no --compare"),
        ("RGB", "out.png", ["--color-fix", "lab"], "--color-fix none or wavelet"),
        ("RGB", "out.png", ["--mask", "long.png"], "no --mask"),
    ],
)
def test_what_cannot_be_streamed_says_what_it_needs(tmp_path, monkeypatch, capsys, mode, name, words, said):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "long.png", (4200, 2), mode)
    assert hypir("restore", "long.png", "-o", name, "--scale", 4, *words) == 1
    told = capsys.readouterr().err
    assert f"needs {said}" in told
    assert "16800×8 px" in told
    assert "a scale of at most 3.90" in told
    assert told.count("long.png") == 1
    assert not (tmp_path / name).exists()


def test_a_streamed_result_may_have_a_colour_fix_and_a_strength(tmp_path):
    picture(tmp_path / "long.png", (4200, 2))
    words = ("--scale", 4, "--color-fix", "wavelet", "--strength", 0.5)
    assert hypir("restore", tmp_path / "long.png", "-o", tmp_path / "out.png", *words) == 0
    assert size_of(tmp_path / "out.png") == (16800, 8)


def test_nothing_found_says_what_was_passed_over(tmp_path):
    (tmp_path / "1.heic").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"no pictures found .*1 file was passed over: HEIC"):
        find_pictures([str(tmp_path)])


# Many.


def test_listing_many_files_takes_no_time(tmp_path):
    for i in range(4000):
        (tmp_path / f"{i:05}.png").touch()
    begin = time.perf_counter()
    finding = find_pictures([str(tmp_path)])
    plan = name_outputs(finding.pictures, tmp_path / "out", format_name="png", several=True)
    assert time.perf_counter() - begin < 1.5
    assert len(plan.jobs) == 4000


@pytest.mark.slow
def test_a_thousand_mixed_files(tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    whole = picture(tmp_path / "whole.png", (6, 6)).read_bytes()
    for i in range(1000):
        name = source / f"{i:04}.png"
        name.write_bytes(whole if i % 10 else (b"", b"text", whole[:20])[i // 10 % 3])
    assert hypir("restore", source, "-o", out, "--scale", 1) == 1
    said = capsys.readouterr().err
    assert len(made(out)) == 900
    assert all(f"{i:04}.png: " in said for i in range(0, 1000, 10))
    assert "100 of 1000 pictures failed" in said
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("*.png")}
    assert hypir("restore", source, "-o", out, "--scale", 1) == 1
    assert stamps == {p: p.stat().st_mtime_ns for p in out.glob("*.png")}
