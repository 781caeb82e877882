"""The plugin in a real ComfyUI server, driven as a browser drives it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from hypir_core import load_engine
from tests.comfyui.server import PLUGIN, ROOT, Run

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

NODES = {
    "HypirRestoreImage": "Restore Image",
    "HypirRestoreClip": "Restore Clip",
    "HypirLoadLora": "Load HYPIR LoRA",
    "HypirTiledEncode": "Tiled Encode",
    "HypirOneStepRestore": "One-Step Restore",
    "HypirTiledDecode": "Tiled Decode",
    "HypirWaveletColorFix": "Wavelet Color Fix",
    "HypirDegradeImage": "Degrade Image",
    "HypirCaption": "Caption",
    "HypirCompare": "Compare Before/After",
    "HypirSaveCheckpoint": "Save HYPIR Checkpoint",
    "HypirLoadSeesr": "Load SeeSR",
    "HypirApplySeesr": "Apply SeeSR",
    "HypirFewStepRestore": "Few-Step Restore",
    "HypirConditionImage": "Condition Image",
    "HypirTagImage": "Tag Image",
    "HypirLoadRestorer": "Load Restorer",
    "HypirLoadStack": "Load 16-bit Stack",
    "HypirMicroscope": "Microscope",
    "HypirRestoreMicroscopy": "Restore Microscopy",
    "HypirSaveStack": "Save 16-bit Stack",
}


def inputs_of(info):
    return {
        name: spec for kind in ("required", "optional") for name, spec in info["input"].get(kind, {}).items()
    }


def node(comfyui, class_type, **inputs):
    """A node in API format, its widgets at their defaults unless given."""
    info = comfyui.get(f"/object_info/{class_type}")[class_type]
    defaults = {
        name: spec[1]["default"]
        for name, spec in inputs_of(info).items()
        if len(spec) > 1 and "default" in spec[1] and name in info["input"]["required"]
    }
    return {"class_type": class_type, "inputs": defaults | inputs}


@pytest.fixture(scope="module")
def photo(comfyui):
    """A small photo in ComfyUI's input folder."""
    picture = Image.open(ROOT / "hypir_core" / "examples" / "cat.jpg").resize((80, 56))
    picture.save(comfyui.base / "input" / "photo.png")
    return "photo.png"


def restore_graph(comfyui, photo, **widgets):
    return {
        "load": node(comfyui, "LoadImage", image=photo),
        "restore": node(comfyui, "HypirRestoreImage", image=["load", 0], **widgets),
        "save": node(comfyui, "SaveImage", images=["restore", 0], filename_prefix="restored"),
    }


def test_every_node_is_there_and_explains_itself(comfyui):
    found = {
        k: v for k, v in comfyui.get("/object_info").items() if v["python_module"].endswith("onestep-restore")
    }
    assert {name: info["display_name"] for name, info in found.items()} == NODES
    for name, info in found.items():
        assert info["description"], name
        assert all(info["output_tooltips"]), name
        for input_name, spec in inputs_of(info).items():
            assert spec[1].get("tooltip"), f"{name}.{input_name}"


def test_restored_picture_is_the_command_lines(comfyui, photo, tmp_path):
    run = comfyui.run(restore_graph(comfyui, photo, tile_px=192))
    assert run.error is None
    got = Image.open(io.BytesIO(comfyui.picture(run, "save")))

    command = [sys.executable, "-c", "from hypir_core.cli import main; main()", "restore"]
    command += [str(comfyui.base / "input" / photo), "-o", str(tmp_path / "cli.png"), "--tile", "192"]
    subprocess.run([*command, "--device", "cpu"], check=True, cwd=ROOT)
    want = Image.open(tmp_path / "cli.png")
    assert got.size == want.size == (320, 224)
    difference = np.abs(np.asarray(got.convert("RGB"), int) - np.asarray(want.convert("RGB"), int))
    assert difference.max() <= 1

    ticks = [tick for tick in run.of("progress") if tick["node"] == "restore"]
    assert len(ticks) >= 2  # one per tile, but a newer ComfyUI passes on one in 100 ms
    assert [t["value"] for t in ticks] == sorted(t["value"] for t in ticks)
    assert ticks[-1]["value"] == ticks[-1]["max"]
    first, last = (
        np.asarray(Image.open(io.BytesIO(shown)).convert("L"), int)
        for shown in (run.previews[0], run.previews[-1])
    )
    assert first.shape == last.shape == (358, 512)  # the whole picture, from the start
    assert np.abs(last - np.asarray(want.convert("L").resize((512, 358)), int)).mean() < 4


