"""Which files a person means, what their results are called, and what an earlier run made."""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.batch.earlier import without_results
from hypir_core.batch.finding import Finding, find_pictures
from hypir_core.batch.manifest import MANIFEST, Manifest, Result
from hypir_core.batch.naming import MAX_NAME_BYTES, Job, Plan, name_outputs, unlike_names, with_pages
from hypir_core.cli import main
from hypir_core.errors import ConfigError, FileError


def hypir(*words: object) -> int:
    return main([str(word) for word in words])


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(path)
    return path


def names_in(finding: Finding) -> list[str]:
    return [one.path.name for one in finding.pictures]


# Finding.


def test_hidden_folders_are_told_and_searched_when_named(tmp_path):
    for place in ("a.png", ".thumbs/b.png", ".thumbs/deep/c.png", "deep/.d.png"):
        picture(tmp_path / place)
    found = find_pictures([str(tmp_path)])
    assert names_in(found) == ["a.png", ".d.png"]
    (said,) = found.passed_over
    assert said.startswith("2 pictures were passed over in the hidden folder")
    assert ".thumbs" in said
    assert names_in(find_pictures([str(tmp_path / ".thumbs")])) == ["b.png", "c.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_to_folders_are_told_and_links_to_files_are_pictures(tmp_path):
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "far" / "b.png")
    (tmp_path / "in" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "far" / "b.png")
    (tmp_path / "in" / "dead.png").symlink_to(tmp_path / "nowhere.png")
    found = find_pictures([str(tmp_path / "in")])
    assert names_in(found) == ["a.png", "c.png", "dead.png"]
    (said,) = found.passed_over
    assert said.startswith("2 linked folders were passed over (")
    assert names_in(find_pictures([str(tmp_path / "in" / "far")])) == ["b.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    picture(tmp_path / "in" / "a.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    assert names_in(find_pictures([str(tmp_path / "in")])) == ["a.png"]
    assert hypir("restore", tmp_path / "in" / "pipe.png", "-o", tmp_path / "x.png") == 1
    assert "expected a file, got a pipe" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_done(tmp_path, monkeypatch, capsys):
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "shut" / "b.png")
    real = os.scandir

    def scandir(folder):  # the user who runs the tests may be allowed everything
        if str(folder).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert hypir("restore", tmp_path / "in", "-o", tmp_path / "out", "--scale", 1) == 1
    said = capsys.readouterr().err
    assert "shut: expected a folder that can be listed, got: Permission denied" in said
    assert (tmp_path / "out" / "a.png").exists()


