"""The ablation's table says what was measured, on the golden set's tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.random_seesr_files import GOLDEN
from benchmarks.seesr_ablation import main
from hypir_core import read_picture, to_planes, write_picture
from hypir_core.errors import ConfigError
from hypir_core.image.resize import resize
from hypir_core.metrics.fidelity import psnr_y

MODEL = {
    "base_model": GOLDEN / "sd-turbo",
    "seesr": GOLDEN / "seesr",
    "tagger": GOLDEN / "ram" / "ram_swin_large_14m.pth",
    "tagger_lora": GOLDEN / "ram" / "DAPE.pth",
    "tag_list": GOLDEN / "ram",
    "process_px": 64,
}


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    true, degraded = tmp_path / "true", tmp_path / "degraded"
    rng = torch.Generator().manual_seed(3)
    for name in ("a", "b"):
        picture = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 8, generator=rng), (64, 96)).clamp(0, 1)
        for folder, one in ((true, picture), (degraded, resize(picture, (32, 48)).clamp(0, 1))):
            folder.mkdir(exist_ok=True)
            write_picture(folder / f"{name}.png", one)
    return true, degraded


def test_every_combination_is_a_row_and_bicubic_the_first(pairs, tmp_path, capsys):
    words = [*map(str, pairs), "--out", str(tmp_path / "out"), "--scale", "2", "--device", "cpu"]
    words += ["--dtype", "float32", "--steps", "1", "2", "--tags", "auto", "none", "--particles", "1"]
    for name, value in MODEL.items():
        words += ["--option", f"{name}={value}"]
    main([*words, "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    names = [row["name"] for row in rows]
    assert names == [
        "bicubic",
        *(f"{n} steps, tags {t}, 1 particles" for n in (1, 2) for t in ("auto", "none")),
    ]
    assert len({row["mean"]["psnr_y_db"] for row in rows}) == len(rows)  # every setting makes another picture
    values = []
    for name in ("a", "b"):
        true, small = (to_planes(read_picture(folder / f"{name}.png"))[0] for folder in pairs)
        enlarged = (resize(small, (64, 96)).clamp(0, 1) * 255).round() / 255
        values.append(float(psnr_y(enlarged, true)))
    assert rows[0]["mean"]["psnr_y_db"] == pytest.approx(sum(values) / 2, abs=0.01)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + len(rows)
    gain = rows[1]["mean"]["psnr_y_db"] - rows[0]["mean"]["psnr_y_db"]
    assert f"| {gain:+.2f} |" in printed[3]


def test_a_picture_without_a_partner_is_named(pairs, tmp_path):
    (pairs[1] / "b.png").rename(pairs[1] / "c.png")
    with pytest.raises(ConfigError, match="no picture called"):
        main([*map(str, pairs), "--out", str(tmp_path)])