def test_report_and_caching(comfyui, photo):
    graph = restore_graph(comfyui, photo, tile_px=192)
    graph["text"] = node(comfyui, "PreviewAny", source=["restore", 1])
    run = comfyui.run(graph)
    cached = [name for message in run.of("execution_cached") for name in message["nodes"]]
    assert "restore" in cached
    report = json.loads(comfyui.outputs(run)["text"]["text"][0])
    assert report[0]["output_px"] == [224, 320]
    assert report[0]["engine"] == "built-in"
    spec = load_engine("built-in", device=torch.device("cpu"), dtype=report[0]["dtype"]).spec
    assert (report[0]["weights"], report[0]["settings"]) == (spec.weights, dict(spec.settings))


def test_cancel_stops_between_tiles(comfyui, photo):
    run = comfyui.run(
        restore_graph(comfyui, photo, tile_px=64, overlap_px=32, strength=0.9), interrupt_after="progress"
    )
    assert run.messages[-1]["type"] == "execution_interrupted"
    assert run.messages[-1]["data"]["node_id"] == "restore"
    assert run.of("progress")[-1]["value"] < run.of("progress")[-1]["max"]


def test_transparency_batches_and_the_nodes_without_a_model(comfyui, photo):
    half = Image.open(comfyui.base / "input" / photo).convert("RGBA").resize((40, 28))
    half.putalpha(Image.fromarray(np.repeat(np.uint8([[0] * 20 + [255] * 20]), 28, 0)))
    half.save(comfyui.base / "input" / "half.png")
    graph = {
        "load": node(comfyui, "LoadImage", image="half.png"),
        "twice": node(comfyui, "RepeatImageBatch", image=["load", 0], amount=2),
        "worse": node(comfyui, "HypirDegradeImage", image=["twice", 0], preset="old-photo", seed=3),
        "notes": node(comfyui, "PreviewAny", source=["worse", 1]),
        "restore": node(comfyui, "HypirRestoreImage", image=["worse", 0], size_rule="scale", scale=2.0),
        "fix": node(comfyui, "HypirWaveletColorFix", image=["restore", 0], reference=["load", 0]),
        "compare": node(comfyui, "HypirCompare", before=["load", 0], after=["fix", 0]),
        "save": node(comfyui, "SaveImage", images=["fix", 0], filename_prefix="fixed"),
        "metrics": node(comfyui, "PreviewAny", source=["compare", 1]),
        "caption": node(comfyui, "HypirCaption", image=["restore", 0], text=" a  cat "),
        "words": node(comfyui, "PreviewAny", source=["caption", 0]),
        "join": node(comfyui, "JoinImageWithAlpha", image=["load", 0], alpha=["load", 1]),
        "rgba": node(
            comfyui, "HypirRestoreImage", image=["join", 0], size_rule="longest side", longest_side_px=100
        ),
        "save rgba": node(comfyui, "SaveImage", images=["rgba", 0], filename_prefix="transparent"),
    }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    outputs = comfyui.outputs(run)
    notes = outputs["notes"]["text"][0].splitlines()
    assert len(notes) == 2
    assert notes[0] != notes[1]
    assert outputs["words"]["text"] == ["a cat"]
    assert len(outputs["save"]["images"]) == 2
    assert len(outputs["compare"]["images"]) == 2
    picture = Image.open(io.BytesIO(comfyui.picture(run, "save")))
    assert (picture.size, picture.mode) == ((80, 56), "RGB")
    picture = Image.open(io.BytesIO(comfyui.picture(run, "save rgba")))
    assert (picture.size, picture.mode) == ((100, 70), "RGBA")
    assert np.asarray(picture)[10:60, 5:20, 3].max() < 20  # what was transparent still is
    assert np.asarray(picture)[10:60, 80:95, 3].min() > 235
    lines = outputs["metrics"]["text"][0].splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"PSNR [\d.]+ dB, SSIM 0\.\d+", line) for line in lines)