def test_sidecars_of_macos_are_no_pictures_in_folders_and_patterns(tmp_path):
    picture(tmp_path / "a.png")
    for name in ("._a.png", "._b.heic"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    for place in (str(tmp_path), str(tmp_path / "*")):
        found = find_pictures([place])
        assert names_in(found) == ["a.png"]
        assert not found.passed_over


def test_patterns_as_a_shell_hands_them_over(tmp_path, monkeypatch):
    for name in ("2019 [best]/a.png", "2019 [best]/b.jpg", "2019 [best]/deep/c.png", "other/d.png"):
        picture(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert names_in(find_pictures(["2019 [best]/*.png"])) == ["a.png"]
    assert names_in(find_pictures(["2019 [best]/**/*.png"])) == ["a.png", "c.png"]
    assert names_in(find_pictures(["*"])) == ["a.png", "b.jpg", "c.png", "d.png"]
    assert names_in(find_pictures(["*/*.???"])) == ["a.png", "b.jpg", "d.png"]


@pytest.mark.parametrize("spelled", ["a.png", "./a.png", "in/../a.png", "*.png", "."])
def test_a_picture_is_found_once_however_it_is_spelled(tmp_path, monkeypatch, spelled):
    picture(tmp_path / "a.png")
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    found = find_pictures(["a.png", spelled])
    assert len(found.pictures) == 1
    assert found.pictures[0].named


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_name_is_a_message(given):
    with pytest.raises(ConfigError, match="expected a file, a folder or a pattern"):
        find_pictures([given])


def test_a_named_file_is_kept_whatever_it_is_called(tmp_path, capsys):
    picture(tmp_path / "a.png").rename(tmp_path / "scan.dat")
    assert hypir("restore", tmp_path / "scan.dat", "-o", tmp_path / "out", "--scale", 1) == 0
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    assert hypir("restore", tmp_path / "b.heic", "-o", tmp_path / "out", "--scale", 1) == 1
    assert "b.heic" in capsys.readouterr().err


# Naming.

LETTERS = st.text("aAéÉe\u0301ßSs_1", min_size=1, max_size=3)


def on_any_disk(name: Path) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", str(name).casefold()))


@given(st.lists(st.tuples(LETTERS, st.sampled_from([".png", ".PNG", ".jpg"])), max_size=20))
@settings(max_examples=300, deadline=None)
def test_no_disk_takes_two_results_for_one(parts):
    names = [stem + ending for stem, ending in parts]
    made = unlike_names(names, lambda _index: ("png", "day"))
    assert len({on_any_disk(Path(name)) for name in made}) == len(names)


@given(st.lists(st.sampled_from(["x" * 251, "x" * 260, "é" * 130, "漢" * 90, "漢" * 80 + "_1"]), max_size=8))
@settings(max_examples=100, deadline=None)
def test_names_fit_the_disk(stems):
    names = [str(Path("deep", f"{stem}.png")) for stem in stems]
    made = [Path(name) for name in unlike_names(names, lambda _index: ("png", "day"))]
    assert len({on_any_disk(name) for name in made}) == len(names)
    assert all(len(os.fsencode(name.name)) <= MAX_NAME_BYTES for name in made)
    assert all(name.suffix == ".png" for name in made)
    assert all(name.parent == Path("deep") for name in made)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_no_file_of_a_plan_is_written_twice(tmp_path_factory, data):
    places = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["d1", "d2", "D1"]),
                st.sampled_from(["a", "A", "a_jpg", "a_p001"]),
                st.sampled_from([".png", ".jpg", ".tif"]),
            ),
            min_size=1,
            max_size=10,
            unique=True,
        )
    )
    root = Path("root")
    found = [_found(root / folder / f"{stem}{ending}") for folder, stem, ending in places]
    plan = name_outputs(found, Path("out"), format_name="png", several=True, compare=Path("cmp"))
    counts = data.draw(st.lists(st.integers(1, 3), min_size=len(found), max_size=len(found)))
    jobs = with_pages(plan, counts).jobs
    files = [on_any_disk(path) for job in jobs for path in (job.output, job.compare) if path]
    assert len(jobs) == sum(counts)
    assert len(set(files)) == len(files)


def _found(path: Path):
    from hypir_core.batch.finding import Found

    return Found(path, Path(path.name))


def test_a_page_does_not_take_the_name_of_a_picture():
    plan = Plan(
        jobs=(Job(Path("a.tif"), Path("o/a.png")), Job(Path("a_p001.png"), Path("o/a_p001.png"))),
        is_folder=True,
    )
    names = [job.output.name for job in with_pages(plan, [2, 1]).jobs]
    assert len(set(names)) == 3
    assert names[1] == "a_p002.png"


def test_a_comparison_does_not_take_the_place_of_a_result(tmp_path, capsys):
    source = picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "b.png")
    out = tmp_path / "out"
    assert hypir("restore", tmp_path / "in", "-o", out, "--compare", out) == 2
    assert hypir("restore", source, "-o", tmp_path / "x.png", "--compare", tmp_path / "x.png") == 2
    assert capsys.readouterr().err.count("where a result goes") == 2


def test_a_report_does_not_take_the_place_of_a_picture(tmp_path, capsys):
    source = picture(tmp_path / "a.png")
    before = source.read_bytes()
    words = ("restore", source, "-o", tmp_path / "x.png", "--force")
    assert hypir(*words, "--report", tmp_path / "x.png") == 2
    assert hypir(*words, "--report", source) == 2
    assert hypir(*words, "--report", tmp_path) == 2
    assert source.read_bytes() == before
    said = capsys.readouterr().err
    assert "would overwrite a picture" in said
    assert "a.png is an input" in said


