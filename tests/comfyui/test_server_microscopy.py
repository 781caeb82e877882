"""A 16-bit stack through a running ComfyUI: no number lost, restored as the command line does it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hypir_core import load_engine
from hypir_core.engines.pixel.network import build_network, save_pixel
from tests.comfyui.server import ROOT, Server
from tests.core.pixel.pixel_networks import spec
from tests.core.scene_samples import restored
from tests.core.test_microscope_stacks import MICROSCOPE, exposed

tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

PIXEL_UM = 0.065


@pytest.fixture(scope="module")
def server(comfyui_here, tmp_path_factory):
    """A ComfyUI with a stack, a small model of pixels, and tifffile, which not every ComfyUI has."""
    base = tmp_path_factory.mktemp("microscopy")
    beside = tmp_path_factory.mktemp("packages")
    shutil.copytree(Path(tifffile.__file__).parent, beside / "tifffile")
    (base / "models" / "hypir").mkdir(parents=True)
    of = spec(conditional=True, options={"channels": (8, 16), "layers": 1, "groups": 4, "fold": 2})
    torch.manual_seed(0)
    save_pixel(
        base / "models" / "hypir" / "pixels.safetensors", build_network(of, where="test").state_dict(), of
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(beside))
        running = Server(comfyui_here, base)
    sizes = {"PhysicalSizeX": PIXEL_UM, "PhysicalSizeY": PIXEL_UM}
    _, seen = exposed(3)
    tifffile.imwrite(
        base / "input" / "stack.ome.tif", seen, metadata={"axes": "ZYX", **sizes}, photometric="minisblack"
    )
    yield running
    running.stop()


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def saved(image, prefix, ending, **more):
    return node("HypirSaveStack", image=image, filename_prefix=prefix, format=ending, **more)


def graph(**widgets):
    values = {
        "weights": "Richardson-Lucy (no weights)",
        "steps": 5,
        "guidance": "pkl",
        "guidance_strength": 0.8,
    }
    values |= {"samples": 1, "seed": 3, "tile_px": 0} | widgets
    camera = {"psf": "", "bits": 16, **MICROSCOPE}
    return {
        "load": node("HypirLoadStack", path="stack.ome.tif", axes="", dataset=""),
        "microscope": node("HypirMicroscope", **camera),
        "restore": node(
            "HypirRestoreMicroscopy", image=["load", 0], physics=["microscope", 0], stack_info=["load", 1], **values
        ),
        "same": saved(["load", 0], "same", ".ome.tif", stack_info=["load", 1]),
        "save": saved(["restore", 0], "done", ".ome.tif", stack_info=["load", 1]),
        "plain": saved(["restore", 1], "plain", ".tif"),
        "report": node("PreviewAny", source=["restore", 2]),
    }  # fmt: skip


def test_a_stack_is_restored_as_the_command_line_does_it(server, tmp_path):
    run = server.run(graph())
    assert run.error is None, run.error
    source, out = server.base / "input" / "stack.ome.tif", server.base / "output"
    assert np.array_equal(tifffile.imread(out / "same_00001_.ome.tif"), tifffile.imread(source))
    with tifffile.TiffFile(out / "done_00001_.ome.tif") as file:
        assert (file.series[0].axes, file.series[0].dtype) == ("ZYX", np.uint16)
        assert f'PhysicalSizeX="{PIXEL_UM}"' in file.ome_metadata
        got = file.asarray().astype(int)
    engine = load_engine("richardson-lucy", MICROSCOPE | {"steps": 5}, device=torch.device("cpu"))
    report = restored(engine, source, tmp_path / "cli.ome.tif")
    assert np.abs(got - tifffile.imread(tmp_path / "cli.ome.tif").astype(int)).max() <= 1
    told = json.loads(server.outputs(run)["report"]["text"][0])
    assert told["measures"]["chi_squared"] == pytest.approx(report.measures["chi_squared"], rel=1e-3)
    assert told["settings"] == json.loads(report.to_json())["settings"]
    assert (tifffile.imread(out / "plain_00001_.tif") == 0).all()  # one sample has no deviation
    assert "χ²" in run.said("restore")


def test_samples_of_a_pixel_model_have_a_deviation(server):
    run = server.run(graph(weights="pixels.safetensors", steps=2, samples=3))
    if run.error is not None:  # a ComfyUI without diffusers says so
        assert "diffusers" in run.error["exception_message"]
        pytest.skip("this ComfyUI has no diffusers")
    newest = sorted((server.base / "output").glob("plain_*.tif"))[-1]
    assert tifffile.imread(newest).max() > 0
    told = json.loads(server.outputs(run)["report"]["text"][0])
    assert [stage["name"] for stage in told["stages"]] == ["step 1/2", "step 2/2"]
    assert told["engine"] == "pixel"


def test_the_template_runs_on_a_stack_of_its_name(server):
    template = json.loads(
        (ROOT / "workflows" / "api" / "denoise_16bit_stack.json").read_text(encoding="utf-8")
    )
    run = server.run(template)
    assert run.error is None, run.error
    assert tifffile.imread(server.base / "output" / "restored_00001_.ome.tif").shape == (3, 40, 48)


def test_a_missing_stack_is_said_before_the_run(server):
    wrong = graph()
    wrong["load"]["inputs"]["path"] = "nothing.tif"
    status, answer = server.post("/prompt", {"prompt": wrong})
    assert status == 400
    (error,) = answer["node_errors"]["load"]["errors"]
    assert "put it into ComfyUI's input folder" in error["details"]
