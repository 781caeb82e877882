"""What lies around the nodes agrees with itself; the comparison with the running nodes is in tests/comfyui."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "zh", "ja", "ko", "fr", "es", "de")
MOST_BYTES = 10_000_000


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
    assert set(texts) == node_ids()
    assert shape(texts) == shape(load("en"))


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


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_what_the_template_browser_wants(path):
    """A picture of the same name, small; and an id that its check of workflows takes."""
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        assert thumbnail.format == "JPEG"
        assert max(thumbnail.size) <= 800
    assert path.with_suffix(".jpg").stat().st_size < 60_000
    assert uuid.UUID(json.loads(path.read_text(encoding="utf-8"))["id"])


def test_registry_entry():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    comfy = project["tool"]["comfy"]
    assert comfy["PublisherId"]
    assert "comfyui" not in project["project"]["name"].lower()
    for picture in ("Icon", "Banner"):
        assert (ROOT / "assets" / Path(comfy[picture]).name).is_file()
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
