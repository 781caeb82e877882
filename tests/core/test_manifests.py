"""`hypir manifest`: what shards did together, one manifest of many, another try for what failed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from PIL import Image

from hypir_core.batch.manifest import Manifest, Result
from hypir_core.batch.manifests import merge, retry_failed, status_of
from hypir_core.batch.shards import MANIFEST
from hypir_core.cli import main


def hypir(*words: object) -> int:
    return main([str(word) for word in words])


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (5, 4), (i * 9 % 256, 40, 90)).save(folder / f"{i:03}.png")


def test_shards_make_what_one_run_makes_and_their_manifests_become_one(tmp_path, capsys):
    pictures(tmp_path / "in", 9)
    (tmp_path / "in" / "009.png").write_bytes(b"no picture")
    words = ("restore", tmp_path / "in", "--scale", 1)
    assert hypir(*words, "-o", tmp_path / "one") == 1
    out = tmp_path / "out"
    assert sorted(hypir(*words, "-o", out, "--shard", f"{i}/2") for i in range(2)) == [0, 1]
    made = {path.name: path.read_bytes() for path in out.glob("*.png")}
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "one").glob("*.png")}
    assert len(list(out.glob("*.jsonl"))) == 2
    capsys.readouterr()
    assert hypir("manifest", "status", out) == 1
    said = capsys.readouterr().out
    assert "done      9" in said
    assert "009.png: expected a picture" in said
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert hypir("manifest", "merge", out) == 0
    assert [path.name for path in out.glob("*.jsonl")] == [MANIFEST]
    assert len((out / MANIFEST).read_text().splitlines()) == 10
    assert hypir(*words, "-o", out) == 1
    assert stamps == {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    capsys.readouterr()
    assert hypir("manifest", "retry-failed", out) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "in" / "009.png")]
    assert hypir("manifest", "status", out) == 0


def test_what_is_set_aside_is_told_and_tried_when_a_person_says_so(tmp_path, capsys):
    pictures(tmp_path / "in", 2)
    out = tmp_path / "out"
    line = Result(
        input=str(tmp_path / "in" / "001.png"), output=str(out / "001.png"), status="set aside", key=""
    )
    Manifest(out / MANIFEST).add(line)
    words = ("restore", tmp_path / "in", "-o", out, "--scale", 1)
    assert hypir(*words) == 1
    assert "001.png: it ended the programs that tried it" in capsys.readouterr().err
    assert hypir("manifest", "status", out, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], len(told["set_aside"])) == (1, 1)
    assert hypir("manifest", "retry-failed", out) == 0
    assert hypir(*words) == 0
    assert (out / "001.png").exists()


def test_of_several_lines_the_last_counts(tmp_path):
    manifest, other = Manifest(tmp_path / MANIFEST), Manifest(tmp_path / "hypir-manifest.1-of-2.jsonl")

    def line(name: str, status: str, seconds: float = 0.0) -> Result:
        return Result(input=name, output=str(tmp_path / name), status=status, key="k", seconds=seconds)

    manifest.add(line("a.png", "failed"))
    manifest.add(line("b.png", "done", 2.0))
    manifest.add(line("c.png", "set aside"))
    manifest.add(line("a.png", "done", 1.5))
    manifest.add(line("b.png", "failed", 9.0))
    later = manifest.path.stat().st_mtime_ns + 10**9
    other.add(line("d.png", "failed"))
    other.add(line("c.png", "done", 0.25))
    os.utime(other.path, ns=(later, later))
    said = status_of(tmp_path)
    assert (said.manifests, said.done, said.seconds) == (2, 2, 1.75)
    assert [entry["output"] for entry in said.failed] == ["b.png", "d.png"]
    assert said.set_aside == ()
    assert merge(tmp_path) == 2
    merged = [json.loads(raw) for raw in (tmp_path / MANIFEST).read_text().splitlines()]
    assert {one["output"]: one["status"] for one in merged} == {
        "a.png": "done",
        "b.png": "failed",
        "c.png": "done",
        "d.png": "failed",
    }
    assert len(merged) == 4
    assert retry_failed(tmp_path) == ["b.png", "d.png"]
    assert status_of(tmp_path).done == 2


def test_a_folder_without_a_manifest_is_one_line(tmp_path, capsys):
    for command in ("status", "merge", "retry-failed"):
        assert hypir("manifest", command, tmp_path) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all("found no manifest" in line for line in said)
    (tmp_path / MANIFEST).write_text("hello\n")
    assert hypir("manifest", "merge", tmp_path) == 1
    assert (tmp_path / MANIFEST).read_text() == "hello\n"
