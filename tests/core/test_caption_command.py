"""`hypir caption`: a line per picture, sidecars, JSON, a stop, and what is not asked for in vain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from hypir_core.cli.caption import caption_command
from hypir_core.errors import Cancelled, ConfigError
from tests.core.caption_server import server

__all__ = ["server"]


def hypir_caption(*words: object) -> int:
    app = typer.Typer()
    app.command()(caption_command)
    return app(args=[str(word) for word in words], standalone_mode=False) or 0


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 6), "red").save(folder / "a.png")
    Image.new("L", (8, 6)).save(folder / "b.jpg")
    (folder / "note.md").write_text("no picture")
    return folder


def test_command_prints_a_line_per_picture(photos, capsys):
    assert hypir_caption(photos, "--captioner", "fixed", "--option", "text=a :cat: [b]") == 0
    out = capsys.readouterr().out
    assert out == f"{photos / 'a.png'}: a :cat: [b]\n{photos / 'b.jpg'}: a :cat: [b]\n"
    assert sorted(p.name for p in photos.iterdir()) == ["a.png", "b.jpg", "note.md"]


def test_command_writes_sidecars_that_the_file_captioner_reads(photos, capsys):
    command = (photos / "*.png", "--captioner", "fixed", "--write-sidecar", "--option")
    assert hypir_caption(*command, "text=été") == 0
    assert (photos / "a.txt").read_text(encoding="utf-8") == "été\n"
    assert hypir_caption(*command, "text=other") == 1
    assert "add --force" in capsys.readouterr().err
    assert (photos / "a.txt").read_text(encoding="utf-8") == "été\n"
    assert hypir_caption(photos / "a.png", "--captioner", "file") == 0
    assert capsys.readouterr().out == f"{photos / 'a.png'}: été\n"
    assert hypir_caption(*command, "text=other", "--force") == 0
    assert (photos / "a.txt").read_text(encoding="utf-8") == "other\n"


def test_command_does_not_ask_for_what_it_may_not_write(photos, server):
    (photos / "a.txt").write_text("mine")
    options = ("--captioner", "openai", "--option", f"base_url={server.url}", "--write-sidecar")
    assert hypir_caption(photos / "a.png", *options) == 1
    assert not server.asked


def test_command_json_holds_captions_notes_and_errors(photos, capsys):
    (photos / "b.txt").write_text("cat " * 80)
    assert hypir_caption(photos, "--captioner", "file", "--json") == 1
    done = capsys.readouterr()
    first, second = json.loads(done.out)["captions"]
    assert "expected the caption" in first["error"]
    assert second["path"] == str(photos / "b.jpg")
    assert second["caption"].startswith("cat cat")
    assert "75 tokens" in second["notes"][0]
    assert second["notes"][0] in done.err


def test_command_stops_at_ctrl_c(photos, monkeypatch):
    def interrupted(_path: Path) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("hypir_core.files.reading.read_picture", interrupted)
    with pytest.raises(Cancelled, match="stopped after 0 of 2 pictures"):
        hypir_caption(photos, "--captioner", "empty")


def test_command_with_nothing_to_do(tmp_path):
    with pytest.raises(ConfigError, match="no pictures found"):
        hypir_caption(tmp_path)