def test_a_wrong_file_is_an_error_with_advice(comfyui):
    graph = {
        "unet": node(comfyui, "UNETLoader", unet_name="unet.safetensors", weight_dtype="default"),
        "lora": node(comfyui, "HypirLoadLora", model=["unet", 0], lora="broken.safetensors"),
        "save": node(comfyui, "HypirSaveCheckpoint", model=["lora", 0]),
    }
    run = comfyui.run(graph)
    assert run.error is not None
    assert run.error["node_id"] == "lora"
    assert run.error["exception_type"].endswith("WeightsError")
    assert "a web page, not weights; get it again" in run.error["exception_message"]
    status, answer = comfyui.post(
        "/prompt",
        {"prompt": graph | {"lora": node(comfyui, "HypirLoadLora", model=["unet", 0], lora="gone.pth")}},
    )
    assert status == 400
    assert "models/hypir" in json.dumps(answer["node_errors"])


def test_lora_is_baked_into_a_file_that_the_stock_loader_reads(comfyui, weights):
    from hypir_core.lora.merge import merged_weights
    from hypir_core.weights.ldm_names import LDM_UNET_PREFIX, ldm_names
    from hypir_core.weights.tensors import read_tensors

    graph = {
        "unet": node(comfyui, "UNETLoader", unet_name="unet.safetensors", weight_dtype="default"),
        "lora": node(comfyui, "HypirLoadLora", model=["unet", 0], lora="good.pth", strength=0.5),
        "save": node(
            comfyui, "HypirSaveCheckpoint", model=["lora", 0], filename_prefix="diffusion_models/baked"
        ),
    }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    path = comfyui.base / "output" / "diffusion_models" / "baked_00001_.safetensors"
    saved = read_tensors(path)
    assert "hypir.merged_lora" in saved.metadata
    _folder, unet, lora = weights
    state = unet.state_dict()
    merged = dict(merged_weights(state, lora, strength=0.5))
    for name, ldm in ldm_names(state).items():
        got = saved.tensors[LDM_UNET_PREFIX + ldm].float().reshape(state[name].shape)
        np.testing.assert_allclose(got, merged.get(name, state[name]), atol=2e-3, err_msg=name)
    again = {
        "unet": node(comfyui, "UNETLoader", unet_name="baked_00001_.safetensors", weight_dtype="default"),
        "save": node(comfyui, "HypirSaveCheckpoint", model=["unet", 0], filename_prefix="again"),
    }
    (comfyui.base / "models" / "diffusion_models" / "baked_00001_.safetensors").symlink_to(path)
    assert comfyui.run(again).error is None


def test_the_readmes_curl_commands(comfyui, tmp_path):
    (block,) = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "workflows").symlink_to(ROOT / "workflows")
    with Image.open(ROOT / "hypir_core" / "examples" / "cat.jpg") as cat:
        cat.crop((100, 60, 140, 92)).save(tmp_path / "photo.jpg")
    answers = [
        json.loads(
            subprocess.check_output(["bash", "-c", line.replace("curl", "curl --silent", 1)], cwd=tmp_path)
        )
        for line in block.replace("127.0.0.1:8188", f"127.0.0.1:{comfyui.port}").splitlines()
    ]
    assert answers[0]["name"] == "example.png"
    assert answers[1]["node_errors"] == {}
    results = comfyui.outputs(Run(answers[1]["prompt_id"]))
    assert [name for shown in results.values() for name in shown if name == "images"]


POOL = re.compile(
    r"^Exception (?:during reset|terminating connection)(?:.*\n)+?(?=Prompt executed|got prompt|Exception |\Z)",
    re.M,
)
"""What SQLAlchemy says when a connection of ComfyUI's own database is collected in another thread, now and then."""


def test_log_is_clean(comfyui):
    """Runs last: nothing that we caused on purpose apart, no traceback and no warning of ours."""
    log = comfyui.read_log()
    assert "One-Step Restore could not be loaded" not in log
    assert not re.search(r"IMPORT FAILED\): .*onestep-restore", log)
    start, running = log.split("To see the GUI go to", 1)  # before that, stock nodes may miss packages
    assert (
        PLUGIN not in "".join(start.split("Traceback (most recent call last):")[1:]).split("Import times")[0]
    )
    on_purpose = (
        "broken.safetensors",
        "the longest side allowed is 16384 px",
        "expected a restorer of pictures",
    )
    for text in POOL.sub("", running).split("Traceback (most recent")[1:]:
        assert any(words in text[:6000] for words in on_purpose), text[:2000]
    assert PLUGIN not in "".join(line for line in log.splitlines() if "WARN" in line)
