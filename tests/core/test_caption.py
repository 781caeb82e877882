"""Captioners: their names and options, the small picture they see, those that need no model, and what is too long."""

from __future__ import annotations

import pytest
import torch

from hypir_core.caption.base import INSTRUCTION, one_line
from hypir_core.caption.catalog import CAPTIONERS, captioner_names, load_captioner
from hypir_core.caption.length import LengthCheck
from hypir_core.caption.picture import small_picture
from hypir_core.errors import CaptionError, ConfigError, ShapeError, UnknownNameError
from tests.core.caption_server import GREY


def test_names_and_strict_options():
    assert captioner_names() == ("empty", "fixed", "file", "openai", "tags", "vlm")
    with pytest.raises(UnknownNameError, match="did you mean 'openai'"):
        load_captioner("openay", {})
    with pytest.raises(ConfigError, match=r"unknown key 'modell'.*did you mean 'model'.*--option"):
        load_captioner("openai", {"modell": "x"})
    with pytest.raises(ConfigError, match="text is required"):
        load_captioner("fixed", {})
    with pytest.raises(ConfigError) as caught:
        load_captioner("openai", {"timeout_s": 0, "retries": 11, "longest_side_px": 2000, "pause_s": -1})
    assert len(str(caught.value).splitlines()) == 4
    with pytest.raises(ConfigError, match="max_new_tokens"):
        load_captioner("vlm", {"max_new_tokens": 1})
    assert all(entry.summary for entry in CAPTIONERS)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("  a\n cat \t here ", "a cat here"),
        ("<think>hm,\na dog?</think>\n\nA cat.", "A cat."),
        ('"A cat."', "A cat."),
        ('"Stop" and "Go"', '"Stop" and "Go"'),
        ("", ""),
    ],
)
def test_one_line(said, line):
    assert one_line(said) == line


def test_small_picture_keeps_the_ratio_and_never_enlarges():
    assert small_picture(torch.rand(1, 3, 40, 80), longest_side_px=64).size == (64, 32)
    assert small_picture(torch.rand(1, 3, 3, 1000), longest_side_px=64).size == (64, 1)
    image_01 = torch.tensor([0.0, 0.5, 1.0, 2.0]).reshape(1, 1, 2, 2)
    grey = small_picture(image_01, longest_side_px=64)
    assert (grey.mode, grey.getpixel((1, 0)), grey.getpixel((1, 1))) == ("RGB", (128,) * 3, (255,) * 3)
    rgba = torch.tensor([1.0, 0.0, 0.0, 0.3]).reshape(1, 4, 1, 1)
    assert small_picture(rgba.half(), longest_side_px=64).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 8, 8), (1, 2, 8, 8), (1, 3, 0, 8)])
def test_small_picture_refuses_other_shapes(shape):
    with pytest.raises(ShapeError, match="expected one picture"):
        small_picture(torch.zeros(shape), longest_side_px=64)


def test_empty_and_fixed():
    assert load_captioner("empty", {})(GREY) == ""
    fixed = load_captioner("fixed", {"text": " a cat\n"})
    assert fixed(GREY) == fixed(torch.zeros(1, 1, 2, 2)) == "a cat"
    fixed.unload()


def test_file_reads_beside_the_picture_or_the_named_file(tmp_path):
    (tmp_path / "photo.txt").write_bytes("\ufeffÀ la\r\nplage ".encode())
    beside = load_captioner("file", {})
    assert beside(GREY, source=tmp_path / "photo.jpg") == "À la plage"
    assert load_captioner("file", {"path": str(tmp_path / "photo.txt")})(GREY) == "À la plage"
    with pytest.raises(CaptionError, match=r"other\.txt: expected the caption .* there is none"):
        beside(GREY, source=tmp_path / "other.png")
    with pytest.raises(CaptionError, match="path=FILE"):
        beside(GREY)
    (tmp_path / "old.txt").write_bytes("Café".encode("latin-1"))
    with pytest.raises(CaptionError, match="expected text in UTF-8, got byte 0xe9"):
        beside(GREY, source=tmp_path / "old.jpg")
    (tmp_path / "big.txt").write_bytes(b"x" * 70000)
    with pytest.raises(CaptionError, match="64 KiB"):
        beside(GREY, source=tmp_path / "big.jpg")
    (tmp_path / "dir.txt").mkdir()
    with pytest.raises(CaptionError, match="cannot be read"):
        beside(GREY, source=tmp_path / "dir.jpg")


def test_length_note():
    pytest.importorskip("open_clip", reason="needs a package that brings CLIP's vocabulary")
    check = LengthCheck()
    assert check.note("a" * 75) == ()
    assert not check._searched, "short captions need no vocabulary"
    assert check.note(INSTRUCTION[:300]) == ()
    (note,) = check.note("cat " * 80)
    assert "75 tokens" in note
    assert "last 5 tokens" in note


def test_length_note_without_a_vocabulary(monkeypatch):
    monkeypatch.setattr("hypir_core.models.sd.prompt.find_spec", lambda _name: None)
    check = LengthCheck()
    assert check.note("cat " * 50) == ()
    assert "80 words" in check.note("cat " * 80)[0]
