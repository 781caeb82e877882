"""The examples run as they stand. They are not at the top: there ComfyUI takes a folder `examples` for workflows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    desk = tmp_path_factory.mktemp("examples")
    (desk / "folder").mkdir()
    with Image.open(ROOT / "hypir_core" / "examples" / "cat.jpg") as cat:
        cat.crop((100, 60, 180, 140)).save(desk / "photo.png")
        cat.crop((100, 60, 148, 96)).save(desk / "folder" / "a.jpg")
    (desk / "folder" / "broken.png").write_bytes(b"x")
    return desk


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("restore_one", ["photo.png", "one.png"], '"engine": "built-in"'),
        ("restore_folder", ["folder", "results"], "failed: folder/broken.png"),
        ("progress_and_cancel", ["photo.png", "60"], "100% of the run"),
        ("stream_large", ["photo.png", "large.tif"], "320×320 px"),
        ("degrade_and_measure", ["photo.png"], "restored: PSNR-Y"),
    ],
)
def test_example(desk, name, words, said):
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / f"{name}.py"), *words],
        cwd=desk, env=env, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stdout.replace("\\", "/")


def test_there_are_five():
    assert len(list((ROOT / "docs" / "examples").glob("*.py"))) == 5
