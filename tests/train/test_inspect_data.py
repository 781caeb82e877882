"""What a person sees of the data: the contact sheet, the summary and its counts, the list of bad files of a run."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from tests.train.pair_streams import SCALE, data
from train.__main__ import main
from train.config import load_config
from train.data.contact_sheet import GAP_PX, LabelledPair, contact_sheet
from train.data.inspection import SHEET, inspect_data
from train.data.opening import open_source


def settings(photos: Path, out: Path, *more: str) -> list[str]:
    return ["tiny_cpu_pixel", f"data.root={photos}", f"output_dir={out}", *more]


def truncated_copy(photos: Path, root: Path) -> Path:
    """Copy the folder with one text file called .png, and one picture whose end is missing."""
    root.mkdir()
    for path in photos.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    (root / "text.png").write_text("not a picture")
    (root / "torn.png").write_bytes((root / "0.png").read_bytes()[:2000])
    (root / "0.txt").write_text("waves of colour", encoding="utf-8")
    return root


def test_inspect_data_writes_a_sheet_and_says_what_there_is(photos, tmp_path, capsys):
    root = truncated_copy(photos, tmp_path / "photos")
    assert main(["inspect-data", *settings(root, tmp_path / "out"), "--pairs", "5", "--decode-all"]) == 0
    said = capsys.readouterr().out
    assert f"{root} (folder)" in said
    assert "6 to train on" in said
    assert "left out    2\n" in said
    assert "text.png: is not a picture" in said
    assert "torn.png: cannot be decoded" in said
    assert "smallest 80×64, middle 80×64, largest 80×64 px" in said
    assert "1 of 6 decoded pictures, the longest of 3 words" in said
    assert re.search(r"hash        [0-9a-f]{64}\n", said)
    with Image.open(tmp_path / "out" / SHEET) as sheet:
        assert sheet.width > 2 * 256
        assert len(sheet.getcolors(sheet.width * sheet.height) or ()) > 1000


@given(good=st.integers(1, 4), torn=st.integers(0, 3), text=st.integers(0, 3), small=st.integers(0, 2))
@hypothesis_settings(max_examples=12, deadline=None)
def test_inspect_data_counts_every_file_once(tmp_path_factory, good, torn, text, small):
    root = tmp_path_factory.mktemp("counted")
    whole = root / "good0.png"
    for index in range(good):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
            root / f"good{index}.png"
        )
    for index in range(torn):
        (root / f"torn{index}.png").write_bytes(whole.read_bytes()[:1000])
    for index in range(text):
        (root / f"text{index}.png").write_text("no picture")
    for index in range(small):
        Image.new("RGB", (8, 8)).save(root / f"small{index}.png")
    config = load_config("tiny_cpu_pixel", [f"data.root={root}", f"output_dir={root / 'out'}", "max_steps=1"])
    said = "\n".join(inspect_data(config, pairs=1, decode_all=True))
    assert f"pictures    {good} to train on" in said
    assert f"left out    {torn + text + small}\n" in said
    assert f"0 of {good} decoded pictures" in said


def test_a_damaged_shard_is_no_picture_in_the_count(tmp_path, caplog):
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "y.png")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for name in ("x.png", "y.png"):
            tar.add(tmp_path / name, name)
    with caplog.at_level("WARNING"):
        source = open_source(data(tmp_path / "*.tar"), scale=SCALE)
    assert (len(source), source.left_out, len(source.skipped)) == (1, 1, 2)
    assert "1 of 2 pictures are left out" in caplog.text


def test_the_low_half_is_shown_left_of_the_target_and_enlarged_without_smoothing():
    import torch

    hq = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lq = hq[:, ::4, ::4].contiguous()
    sheet = np.array(contact_sheet([LabelledPair(hq, lq, ("one",))]))
    left = sheet[GAP_PX : GAP_PX + 256, GAP_PX : GAP_PX + 256]
    start = GAP_PX + 256 + GAP_PX // 2
    right = sheet[GAP_PX : GAP_PX + 256, start : start + 256]
    assert np.array_equal(left, lq.permute(1, 2, 0).numpy().repeat(16, 0).repeat(16, 1))
    assert np.array_equal(right, hq.permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1))
    assert (sheet[GAP_PX + 260 :] < 128).any()


@pytest.mark.parametrize("more", [["data.crop_px=33"], ["data.rooot=x"], ["--pairs", "0"]])
def test_inspect_data_refuses_wrong_settings(photos, tmp_path, capsys, more):
    assert main(["inspect-data", *settings(photos, tmp_path), *more]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.tiny
def test_a_run_lists_the_pictures_it_could_not_use(photos, tmp_path):
    root = truncated_copy(photos, tmp_path / "photos")
    out = tmp_path / "run"
    command = settings(root, out, "data.workers=1", "checkpoint.every=2")
    assert main([*command, "max_steps=4"]) == 0
    lines = (out / "bad_files.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(":")[0] for line in lines] == ["text.png", "torn.png"]
    assert main([*command, "max_steps=6"]) == 0
    assert (out / "bad_files.txt").read_text(encoding="utf-8").splitlines() == lines


@pytest.mark.tiny
def test_a_run_on_nothing_but_torn_pictures_ends_with_one_error(photos, tmp_path, capsys):
    root = tmp_path / "photos"
    root.mkdir()
    (root / "torn.png").write_bytes((photos / "0.png").read_bytes()[:2000])
    assert main([*settings(root, tmp_path / "run", "data.workers=1"), "max_steps=2"]) == 2
    said = capsys.readouterr().err
    assert "error: data.root: 1 of 1 pictures" in said
    assert "torn.png: cannot be decoded" in said
    assert "Traceback" not in said
    assert (tmp_path / "run" / "bad_files.txt").read_text(encoding="utf-8").startswith("torn.png")
