"""The plugin in ComfyUI's own page: a headless Chromium does there what a person does.

`scripts/browser_proof FOLDER` runs this and keeps the pictures that it takes.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.feature import match_template

from tests.comfyui.browser import Browser, NoBrowserError, chromium
from tests.comfyui.server import PLUGIN, ROOT

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
OURS = (PLUGIN, "hypir", "invalid workflow", "zod")
"""A message of the page that holds one of these, in any case, is about this plugin."""


@pytest.fixture(scope="module")
def somebody(comfyui):
    """A user who has seen the greeting, with a small picture in the input folder."""
    assert comfyui.post("/settings/Comfy.TutorialCompleted", True)[0] == 200
    with Image.open(ROOT / "hypir_core" / "examples" / "astronaut.jpg") as photo:
        photo.resize((128, 128), Image.Resampling.BICUBIC).save(comfyui.base / "input" / "example.png")


@pytest.fixture
def page(comfyui, somebody, tmp_path):
    try:
        chromium()
    except NoBrowserError as err:
        pytest.skip(str(err))
    with Browser(tmp_path / "chromium") as browser:
        visit(browser, comfyui)
        yield browser


def visit(page, comfyui):
    page.open(f"http://127.0.0.1:{comfyui.port}/")
    page.wait_for(
        "window.app?.graph && document.querySelector('.side-tool-bar-container') && true", seconds=180
    )


def open_template(page, name, browse="Browse Templates"):
    """Workflow → Browse Templates → this plugin → the template; returns what its file holds."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    card = f'[data-testid="template-workflow-{name}"]'
    there = f"""(() => {{  // the older page shows twelve, and more when it is scrolled
        for (const it of document.querySelectorAll("[data-testid=template-workflows-content] *"))
            if (it.scrollHeight > it.clientHeight) it.scrollTop = it.scrollHeight;
        return !!document.querySelector({json.dumps(card)});
    }})()"""
    if page.evaluate("!!document.querySelector('.comfyui-logo-wrapper')"):
        page.click(".comfyui-logo-wrapper")
        page.click("[role=menuitem] *", browse)
        page.click(".p-dialog li", PLUGIN, until=there)
    else:  # the newer page has a button for it on its side, and other dialogs
        page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        page.click("[role=dialog] div.cursor-pointer", PLUGIN, until=there)
    page.click(card)
    page.wait_for(f"app.graph.id === {json.dumps(workflow['id'])}")
    return workflow


def keep(page, name):
    """Take a screenshot; also write it where HYPIR_SCREENSHOTS says."""
    png = page.screenshot()
    if folder := os.environ.get("HYPIR_SCREENSHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(png)
    return Image.open(io.BytesIO(png)).convert("RGB")


def node_box(page, title):
    """Return the place of a node in the page: left, upper, right, lower."""
    return page.evaluate(
        f"""(() => {{
            const node = app.graph.nodes.find(it => it.title === {json.dumps(title)});
            const canvas = app.canvas.canvas.getBoundingClientRect();
            const corner = (x, y) => app.canvas.ds.convertOffsetToCanvas([node.pos[0] + x, node.pos[1] + y]);
            const [left, upper] = corner(0, -24), [right, lower] = corner(node.size[0], node.size[1]);
            return [left + canvas.x, upper + canvas.y, right + canvas.x, lower + canvas.y];
        }})()"""
    )


def queue(page, title):
    """Press Run and wait until the node with this title shows a picture."""
    page.click(".comfyui-queue-button button, [data-testid=queue-button]", "Run")
    page.wait_for(
        f"app.graph.nodes.find(it => it.title === {json.dumps(title)}).imgs?.some(it => it.naturalWidth)",
        seconds=300,
    )
    page.wait_for("new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true), 300)))")


def likeness(shown, picture):
    """Return the highest correlation of a picture, in any size, with a part of what is shown; 1 is equal."""
    shown = np.asarray(shown.convert("L"), np.float32)
    best = 0.0
    for width in range(80, min(shown.shape) - 2, 3):
        small = picture.convert("L").resize((width, round(width * picture.height / picture.width)))
        if small.height < shown.shape[0]:
            best = max(best, float(match_template(shown, np.asarray(small, np.float32)).max()))
    return best


def complaints(page):
    """Return what the page says about this plugin.

    That it cannot ask the hub how large files are is no fault, nor that it looks for help in its language first.
    """
    toasts = page.evaluate("[...document.querySelectorAll('.p-toast-message')].map(it => it.innerText)")
    said = [text for text in page.complaints if "net::ERR" not in text and f"{PLUGIN}/docs/" not in text]
    return toasts + [text for text in said if any(word in text.lower() for word in OURS)]


def open_help(page, node_type):
    """Select a node and press the button for its help; returns the help's text."""
    title = page.evaluate(f"app.graph.nodes.find(it => it.type === {json.dumps(node_type)}).title")
    left, upper, right, _lower = node_box(page, title)
    page.click_at((left + right) / 2, upper + 10)
    page.click("[data-testid=info-button]")
    return page.wait_for("document.querySelector('.node-help-content')?.innerText")


def test_quick_restore_from_the_template_browser(page, comfyui):
    open_template(page, "restore_quick_no_download")
    queue(page, "Restored picture")
    shown = keep(page, "restore_quick_no_download")
    results = sorted((comfyui.base / "output").glob("restored_*.png"))
    with Image.open(results[-1]) as result:
        assert result.size == (512, 512)
        there = shown.crop(node_box(page, "Restored picture"))
        assert likeness(there, result) > 0.97
        assert likeness(there, result.rotate(180)) < 0.7  # the measure tells pictures apart
    assert complaints(page) == []


def test_every_template_opens(page):
    for name in WORKFLOWS:
        workflow = open_template(page, name)
        known = "it.constructor.nodeData || it.isVirtualNode"
        assert page.evaluate(f"app.graph.nodes.filter(it => {known}).length") == len(workflow["nodes"])
        wanted = [
            f"{model['directory']} / {model['name']}"
            for node in workflow["nodes"]
            for model in node["properties"].get("models", [])
            if "RealESRGAN" not in model["name"]  # that one lies there, see conftest.py
        ]
        # The newer page marks the nodes instead, and lists the files in a panel.
        if wanted and page.evaluate("!!document.querySelector('.comfyui-logo-wrapper')"):
            page.wait_for("document.querySelector('.p-dialog')?.innerText.includes('Missing Models')")
            said = page.evaluate("document.querySelector('.p-dialog').innerText")
            assert all(line in said for line in wanted)
            page.click(".p-dialog-close-button")
        page.wait_for("!document.querySelector('.p-dialog')")
        if name == "degrade_restore_compare":
            queue(page, "Restored and original")
        keep(page, f"graph_{name}")
    assert complaints(page) == []


@pytest.mark.parametrize(
    ("language", "browse", "title"),
    [("en", "Browse Templates", "Restore Image"), ("zh", "浏览模板", "修复图像")],
)
def test_help_in_two_languages(page, comfyui, language, browse, title):
    comfyui.post("/settings/Comfy.Locale", language)
    try:
        visit(page, comfyui)
        open_template(page, "restore_quick_no_download", browse)
        assert title in open_help(page, "HypirRestoreImage")
        keep(page, f"help_{language}")
    finally:
        comfyui.post("/settings/Comfy.Locale", "en")
    assert complaints(page) == []
