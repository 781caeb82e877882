"""One run over many machines: which pictures a shard holds, and what manifests say to each other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hypir_core.batch.manifest import Manifest, Result, Stamp
from hypir_core.batch.shards import MANIFEST, Shard, is_manifest_name, manifests_in, shard_of
from hypir_core.cli import main
from hypir_core.errors import ConfigError


@given(places=st.lists(st.text(min_size=1, max_size=8), max_size=30), count=st.integers(1, 7))
def test_every_picture_is_in_one_shard(places, count):
    shards = [Shard(index, count) for index in range(count)]
    for place in places:
        assert sum(shard.holds(place) for shard in shards) == 1


def test_shards_are_the_same_on_every_machine_and_about_equal():
    counts = [sum(Shard(i, 4).holds(f"a/{n:05d}.png") for n in range(4000)) for i in range(4)]
    assert all(900 < count < 1100 for count in counts)
    assert [Shard(i, 4).holds("a/b.png") for i in range(4)] == [False, False, True, False]
    assert Shard(2, 4).holds("a\\b.png")  # as another system writes it


@pytest.mark.parametrize(
    ("text", "variables", "shard"),
    [
        (None, {}, Shard()),
        ("1/4", {}, Shard(1, 4)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "8"}, Shard(7, 8)),
        (
            "auto",
            {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "1"},
            Shard(7, 8),
        ),
        ("auto", {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "3"}, Shard(0, 3)),
    ],
)
def test_where_a_shard_is_named(text, variables, shard):
    assert shard_of(text, variables) == shard


@pytest.mark.parametrize(
    ("text", "variables", "words"),
    [
        ("4/4", {}, "I from 0 to N − 1, got 4/4"),
        ("0/0", {}, "got 0/0"),
        ("one", {}, "expected I/N, as 0/4, or auto, got 'one'"),
        ("auto", {}, "SLURM_ARRAY_TASK_ID with SLURM_ARRAY_TASK_COUNT or JOB_COMPLETION_INDEX"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "JOB_COMPLETIONS is not"),
        ("auto", {"JOB_COMPLETION_INDEX": "x", "JOB_COMPLETIONS": "2"}, "whole numbers"),
    ],
)
def test_a_shard_that_cannot_be(text, variables, words):
    with pytest.raises(ConfigError, match=words):
        shard_of(text, variables)


def hypir(*words: object) -> int:
    return main([str(word) for word in words])


def photos(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"p{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((6, 8, 3), 9 * i, np.uint8)).save(path)
    return paths


def test_shards_together_are_the_whole_run(tmp_path, monkeypatch, capsys):
    photos(tmp_path / "in", 7)
    words = ("restore", tmp_path / "in", "--scale", 1, "--device", "cpu")
    assert hypir(*words, "-o", tmp_path / "whole") == 0
    out = tmp_path / "out"
    for index in range(3):
        assert hypir(*words, "-o", out, "--shard", f"{index}/3") == 0
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("JOB_COMPLETIONS", "40")
    assert hypir(*words, "-o", out, "--shard", "auto") == 0
    assert "holds none of the 7 pictures" in capsys.readouterr().out
    made = {path.name: path.read_bytes() for path in out.glob("*.png")}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.png")}
    lines = [json.loads(line) for path in manifests_in(out) for line in path.read_text().splitlines()]
    assert sorted(line["output"] for line in lines) == sorted(made)
    # Whoever runs it without shards finds all of it done, in whichever manifest that stands.
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert hypir(*words, "-o", out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    # What other shards wrote is no input, though it lies in a folder that is searched.
    assert hypir("restore", tmp_path, "-o", out, "--scale", 1, "--device", "cpu") == 0
    assert sorted(
        path.relative_to(out).as_posix() for path in out.rglob("*.png") if path.parent == out
    ) == sorted(made)


def test_a_shard_needs_a_folder(tmp_path, capsys):
    (photo,) = photos(tmp_path / "in", 1)
    assert hypir("restore", photo, "-o", tmp_path / "out.png", "--shard", "0/2") == 2
    assert "--shard needs several inputs and an output folder" in capsys.readouterr().err


def test_names_of_manifests():
    assert Shard().manifest == MANIFEST
    assert is_manifest_name(Shard(3, 16).manifest)
    assert not is_manifest_name("hypir-manifest.txt")


def test_an_input_is_read_again_only_when_size_or_time_differ(tmp_path, monkeypatch):
    from hypir_core.batch import keys

    first, second = photos(tmp_path / "in", 2)
    words = ("restore", tmp_path / "in", "-o", tmp_path / "out", "--scale", 1, "--device", "cpu")
    assert hypir(*words) == 0
    read: list[str] = []
    hashed = keys.source_hash
    monkeypatch.setattr(keys, "source_hash", lambda path: read.append(path.name) or hashed(path))
    assert hypir(*words) == 0
    assert read == []
    os.utime(first, ns=(1, 1))  # touched: read, found to be the same, and remembered as such
    assert hypir(*words) == 0
    assert hypir(*words) == 0
    assert read == [first.name]
    Image.fromarray(np.full((6, 8, 3), 200, np.uint8)).save(second)
    (tmp_path / "out" / second.name).unlink()
    assert hypir(*words) == 0
    assert read == [first.name, second.name]
    assert np.asarray(Image.open(tmp_path / "out" / second.name)).mean() > 150
    assert hypir(*words, "--strength", 0.5) == 1  # other settings: nothing of the earlier run counts
    assert len(read) == 4


def test_what_is_set_aside_is_not_tried(tmp_path, capsys):
    first, _second = photos(tmp_path / "in", 2)
    out = tmp_path / "out"
    Manifest(out / MANIFEST).add(
        Result(
            input=str(first), output=str(out / first.name), status="set aside", key="", error="killed twice"
        )
    )
    words = ("restore", tmp_path / "in", "-o", out, "--scale", 1, "--device", "cpu")
    assert hypir(*words) == 1
    assert not (out / first.name).exists()
    assert "retry-failed" in capsys.readouterr().err
    of_another_shard = Manifest(out / Shard(0, 2).manifest, manifests_in(out))
    assert of_another_shard.is_set_aside(out / first.name)
    assert len((out / MANIFEST).read_text().splitlines()) == 2


def test_a_manifest_read_again_knows_the_same(tmp_path):
    manifest, stamp = Manifest(tmp_path / MANIFEST), Stamp(1, 2)
    for i in range(3):
        manifest.add(
            Result(
                input="a",
                output=str(tmp_path / f"{i}.png"),
                status="done",
                key="k",
                stamp=stamp,
                settings="s",
            )
        )
    for known in (manifest, Manifest(tmp_path / MANIFEST), Manifest(tmp_path / "x", [tmp_path / MANIFEST])):
        assert known.unchanged(tmp_path / "1.png", "s", stamp) == "k"
        assert known.unchanged(tmp_path / "1.png", "other", stamp) is None
        assert known.unchanged(tmp_path / "1.png", "s", Stamp(1, 3)) is None
        assert known.unchanged(tmp_path / "1.png", "s", None) is None
        assert known.wrote(str(tmp_path / "2.png"))
        assert not known.wrote(str(tmp_path / "3.png"))
