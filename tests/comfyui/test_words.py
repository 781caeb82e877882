"""What the nodes say in a real ComfyUI server: on their faces, in the log, in the report, and when queued."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.comfyui.test_server import node

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


@pytest.fixture(scope="module")
def pictures(comfyui):
    """opaque.png without alpha, clear.png with an alpha that is opaque everywhere; both 40×28."""
    noise = Image.effect_noise((40, 28), 40).convert("RGB")
    noise.save(comfyui.base / "input" / "opaque.png")
    noise.convert("RGBA").save(comfyui.base / "input" / "clear.png")


@pytest.fixture
def restored(comfyui, pictures):
    """Run Restore Image with some inputs on top of its defaults; returns the run and its report."""

    def run(*, image="opaque.png", previews="auto", **inputs):
        graph = {
            "load": node(comfyui, "LoadImage", image=image),
            "up": node(comfyui, "UpscaleModelLoader", model_name="RealESRGAN_x4plus.safetensors"),
            "small": node(comfyui, "SolidMask", value=1.0, width=20, height=14),
            "restore": node(comfyui, "HypirRestoreImage", image=["load", 0], **inputs),
            "text": node(comfyui, "PreviewAny", source=["restore", 1]),
        }
        done = comfyui.run(graph, previews=previews)
        assert done.error is None, done.error
        return done, json.loads(comfyui.outputs(done)["text"]["text"][0])[0]

    return run


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"mask": ["load", 1]}, "the mask is Load Image's placeholder for no mask"),
        ({"mask": ["load", 1], "image": "clear.png"}, "the mask is black everywhere"),
        ({"mask": ["small", 0]}, "the mask was resized from 20×14 to 40×28 px"),
        ({"prompt": "a cat"}, "the prompt is not used: the built-in restorer reads no words"),
        ({"scale": 3.0}, "scale 3 is not used: size_rule is 'as the model enlarges'"),
        ({"color_strength": 0.5}, "color_strength is not used: color_fix is 'automatic', which is none"),
        ({"strength": 0.0}, "strength is 0: the resized picture comes back"),
        (
            {"upscale_model": ["up", 0], "built_in": "built-in-sharp"},
            "built_in is not used: another model is connected",
        ),
        ({"size_rule": "shortest side", "longest_side_px": 64}, "40×28 → 91×64 px · built-in"),
        ({"built_in": "built-in-sharp"}, "40×28 → 160×112 px · built-in-sharp"),
    ],
)
def test_what_was_asked_and_not_used_stands_on_the_face(comfyui, restored, inputs, said):
    run, report = restored(**inputs)
    assert said in run.said("restore")
    if " · " not in said:
        assert any(note.startswith(said) for note in report["notes"])
        assert f"One-Step Restore: {said}" in comfyui.read_log()


def test_a_plain_run_tells_what_it_will_take_and_what_it_took(restored):
    run, report = restored(overlap_px=32)
    begun, *_, ended = (text for name, text in run.faces if name == "restore")
    assert "40×28 → 160×112 px" in begun
    assert "beside the weights" in begun
    assert "largest here" in begun
    assert ended.startswith("40×28 → 160×112 px · built-in · ")
    assert len(ended.splitlines()) == 1  # nothing to complain about
    assert report["notes"] == []
    again, _report = restored(overlap_px=40)
    assert "about " in again.faces[0][1]  # now the time is known too


def test_the_placeholder_restores_all_and_black_restores_nothing(comfyui, pictures):
    graph = {
        "load": node(comfyui, "LoadImage", image="opaque.png"),
        "clear": node(comfyui, "LoadImage", image="clear.png"),
        "plain": node(comfyui, "HypirRestoreImage", image=["load", 0]),
        "masked": node(comfyui, "HypirRestoreImage", image=["load", 0], mask=["load", 1]),
        "black": node(comfyui, "HypirRestoreImage", image=["load", 0], mask=["clear", 1]),
        "zero": node(comfyui, "HypirRestoreImage", image=["load", 0], strength=0.0),
    }
    saves = {
        f"save {name}": node(comfyui, "SaveImage", images=[name, 0], filename_prefix=f"said_{name}")
        for name in ("plain", "masked", "black", "zero")
    }
    run = comfyui.run(graph | saves)
    assert run.error is None, run.error
    plain, masked, black, zero = (
        np.asarray(Image.open(io.BytesIO(comfyui.picture(run, save))), int) for save in saves
    )
    assert (plain == masked).all()
    assert (black == zero).all()
    assert np.abs(plain - black).mean() > 1


def test_two_upscalers_can_be_told_apart(comfyui, restored):
    from hypir_core.engines.feed_forward.load import BUILT_IN

    other = comfyui.base / "models" / "upscale_models" / "other.safetensors"
    if not other.exists():
        other.symlink_to(BUILT_IN / "restorer_x4_sharp.safetensors")
    reports = []
    for name in ("RealESRGAN_x4plus.safetensors", "other.safetensors"):
        graph = {
            "load": node(comfyui, "LoadImage", image="opaque.png"),
            "up": node(comfyui, "UpscaleModelLoader", model_name=name),
            "restore": node(comfyui, "HypirRestoreImage", image=["load", 0], upscale_model=["up", 0]),
            "text": node(comfyui, "PreviewAny", source=["restore", 1]),
        }
        run = comfyui.run(graph)
        assert run.error is None, run.error
        reports.append(json.loads(comfyui.outputs(run)["text"]["text"][0])[0])
    first, second = (report["weights"] for report in reports)
    assert first != second
    assert "sha256:" in first


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"model": ["load", 0]}, "model: expected MODEL, got IMAGE"),
        ({"model": ["unet", 0]}, "MODEL needs a VAE too"),
        ({"model": ["unet", 0], "upscale_model": ["up", 0]}, "connect MODEL or UPSCALE_MODEL, not both"),
    ],
)
def test_wrong_sockets_are_told_when_queued(comfyui, pictures, inputs, said):
    graph = {
        "load": node(comfyui, "LoadImage", image="opaque.png"),
        "unet": node(comfyui, "UNETLoader", unet_name="unet.safetensors", weight_dtype="default"),
        "up": node(comfyui, "UpscaleModelLoader", model_name="RealESRGAN_x4plus.safetensors"),
        "restore": node(comfyui, "HypirRestoreImage", image=["load", 0], **inputs),
        "show": node(comfyui, "PreviewImage", images=["restore", 0]),
    }
    status, answer = comfyui.post("/prompt", {"prompt": graph})
    assert status == 400
    details = [error["details"] for error in answer["node_errors"]["restore"]["errors"]]
    assert [said in detail for detail in details] == [True]


def test_previews_follow_the_method_and_begin_with_the_enlarged_input(comfyui, restored):
    shown, _report = restored(tile_px=64, overlap_px=16)
    first = np.asarray(Image.open(io.BytesIO(shown.previews[0])).convert("L"), int)
    with Image.open(comfyui.base / "input" / "opaque.png") as noise:
        whole = np.asarray(noise.convert("L").resize(first.shape[::-1], Image.Resampling.BICUBIC), int)
    assert np.abs(first - whole).mean() < 8
    if "preview_method" in (comfyui.install.folder / "execution.py").read_text(encoding="utf-8"):
        quiet, _report = restored(tile_px=64, overlap_px=24, previews="none")
        assert quiet.previews == []


def test_nodes_of_other_ports_are_replaced_with_all_that_is_required(comfyui, pictures):
    if "node_replace" not in (comfyui.install.folder / "server.py").read_text(encoding="utf-8"):
        pytest.skip("this version replaces no nodes")
    old = {
        "HYPIRAdvancedRestoration": {"prompt": "a", "upscale_factor": 2, "seed": -1, "model_t": 200},
        "hyper_comfyui_hypir_restore": {"prompt": "a", "base_model_path": "", "upscale": 3.0, "stride": 256},
    }
    for name, inputs in old.items():
        graph = {
            "load": node(comfyui, "LoadImage", image="opaque.png"),
            "old": {"class_type": name, "inputs": {"image": ["load", 0], **inputs}},
            "save": node(comfyui, "SaveImage", images=["old", 0], filename_prefix="replaced"),
        }
        run = comfyui.run({key: {**entry, "_meta": {"title": key}} for key, entry in graph.items()})
        assert run.error is None, run.error
        factor = round(inputs.get("upscale", inputs.get("upscale_factor", 0)))
        assert Image.open(io.BytesIO(comfyui.picture(run, "save"))).size == (40 * factor, 28 * factor)
        assert "the prompt is not used" in run.said("old")
        (served,) = comfyui.get("/node_replacements")[name]
        mapped = {entry["old_id"] for entry in served["input_mapping"] if "old_id" in entry}
        assert mapped - {"image"} <= set(served["old_widget_ids"])  # the page finds their values by position


def test_nodes_stand_beside_comfyuis_own(comfyui):
    info = comfyui.get("/object_info")
    beside = {
        "HypirLoadLora": "LoraLoaderModelOnly",
        "HypirTiledEncode": "VAEEncode",
        "HypirTiledDecode": "VAEEncode",
        "HypirOneStepRestore": "KSampler",
        "HypirSaveCheckpoint": "CheckpointSave",
        "HypirDegradeImage": "ImageBlur",
        "HypirRestoreImage": "ImageUpscaleWithModel",
    }
    assert {ours: info[ours]["category"] for ours in beside} == {
        ours: info[core]["category"] for ours, core in beside.items()
    }
    colors = info["ColorTransfer"] if "ColorTransfer" in info else info["ImageBlur"]
    assert info["HypirWaveletColorFix"]["category"] == colors["category"]


def test_labels_that_cannot_be_drawn_are_told(comfyui, pictures):
    graph = {
        "load": node(comfyui, "LoadImage", image="opaque.png"),
        "compare": node(
            comfyui, "HypirCompare", before=["load", 0], after=["load", 0], before_label="\ufdd0"
        ),
    }
    run = comfyui.run(graph)
    assert run.error is None, run.error
    assert "no font on this machine has the letters \ufdd0" in run.said("compare")
    shown = comfyui.outputs(run)["compare"]
    assert len(shown["onestep_before"]) == len(shown["onestep_after"]) == len(shown["images"]) == 1