@pytest.mark.slow
def test_twenty_thousand_pictures_are_listed_and_named_in_four_seconds(tmp_path):
    for folder in range(20):
        (tmp_path / f"{folder:03}").mkdir()
        for i in range(1000):
            os.close(os.open(tmp_path / f"{folder:03}" / f"{i:05}.png", os.O_CREAT))
    begin = time.perf_counter()
    finding = without_results(find_pictures([str(tmp_path)]), tmp_path / "out")
    plan = name_outputs(finding.pictures, tmp_path / "out", format_name="tiff", several=True)
    assert time.perf_counter() - begin < 4
    assert len({job.output for job in plan.jobs}) == 20_000


# What an earlier run made.


def test_results_and_comparisons_below_an_input_folder_are_no_inputs(tmp_path, capsys):
    photos = tmp_path / "photos"
    picture(photos / "a.png")
    picture(photos / "b.png", 1)
    words = (
        "restore",
        photos,
        "-o",
        photos / "restored",
        "--compare",
        photos / "restored" / "c",
        "--scale",
        1,
    )
    assert hypir(*words) == 0
    assert hypir(*words) == 0
    assert "4 pictures were passed over: results of earlier runs" in capsys.readouterr().err
    assert hypir("restore", photos, "-o", tmp_path / "elsewhere", "--scale", 1) == 0
    assert sorted(p.name for p in (tmp_path / "elsewhere").glob("**/*.png")) == ["a.png", "b.png"]


def test_a_named_result_is_an_input(tmp_path):
    source = picture(tmp_path / "a.png")
    assert hypir("restore", source, "-o", tmp_path / "once", "--scale", 1) == 0
    assert hypir("restore", tmp_path / "once" / "a.png", "-o", tmp_path / "twice", "--scale", 1) == 0
    assert (tmp_path / "twice" / "a.png").exists()


def test_only_results_of_an_earlier_run(tmp_path, capsys):
    picture(tmp_path / "in" / "a.png")
    assert hypir("restore", tmp_path / "in", "-o", tmp_path / "out", "--scale", 1) == 0
    assert hypir("restore", tmp_path / "out", "-o", tmp_path / "out", "--scale", 1) == 2
    assert "is a result of an earlier run" in capsys.readouterr().err


def test_a_foreign_manifest_below_the_inputs_does_not_stop_the_run(tmp_path, capsys):
    picture(tmp_path / "in" / "deep" / "a.png")
    (tmp_path / "in" / "deep" / MANIFEST).write_text("hello\nworld\n")
    assert hypir("restore", tmp_path / "in", "-o", tmp_path / "out", "--scale", 1) == 0
    assert "all pictures beside it are taken" in capsys.readouterr().err


# The manifest.


@given(cut=st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_a_manifest_that_was_cut_anywhere_is_read_and_goes_on(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("out")
    manifest = Manifest(folder / MANIFEST)
    for name in ("ä.png", "b.png"):
        manifest.add(Result(input=name, output=str(folder / name), status="done", key=f"key of {name}"))
    whole = manifest.path.read_bytes()
    manifest.path.write_bytes(whole[: min(cut, len(whole))])
    again = Manifest(folder / MANIFEST)
    kept = whole[: min(cut, len(whole))].count(b"\n")
    assert [again.key_of(folder / name) is not None for name in ("ä.png", "b.png")].count(True) >= kept
    again.add(Result(input="c.png", output=str(folder / "c.png"), status="done", key="c"))
    lines = manifest.path.read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    assert Manifest(folder / MANIFEST).key_of(folder / "c.png") == "c"


def test_a_last_line_of_another_program_is_foreign(tmp_path):
    (tmp_path / MANIFEST).write_text("my notes about these pictures")
    with pytest.raises(FileError, match="expected a manifest of this program"):
        Manifest(tmp_path / MANIFEST)
    assert (tmp_path / MANIFEST).read_text() == "my notes about these pictures"
