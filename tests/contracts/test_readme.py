"""Every command and the Python block of the README run, in order, as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from hypir_core.cli import main
from hypir_core.engines.feed_forward.load import BUILT_IN
from hypir_core.lora.file import factor_shapes
from hypir_core.lora.names import TARGET_MODULES, adapted_modules
from hypir_core.models.sd.sd21 import sd21_module_shapes
from hypir_core.weights.tensors import write_tensors

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = ROOT / "hypir_core" / "examples"

COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line
]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with what the README takes for granted."""
    desk = tmp_path_factory.mktemp("desk")
    with Image.open(EXAMPLES / "cat.jpg") as cat:
        cat.crop((100, 60, 148, 96)).save(desk / "photo.jpg")
        (desk / "old-photos" / "album").mkdir(parents=True)
        cat.crop((100, 60, 148, 108)).save(desk / "old-photos" / "one.jpg")
        cat.crop((150, 60, 200, 110)).save(desk / "old-photos" / "album" / "two.png")
        for name, quality in (("originals", 95), ("results", 60)):
            (desk / name).mkdir()
            cat.save(desk / name / "cat.jpg", quality=quality)
    shutil.copy(BUILT_IN / "restorer_x4.safetensors", desk / "model.safetensors")
    (desk / "sd21-base").symlink_to(ROOT / "tests" / "golden" / "hypir" / "model")
    shutil.copy(ROOT / "tests" / "golden" / "hypir" / "lora.pth", desk / "HYPIR_sd2.pth")
    (desk / "train").symlink_to(ROOT / "train")
    write_tensors(desk / "my-lora.safetensors", full_size_lora(), {})
    return desk


def full_size_lora() -> dict[str, torch.Tensor]:
    """A rank-1 LoRA for the real SD 2.1 UNet, in the original's names."""
    shapes = sd21_module_shapes()
    tensors = {}
    for name in adapted_modules(shapes, TARGET_MODULES):
        down, up = factor_shapes(shapes[name], 1)
        tensors[f"{name}.lora_A.default.weight"] = torch.zeros(down)
        tensors[f"{name}.lora_B.default.weight"] = torch.zeros(up)
    return tensors


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 12
    assert "uv run pytest" in COMMANDS


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "uv run pytest"])
def test_command(command, desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    words = shlex.split(command)
    assert words[:2] == ["uv", "run"]
    if words[2] == "hypir":
        assert main(words[3:]) == 0, capsys.readouterr().err
    else:
        assert words[2:4] == ["python", "-m"]
        subprocess.run([sys.executable, *words[3:]], check=True, capture_output=True)


def test_python_block(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    assert len(PYTHON) == 1
    exec(compile(PYTHON[0], "README.md", "exec"), {})
    assert '"redundancy"' in capsys.readouterr().out
