"""One server, one small UNet and one LoRA for all tests of this folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from tests.comfyui.server import ROOT, NoComfyUIError, Server, checked, installs
from tests.comfyui.small_unet import small_lora, small_unet, write_checkpoint

LORA_FORMS = {"original": ".pth", "kohya": ".safetensors"}
BUILT_IN = ROOT / "hypir_core" / "weights" / "builtin" / "restorer_x4.safetensors"


@pytest.fixture(scope="session", params=installs(), ids=lambda install: install.name)
def comfyui_here(request):
    """A ComfyUI to test with: every test runs on each that COMFYUI_PATH names."""
    try:
        return checked(request.param)
    except NoComfyUIError as err:
        pytest.skip(str(err))


@pytest.fixture(scope="session")
def in_comfyui(comfyui_here, tmp_path_factory):
    """Run a job of `in_process.py`; returns tensors and what was said."""

    def run(**job):
        place = tmp_path_factory.mktemp("job")
        job |= {"out": str(place / "out.safetensors")}
        (place / "job.json").write_text(json.dumps(job))
        script = Path(__file__).with_name("in_process.py")
        done = subprocess.run(
            [comfyui_here.python, str(script), str(comfyui_here.folder), str(ROOT), str(place / "job.json")],
            capture_output=True, text=True, cwd=place, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        with safe_open(job["out"], "pt") as file:
            return load_file(job["out"]), file.metadata() or {}

    return run


@pytest.fixture(scope="session")
def weights(comfyui_here, tmp_path_factory):
    """A folder with unet.safetensors (ldm names, float32) and one small LoRA in two forms; and the module."""
    from hypir_core.lora.file import write_lora
    from hypir_core.lora.names import LoraForm

    folder = tmp_path_factory.mktemp("weights")
    unet = small_unet()
    write_checkpoint(folder / "unet.safetensors", unet)
    lora = small_lora(unet)
    for form, ending in LORA_FORMS.items():
        write_lora(folder / f"{form}{ending}", lora, form=LoraForm(form))
    return folder, unet, lora


@pytest.fixture(scope="session")
def comfyui(comfyui_here, weights, tmp_path_factory):
    """A running ComfyUI, `--cpu`, with folders of its own and this plugin as its only one."""
    base = tmp_path_factory.mktemp("comfyui")
    folder, _unet, _lora = weights
    (base / "models" / "diffusion_models").mkdir(parents=True)
    (base / "models" / "hypir").mkdir(parents=True)
    (base / "models" / "diffusion_models" / "unet.safetensors").symlink_to(folder / "unet.safetensors")
    (base / "models" / "hypir" / "good.pth").symlink_to(folder / "original.pth")
    (base / "models" / "hypir" / "broken.safetensors").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    upscalers = base / "models" / "upscale_models"
    upscalers.mkdir()
    # The built-in restorer under the name that the workflow asks for: ComfyUI's own loader reads it.
    (upscalers / "RealESRGAN_x4plus.safetensors").symlink_to(BUILT_IN)
    server = Server(comfyui_here, base, "--preview-method", "auto")
    yield server
    server.stop()
