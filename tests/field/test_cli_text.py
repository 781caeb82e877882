"""What the terminal shows: names as they are, whatever they hold and whatever the console can show."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from hypir_core.cli import console, main

STEMS = ("[red]x", "q[b] x", "x [link=y]z", "[/]", "ünïcödé 漢字")
if sys.platform != "win32":
    STEMS += (":cat:", "\\[bold]")


def hypir(*words: object) -> int:
    return main([str(word) for word in words])


def picture(path: Path, size: tuple[int, int] = (64, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(params=STEMS)
def stem(request) -> str:
    return request.param


def test_degrade_and_restore_name_what_they_did(tmp_path, capsys, stem):
    source = picture(tmp_path / "in" / f"{stem}.png", (8, 8))
    assert hypir("degrade", tmp_path / "in", "-o", tmp_path / stem) == 0
    assert f"{stem}.png: " in capsys.readouterr().out
    source.write_bytes(b"no picture")
    for command in ("degrade", "restore"):
        assert hypir(command, tmp_path / "in", "-o", tmp_path / "out") == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert said[0].count(f"{stem}.png") == 1


def test_an_input_that_is_not_there_is_named(tmp_path, capsys, stem):
    for command in ("degrade", "restore", "caption"):
        words = () if command == "caption" else ("-o", tmp_path / "out")
        also = ("--captioner", "empty") if command == "caption" else ()
        hypir(command, tmp_path / f"{stem}.png", *words, *also)
        assert f"{stem}.png" in capsys.readouterr().err


def test_eval_names_what_it_measured(tmp_path, capsys, stem):
    picture(tmp_path / "ref" / f"{stem}.png")
    picture(tmp_path / "out" / f"{stem}.png")
    assert hypir("eval", tmp_path / "ref", tmp_path / "out") == 0
    assert f"{stem}.png" in capsys.readouterr().out
    (tmp_path / "out" / f"{stem}.png").write_bytes(b"no picture")
    assert hypir("eval", tmp_path / "ref", tmp_path / "out") == 1
    assert f"{stem}.png" in capsys.readouterr().err


def test_captions_are_text(tmp_path, capsys, stem):
    source = picture(tmp_path / f"{stem}.png", (8, 8))
    words = ("caption", source, "--captioner", "fixed", "--option", f"text={stem}: a [red]cat[/red]")
    assert hypir(*words) == 0
    assert f"{stem}.png: {stem}: a [red]cat[/red]" in capsys.readouterr().out
    assert hypir(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["captions"][0]["path"] == str(source)


def test_convert_names_what_it_cannot_read(tmp_path, capsys, stem):
    source = tmp_path / f"{stem}.safetensors"
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(b"no weights")
    assert hypir("convert", source, tmp_path / "x.safetensors") in {1, 2}
    assert f"{stem}.safetensors" in capsys.readouterr().err


def test_demo_names_its_folder(tmp_path, capsys):
    assert hypir("demo", "-o", tmp_path / "[red]demo") == 0
    assert "[red]demo" in capsys.readouterr().out


def test_advice_in_tables_keeps_its_brackets(capsys, monkeypatch):
    from hypir_core.cli import doctor

    monkeypatch.setattr(doctor, "_version", lambda _package: None)
    assert hypir("doctor") == 0
    assert "pip install 'onestep-restore[cli]'" in capsys.readouterr().out.replace("\n", " ")


def test_a_line_stays_one_line(tmp_path, capsys):
    if sys.platform == "win32":
        pytest.skip("names have no control characters there")
    source = tmp_path / "in" / "a\nb\x1b[31m.png"
    source.parent.mkdir()
    source.write_bytes(b"no picture")
    assert hypir("restore", source.parent, "-o", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "a\\nb\\x1b[31m.png" in said


def on_a_console(encoding: str, folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program where standard output and error have this encoding."""
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
    program = "import sys; from hypir_core.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("restore", "--help"),
        ("engines",),
        ("engines", "--markdown"),
        ("engines", "--json"),
        ("doctor",),
        ("degrade", "in", "-o", "bad"),
        ("restore", "in", "-o", "out", "--scale", "1", "--report", "r.json"),
        ("caption", "in", "--captioner", "fixed", "--option", "text=→ 漢字", "--json"),
        ("eval", "in", "in"),
    ],
    ids=" ".join,
)
def test_a_console_of_few_letters_ends_nothing(tmp_path, words, encoding):
    picture(tmp_path / "in" / "漢字 → ×.png")
    done = on_a_console(encoding, tmp_path, *words)
    assert done.returncode == 0, done.stderr.decode(encoding, "replace")
    assert b"Traceback" not in done.stderr
    if "--json" in words:
        json.loads(done.stdout.decode(encoding))
    if "r.json" in words:
        report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
        assert report["results"][0]["input"] == str(Path("in", "漢字 → ×.png"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes")
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_name_of_any_bytes_is_told(tmp_path, encoding):
    (tmp_path / "in").mkdir()
    whole = picture(tmp_path / "whole.png", (8, 8)).read_bytes()
    good, bad = os.fsencode(tmp_path / "in") + b"/f\xeate.png", os.fsencode(tmp_path / "in") + b"/\xff.png"
    for name, content in ((good, whole), (bad, b"no picture")):
        Path(os.fsdecode(name)).write_bytes(content)
    for words in (
        ("restore", "in", "-o", "out", "--report", "r.json", "--scale", "1"),
        ("degrade", "in", "-o", "bad"),
        ("caption", "in", "--captioner", "empty", "--json"),
    ):
        done = on_a_console(encoding, tmp_path, *words)
        assert done.returncode == 1, done.stderr
        assert b"Traceback" not in done.stderr
        assert done.stderr.count(b".png: expected a picture") == 1
    assert len(json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["results"]) == 2


def test_many_pictures_on_many_workers_are_one_line(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=shown, force_terminal=True, width=100))
    with console.bars() as bars:
        for done in range(1, 8):
            bars.count(done, 10, done // 4, 2.5)
            bars.line(f"{done}.png → out/{done}.png")
        bars.count(8, 10, 2, 2.5)
        bars._progress.refresh()
        assert len(bars._progress.tasks) == 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
    last = [line for line in text.splitlines() if "pictures" in line][-1]
    assert "pictures · 2 failed · 2.5/s" in last
    assert "8/10" in last
