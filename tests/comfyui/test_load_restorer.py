"""Load Restorer in a running ComfyUI: ours and the stock node restore with it, what is no picture's is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.core.test_restorer_descriptor import engine_of, write_weights

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(comfyui):
    folder = comfyui.base / "models" / "upscale_models"
    folder.mkdir(parents=True, exist_ok=True)
    engine_of(folder / "residual.safetensors", "residual", channels=8, block="rcab", blocks=1)
    engine_of(folder / "grey.safetensors", "compact", bands=1, features=8, blocks=1)
    write_weights(folder / "bands.safetensors", 13)
    Image.effect_noise((48, 40), 40).convert("RGB").save(comfyui.base / "input" / "small.png")
    return folder


def prompt_of(restorer, *, stock):
    use = (
        {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["2", 0], "image": ["1", 0]}}
        if stock
        else {
            "class_type": "HypirRestoreImage",
            "inputs": {"image": ["1", 0], "upscale_model": ["2", 0], **RESTORE},
        }
    )
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "small.png"}},
        "2": {"class_type": "HypirLoadRestorer", "inputs": {"restorer": restorer}},
        "3": use,
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "restorer"}},
    }


RESTORE = {}


@pytest.mark.parametrize("restorer", ["residual.safetensors", "grey.safetensors"])
def test_both_nodes_give_the_same(comfyui, folder, restorer):
    info = comfyui.get("/object_info/HypirRestoreImage")["HypirRestoreImage"]["input"]["required"]
    RESTORE.update({name: spec[1]["default"] for name, spec in info.items() if "default" in spec[1]})
    RESTORE["color_fix"] = "none"
    pictures = []
    for stock in (True, False):
        run = comfyui.run(prompt_of(restorer, stock=stock))
        assert run.error is None, run.error
        made = sorted((comfyui.base / "output").glob("restorer_*.png"))[-1]
        pictures.append(np.asarray(Image.open(made), float))
    assert pictures[0].shape == (80, 96, 3)
    assert np.abs(pictures[0] - pictures[1]).max() <= 3  # bfloat16 of ours on some CPUs


def test_bands_are_refused_with_a_sentence(comfyui, folder):
    run = comfyui.run(prompt_of("bands.safetensors", stock=True))
    assert "expected a restorer of pictures" in str(run.error)
    assert "13 → 13 channels" in str(run.error)
