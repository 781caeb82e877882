"""Files and lists as people have them: every ending, names that are not Unicode, lists in every form."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hypir_core.errors import ConfigError
from tests.train.pair_streams import SCALE, data
from train.__main__ import main
from train.config import SourceConfig
from train.data.opening import open_source


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (".jfif", "JPEG"),
        (".jpe", "JPEG"),
        (".dib", "BMP"),
        (".JPG", "JPEG"),
        (".tif", "TIFF"),
        (".webp", "WEBP"),
    ],
)
def test_every_ending_of_a_format_is_a_picture(tmp_path, ending, kind):
    Image.new("RGB", (32, 32), (10, 20, 30)).save(tmp_path / f"a{ending}", kind)
    assert len(open_source(data(tmp_path), scale=SCALE)) == 1


def test_an_array_beside_its_picture_is_no_picture(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8), np.float32))
    source = open_source(data(tmp_path), scale=SCALE)
    assert (len(source), source.skipped) == (1, ())


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="file names there are always Unicode")
@pytest.mark.tiny
def test_names_that_are_not_utf_8_are_trained_on_and_written_down(tmp_path, photos, capsys):
    root = os.fsencode(tmp_path / "pictures")
    Path(os.fsdecode(root)).mkdir()
    for number, path in enumerate(sorted(photos.iterdir())):
        Path(os.fsdecode(root + b"/f\xea%d.png" % number)).write_bytes(path.read_bytes())
    Path(os.fsdecode(root + b"/t\xea.png")).write_bytes(b"no picture")
    torn = sorted(photos.iterdir())[0].read_bytes()[:2000]
    Path(os.fsdecode(root + b"/torn\xea.png")).write_bytes(torn)
    command = ["tiny_cpu_pixel", f"data.root={os.fsdecode(root)}", f"output_dir={tmp_path / 'run'}"]
    assert main([*command, "max_steps=2"]) == 0
    listed = (tmp_path / "run" / "bad_files.txt").read_text(encoding="utf-8")
    assert listed.startswith(r"t\udcea.png: is not a picture")
    assert main([*command, "max_steps=3"]) == 0  # the same hash
    assert (tmp_path / "run" / "bad_files.txt").read_text(encoding="utf-8").count("is not a picture") == 1
    assert main(["inspect-data", *command, "--decode-all"]) == 0
    assert "6 to train on" in capsys.readouterr().out
    names = tmp_path / "names.list"
    names.write_bytes(b"\n".join(root + b"/f\xea%d.png" % number for number in range(6)))
    assert len(open_source(data(names, crop_px=16), scale=SCALE)) == 6


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        ("a.list", "0.png\n1.png\n", SourceConfig()),
        ("a.json", json.dumps(["0.png", "1.png"]), SourceConfig()),
        (
            "a.json",
            json.dumps([{"p": "0.png", "t": "x"}, {"p": "1.png"}]),
            SourceConfig(path_column="p", prompt_column="t"),
        ),
        ("a.jsonl", '\ufeff{"path": "0.png"}\n{"path": "1.png"}', SourceConfig()),
        ("a.txt", "\ufeff0.png\r\n1.png", SourceConfig()),
    ],
)  # fmt: skip
def test_lists_in_the_forms_people_have(tmp_path, name, content, source):
    for index in range(2):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{index}.png")
    (tmp_path / name).write_text(content, encoding="utf-8")
    found = open_source(data(tmp_path / name, source=source), scale=SCALE)
    assert [found.name(place) for place in range(2)] == ["0.png", "1.png"]
    assert found.item(0).prompt == ("x" if source.prompt_column else "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"path": "a"}', "expected an array"),
        ('["a", 3]', "entry 1: expected an object"),
        ("[1", "not a readable"),
    ],
)
def test_a_json_that_is_no_list_says_what_it_is(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        open_source(data(tmp_path / "a.json"), scale=SCALE)
