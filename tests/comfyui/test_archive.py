"""The plugin as the Registry hands it out: the packed files alone, in a folder of their own."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from PIL import Image

from tests.comfyui.server import PLUGIN, ROOT, Server
from tests.packing import packed_files

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


@pytest.fixture(scope="module")
def archive(comfyui_here, tmp_path_factory):
    """A running ComfyUI with nothing but the packed files."""
    try:
        names = packed_files()
    except (FileNotFoundError, subprocess.CalledProcessError) as err:
        pytest.skip(f"needs git and a checkout: {err}")
    base = tmp_path_factory.mktemp("archive")
    for name in names:
        target = base / "unpacked" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    server = Server(comfyui_here, base, plugin=base / "unpacked")
    yield server
    server.stop()


def test_it_has_all_nodes_and_restores(archive, comfyui):
    def ours(server):
        nodes = server.get("/object_info")
        mine = (node for node in nodes.values() if node["python_module"].endswith(PLUGIN))
        return {node["name"]: (node["input_order"], node["output"]) for node in mine}

    assert ours(archive) == ours(comfyui)
    Image.effect_noise((40, 28), 40).convert("RGB").save(archive.base / "input" / "example.png")
    prompt = json.loads((ROOT / "workflows" / "api" / "restore_quick_no_download.json").read_text())
    run = archive.run(prompt)
    assert run.error is None, run.error
    assert "could not be loaded" not in archive.read_log()


def test_a_choice_that_is_not_packed_says_so(archive):
    Image.new("RGB", (16, 16)).save(archive.base / "input" / "example.png")
    run = archive.run(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
            "2": {
                "class_type": "HypirCaption",
                "inputs": {"image": ["1", 0], "captioner": "openai", "text": "", "model_name": ""},
            },
            "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
        }
    )
    assert run.error is not None
    assert "'openai' is not in the package of ComfyUI's Registry" in run.error["exception_message"]
    assert "clone https://github.com" in run.error["exception_message"]
