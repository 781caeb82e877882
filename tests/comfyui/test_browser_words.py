"""What a person sees of what the nodes say, in the classic nodes and in the newer ones where the page has them."""

from __future__ import annotations

import json

import pytest

from tests.comfyui.test_browser import complaints, keep, page, somebody, visit
from tests.comfyui.test_server import node

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

__all__ = ["page", "somebody"]

NEWER_NODES = "'widgetId' in (app.graph.nodes[1].widgets[0])"


def run(comfyui, page, graph):
    """Load a graph in API format into the page, press Run and wait until it is done."""
    titled = {key: {**entry, "_meta": {"title": entry["class_type"]}} for key, entry in graph.items()}
    page.evaluate(f"app.loadApiJson({json.dumps(titled)}, 'words')")
    page.wait_for(f"app.graph.nodes.length === {len(graph)}")
    comfyui.post("/free", {"unload_models": False, "free_memory": True})
    page.evaluate("app.queuePrompt(0, 1).catch(() => null)")


def visible(node_type, name):
    """Return an expression: whether a widget of a node is shown."""
    return (
        f"!app.graph.nodes.find(it => it.type === '{node_type}').widgets"
        f".find(it => it.name === '{name}').hidden"
    )


def text_is_shown(text):
    """Return an expression: whether a text stands somewhere in the page."""
    return f"document.body.innerText.replaceAll(/\\s+/g, ' ').includes({json.dumps(text)})"


@pytest.mark.parametrize("newer", [False, True])
def test_what_a_person_sees(page, comfyui, newer):
    comfyui.post("/settings/Comfy.VueNodes.Enabled", newer)
    try:
        visit(page, comfyui)
        graph = {
            "1": node(comfyui, "LoadImage", image="example.png"),
            "2": node(comfyui, "HypirRestoreImage", image=["1", 0], mask=["1", 1], prompt="a <b>cat</b>"),
            "3": node(comfyui, "HypirCompare", before=["1", 0], after=["2", 0]),
            "4": node(comfyui, "HypirCaption", image=["1", 0], text="a <b>cat</b>"),
            "5": node(comfyui, "PreviewAny", source=["4", 0]),
        }
        run(comfyui, page, graph)
        if newer and not page.evaluate(NEWER_NODES):
            pytest.skip("this page has no newer nodes, or an early trial of them")
        page.wait_for(text_is_shown("128×128 → 512×512 px · built-in"), seconds=120)
        page.wait_for(text_is_shown("the mask is Load Image's placeholder for no mask"))
        page.wait_for(text_is_shown("the prompt is not used: the built-in restorer reads no words"))
        page.wait_for(text_is_shown("dB, SSIM 0."))
        page.wait_for(text_is_shown("a ‹b›cat‹/b›"))  # words are words, and never the page's own markup
        slider = "app.graph.nodes.some(it => it.widgets?.some(w => w.name === 'before_after'))"
        assert page.evaluate(slider) is newer
        assert not page.evaluate(visible("HypirRestoreImage", "scale"))
        page.evaluate(
            "(() => { const node = app.graph.nodes.find(it => it.type === 'HypirRestoreImage');"
            "const rule = node.widgets.find(it => it.name === 'size_rule');"
            "rule.value = 'shortest side'; rule.callback(rule.value); })()"
        )
        assert page.evaluate(visible("HypirRestoreImage", "longest_side_px"))
        assert not page.evaluate(visible("HypirRestoreImage", "megapixels"))
        order = "app.graph.nodes.find(it => it.type === 'HypirRestoreImage').serialize().widgets_values"
        assert page.evaluate(order)[:4] == ["shortest side", 2, 2048, 4]  # old workflows keep their places
        keep(page, f"words_{'newer' if newer else 'classic'}")

        failing = {
            "1": node(comfyui, "EmptyImage", width=3000, height=64),
            "2": node(comfyui, "HypirRestoreImage", image=["1", 0], size_rule="scale", scale=8.0),
            "3": node(comfyui, "PreviewImage", images=["2", 0]),
        }
        run(comfyui, page, failing)
        assert page.evaluate(visible("HypirRestoreImage", "scale"))
        assert not page.evaluate(visible("HypirRestoreImage", "longest_side_px"))
        page.wait_for(text_is_shown("the longest side allowed is 16384 px: choose a scale of at most 5.46"))
        keep(page, f"words_failed_{'newer' if newer else 'classic'}")
    finally:
        comfyui.post("/settings/Comfy.VueNodes.Enabled", False)
    assert [said for said in complaints(page) if "16384" not in said] == []
