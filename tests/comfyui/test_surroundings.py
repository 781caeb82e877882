"""Workflows, translations and help pages, compared with the nodes that the running ComfyUI has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.comfyui.server import PLUGIN, ROOT

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
RUNNABLE = {"restore_quick_no_download", "degrade_restore_compare", "upscale_any_model_fix_colors"}
ONLY_IN_BROWSER = {"MarkdownNote"}
WIDGETS = {"COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"}


@pytest.fixture(scope="module")
def info(comfyui):
    return comfyui.get("/object_info")


@pytest.fixture(scope="module")
def ours(info):
    return {name: node for name, node in info.items() if node["python_module"].endswith(PLUGIN)}


def inputs_of(node):
    """Return name → (type, options), in the order in which the browser lays them out."""
    return {
        name: (spec[0], spec[1] if len(spec) > 1 else {})
        for kind in ("required", "optional")
        for name, spec in node["input"].get(kind, {}).items()
    }


def as_api(workflow, info):
    """Do what the browser does when a saved workflow is queued."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in ONLY_IN_BROWSER:
            continue
        values, given = list(node["widgets_values"]), {}
        linked = {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        for name, (kind, options) in inputs_of(info[node["type"]]).items():
            if isinstance(kind, list) or kind in WIDGETS:
                given[name] = linked.pop(name, values[0])
                values.pop(0)
                if options.get("control_after_generate") or name in {"seed", "noise_seed"}:
                    assert values.pop(0) in {"fixed", "randomize", "increment", "decrement"}
                if options.get("image_upload"):
                    assert values.pop(0) == "image"
            elif name in linked:
                given[name] = linked.pop(name)
        assert not values, (node["type"], values)
        assert not linked, (node["type"], linked)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": given}
    return prompt


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow(comfyui, info, path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    assert workflow["version"] == 0.4
    for node in workflow["nodes"]:
        if node["type"] in info:
            mine = node["type"].startswith("Hypir")
            assert node["properties"]["cnr_id"] == ("onestep-restore" if mine else "comfy-core")
    prompt = as_api(workflow, info)
    headless = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    assert {k: {n: v for n, v in node.items() if n != "_meta"} for k, node in headless.items()} == prompt

    Image.effect_noise((40, 28), 40).convert("RGB").save(comfyui.base / "input" / "example.png")
    if path.stem in RUNNABLE:
        run = comfyui.run(prompt)
        assert run.error is None, run.error
        assert run.messages[-1]["type"] == "execution_success"
        return
    status, answer = comfyui.post("/prompt", {"prompt": prompt})
    assert status == 400
    kinds = {error["type"] for node in answer["node_errors"].values() for error in node["errors"]}
    assert kinds <= {"value_not_in_list", "custom_validation_failed"}  # only the files are missing
    loaders = {prompt[node]["class_type"] for node in answer["node_errors"]}
    assert loaders <= {"CheckpointLoaderSimple", "HypirLoadLora", "LoraLoaderModelOnly", "UpscaleModelLoader"}


@pytest.mark.parametrize("language", ["en", "zh", "ja", "ko", "fr", "es", "de"])
def test_translation_is_complete(comfyui, ours, language):
    served = comfyui.get("/i18n")[language]["nodeDefs"]
    for name, node in ours.items():
        texts = served[name]
        assert texts["display_name"]
        assert texts["description"]
        assert set(texts["inputs"]) == set(inputs_of(node))
        assert set(texts.get("outputs", {})) == {str(i) for i in range(len(node["output"]))}
        for text in (*texts["inputs"].values(), *texts.get("outputs", {}).values()):
            assert text["name"]
            assert text["tooltip"]
        if language == "en":
            assert texts["display_name"] == node["display_name"]
            assert texts["description"] == node["description"]
            for input_name, (_kind, options) in inputs_of(node).items():
                assert texts["inputs"][input_name]["tooltip"] == options["tooltip"], input_name
    assert {name for name in served if name.startswith("Hypir")} == set(ours)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_node_has_a_help_page(comfyui, ours, language):
    for name, node in ours.items():
        page = comfyui.get(f"/extensions/{PLUGIN}/docs/{name}/{language}.md").decode()
        assert page.startswith("# ")
        for input_name in inputs_of(node):
            assert f"- **{input_name}**" in page, (name, input_name)
    assert {folder.name for folder in (ROOT / "web" / "docs").iterdir()} == set(ours)


def test_the_template_browser_lists_the_workflows(comfyui):
    assert sorted(comfyui.get("/api/workflow_templates")[PLUGIN]) == [path.stem for path in WORKFLOWS]
    for path in WORKFLOWS:
        template = comfyui.get(f"/api/workflow_templates/{PLUGIN}/{path.name}")
        assert template == json.loads(Path(path).read_text(encoding="utf-8"))
