"""What a person sees of the data: the contact sheet, the summary, the list of bad files of a run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.__main__ import main
from train.data.contact_sheet import GAP_PX, LabelledPair, contact_sheet
from train.data.inspection import SHEET


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
