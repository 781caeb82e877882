"""What lies around the nodes agrees with itself; the comparison with the running nodes is in tests/comfyui."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "zh", "zh-TW", "ja", "ko", "fr", "es", "de", "ru", "ar")
DOCS = ROOT / "web" / "docs"
UNTRANSLATED: set[str] = set()
"""Shown in English until somebody translates them: ComfyUI falls back on the nodes' own words."""
MOST_BYTES = 25_000_000
"""Four networks among them: restorers of pictures, and of microscopes."""
TEMPLATES = sorted((ROOT / "workflows").glob("*.json"))

MOST_LETTERS = 25
"""Of a template's name: more do not fit the card of the older page."""

TITLE_PX = 30
"""Height of a node's title, above its place."""


def node_ids():
    """Return the ids in the sources, in the order of the files."""
    return {
        found
        for path in (ROOT / "nodes").glob("*.py")
        for found in re.findall(r'node_id="(\w+)"', path.read_text(encoding="utf-8"))
    }


def shape(value):
    """Return a nested mapping with its texts left out."""
    return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def load(language):
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_translates_the_same(language):
    texts = load(language)
    assert set(texts) == node_ids() - UNTRANSLATED
    assert shape(texts) == shape(load("en"))


def test_no_other_language_is_there():
    assert {folder.name for folder in (ROOT / "locales").iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("node", sorted(node_ids() - UNTRANSLATED))
def test_translated_help_has_all_of_the_english(node):
    """The page falls back on ``docs/NODE.md`` where a language has no help of its own."""
    english, *others = (
        path.read_text(encoding="utf-8")
        for path in [DOCS / f"{node}.md", *sorted((DOCS / node).glob("*.md"))]
    )
    for text in others:
        assert len(text.split("\n\n")) == len(english.split("\n\n"))
        assert re.findall(r"^- \*\*(\w+)\*\*", text, re.M) == re.findall(r"^- \*\*(\w+)\*\*", english, re.M)


def test_every_help_page_belongs_to_a_node():
    assert {path.stem for path in DOCS.glob("*.md")} - UNTRANSLATED == {
        path.name for path in DOCS.iterdir() if path.is_dir()
    }
    assert {path.stem for path in DOCS.glob("*.md")} == node_ids()


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").rglob("*.json")), ids=lambda path: path.stem)
def test_workflows_name_our_nodes_and_their_inputs(path):
    document, known = json.loads(path.read_text(encoding="utf-8")), load("en")
    if "nodes" in document:
        for node in document["nodes"]:
            if node["type"].startswith("Hypir"):
                assert {slot["name"] for slot in node["inputs"]} <= set(known[node["type"]]["inputs"])
        return
    for node in document.values():
        if node["class_type"].startswith("Hypir"):
            assert set(node["inputs"]) <= set(known[node["class_type"]]["inputs"])


def test_every_workflow_exists_in_both_forms():
    browser = {path.name for path in (ROOT / "workflows").glob("*.json")}
    assert browser == {path.name for path in (ROOT / "workflows" / "api").glob("*.json")}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_what_the_template_browser_wants(path):
    """A picture of the same name, small; and an id that its check of workflows takes."""
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        assert thumbnail.format == "JPEG"
        assert max(thumbnail.size) <= 800
    assert path.with_suffix(".jpg").stat().st_size < 60_000
    assert uuid.UUID(json.loads(path.read_text(encoding="utf-8"))["id"])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_fits_its_card_and_no_box_lies_on_another(path):
    assert len(path.name.removesuffix(".json")) <= MOST_LETTERS
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    boxes = {
        node["title"]: (x, y - TITLE_PX, x + width, y + height)
        for node in nodes
        for (x, y), (width, height) in [(node["pos"], node["size"])]
    }
    assert len(boxes) == len(nodes)
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one} lies on {other}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_says_where_its_files_come_from(path):
    """Link, size and licence: ComfyUI's own dialog cannot fetch every file."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    note = next(node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
    for model in (model for node in nodes for model in node["properties"].get("models", [])):
        line = next(line for line in note.splitlines() if f"**{model['name']}**" in line)
        assert f"]({model['url']})" in line
        assert re.search(r"\[[\d.]+ [GM]B\]", line)
        assert "licence [" in line
        assert f"`models/{model['directory']}`" in line
    for loader in (node for node in nodes if "Lora" in node["type"]):
        assert loader["widgets_values"][0] in note


def test_the_app_shows_widgets_that_are_there():
    workflow = json.loads((ROOT / "workflows" / "restore_picture.app.json").read_text(encoding="utf-8"))
    api = json.loads((ROOT / "workflows" / "api" / "restore_picture.app.json").read_text(encoding="utf-8"))
    app = workflow["extra"]["linearData"]
    assert workflow["extra"]["linearMode"] is True
    assert all(widget in api[node]["inputs"] for node, widget in app["inputs"])
    assert [api[node]["class_type"] for node in app["outputs"]] == ["SaveImage"]


@pytest.mark.parametrize("path", sorted((ROOT / "subgraphs").glob("*.json")), ids=lambda path: path.stem)
def test_the_links_of_a_blueprint_hold(path):
    blueprint = json.loads(path.read_text(encoding="utf-8"))
    (inner,) = blueprint["definitions"]["subgraphs"]
    (outer,) = blueprint["nodes"]
    assert outer["type"] == inner["id"]
    assert [slot["name"] for slot in outer["inputs"]] == [slot["name"] for slot in inner["inputs"]]
    assert [slot["type"] for slot in outer["outputs"]] == [slot["type"] for slot in inner["outputs"]]
    nodes = {node["id"]: node for node in inner["nodes"]}
    for link in inner["links"]:
        if link["target_id"] in nodes:
            slot = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert slot["link"] == link["id"]
            assert slot["type"] == link["type"]
        if link["origin_id"] in nodes:
            assert link["id"] in nodes[link["origin_id"]]["outputs"][link["origin_slot"]]["links"]
    for node, widget in outer["properties"]["proxyWidgets"]:
        assert widget in {slot["name"] for slot in nodes[int(node)]["inputs"] if "widget" in slot}


def test_registry_entry():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    comfy = project["tool"]["comfy"]
    assert comfy["PublisherId"]
    assert "comfyui" not in project["project"]["name"].lower()
    assert not {"Icon", "Banner"} & set(comfy), "addresses of pictures are what the registry's scan reports"
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert all(line.startswith("#") for line in requirements.splitlines())


def test_the_package_is_small():
    """Count what git tracks without what .comfyignore leaves out, as the registry's tool does."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    ignored = tuple(line.lstrip("/") for line in lines if line and not line.startswith("#"))
    shipped = [
        name for name in tracked.splitlines() if not name.startswith(ignored) and (ROOT / name).is_file()
    ]
    assert sum((ROOT / name).stat().st_size for name in shipped) < MOST_BYTES
    assert not [name for name in shipped if name.startswith("tests/")]
