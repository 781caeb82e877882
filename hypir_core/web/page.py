"""The page: what is on it and where. What it does stands in `acting.py`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from ..color.mode import ColorFix
from ..config import to_plain
from ..engines.catalog import ENGINES
from ..engines.settings import EngineOption
from ..files.formats import writable_names
from ..image.size import MAX_SCALE
from ..request import Request
from ..tiling.plan import TileWish
from . import panels
from .fields import component_of, info_of, shown_options
from .pictures import PAINT_ALPHA
from .settings import PageSettings

TITLE = "One-Step Restore"
EXAMPLES = Path(__file__).parent.parent / "examples"
OWN = "the engine's own"
AS_INPUT = "as the picture"
BY_SCALE, BY_SIDE = "factor", "longest side"
DEFAULT_SCALE = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Widgets:
    """Everything on the page that is read or changed."""

    pictures: gr.File
    examples: gr.Dataset
    notice: gr.HTML
    engine: gr.Dropdown
    about: gr.HTML
    size_by: gr.Radio
    scale: gr.Slider
    longest_side: gr.Number
    prompt: gr.Textbox
    auto: gr.Button
    strength: gr.Slider
    color_fix: gr.Dropdown
    color_strength: gr.Slider
    edge_enhance: gr.Slider
    sharpen: gr.Slider
    tile: gr.Number
    overlap: gr.Number
    seed: gr.Number
    format: gr.Dropdown
    own: dict[str, tuple[gr.Group, tuple[tuple[EngineOption, Component], ...]]]
    """Engine → its panel, and what is in it."""
    mask: gr.ImageEditor
    forecast: gr.HTML
    run: gr.Button
    stop: gr.Button
    panel: gr.HTML
    before: gr.Image
    compare: gr.ImageSlider
    download: gr.DownloadButton
    results: gr.File
    report: gr.JSON
    theme: gr.Button

    @property
    def wishes(self) -> set[Component]:
        """What a request is made of."""
        names = {
            "pictures", "engine", "size_by", "scale", "longest_side", "prompt", "strength", "color_fix",
            "color_strength", "edge_enhance", "sharpen", "tile", "overlap", "seed", "format",
        }  # fmt: skip
        plain = {getattr(self, field.name) for field in fields(self) if field.name in names}
        return plain | {widget for _panel, options in self.own.values() for _option, widget in options}


def lay_out(settings: PageSettings) -> Widgets:
    """Put everything onto the page that is being built (`gr.Blocks`)."""
    with gr.Row(elem_classes="hypir-head"):
        gr.HTML(
            f"<h1>{TITLE}</h1><p>For pictures that are old, small, blurred or over-compressed. "
            "They stay on the machine that runs this page, and are removed when you close it.</p>"
        )
        theme = gr.Button("◐", elem_id="theme", size="sm")
    with gr.Row(equal_height=False):
        with gr.Column(elem_id="settings"):
            left = _settings(settings)
        with gr.Column(elem_id="result", scale=3):
            right = _result()
    return Widgets(**left, **right, theme=theme)


def _settings(settings: PageSettings) -> dict[str, Any]:
    pictures = gr.File(
        file_count="multiple", label="Pictures", elem_id="pictures", height=132, type="filepath"
    )
    notice = gr.HTML(visible=False, elem_id="notice")
    examples = gr.Dataset(
        label="No picture at hand? Try one of these",
        components=[gr.Image(visible=False)],
        samples=[[str(path)] for path in example_files()],
        type="index",
        elem_id="examples",
    )
    with gr.Group():
        engine = gr.Dropdown(
            list(ENGINES.names()), value=settings.engine, label="Engine", elem_id="engine", filterable=False
        )
        about = gr.HTML(padding=True, elem_id="about")
    with gr.Group():
        size_by = gr.Radio([BY_SCALE, BY_SIDE], value=BY_SCALE, label="Size of the result", elem_id="size-by")
        scale = gr.Slider(
            1, MAX_SCALE, value=DEFAULT_SCALE, step=0.1, label="factor on both sides", elem_id="scale"
        )
        longest_side = gr.Number(2048, label="longest side, px", precision=0, visible=False)
    with gr.Group():
        prompt = gr.Textbox(
            label="What the pictures show", info="For engines that listen; may stay empty.", lines=2,
            elem_id="prompt", max_length=2000,
        )  # fmt: skip
        auto = gr.Button(f"Describe it for me ({settings.captioner})", size="sm", elem_id="auto")
    own = _own_settings(settings)
    with gr.Accordion("More settings", open=False, elem_id="more"):
        more = _more()
    with gr.Accordion("Restore only what I paint", open=False, elem_id="part"):
        mask = gr.ImageEditor(
            label="Paint here",
            type="numpy", image_mode="RGBA", sources=(), transforms=(), layers=False, format="png",
            brush=gr.Brush(colors=[f"rgba(255, 64, 129, {PAINT_ALPHA})"], color_mode="fixed", default_size=40),
            elem_id="mask", height=420, buttons=["fullscreen"],
        )  # fmt: skip
    return {
        "pictures": pictures, "notice": notice, "examples": examples, "engine": engine, "about": about,
        "size_by": size_by, "scale": scale, "longest_side": longest_side, "prompt": prompt, "auto": auto,
        "own": own, "mask": mask, **more,
    }  # fmt: skip


def _own_settings(settings: PageSettings) -> dict[str, Any]:
    own = {}
    for name in ENGINES.names():
        options = shown_options(name, settings)
        with gr.Accordion(
            f"Settings of {name}", open=False, visible=bool(options) and name == settings.engine
        ) as panel:
            own[name] = panel, tuple((option, component_of(option)) for option in options)
    return own


def _more() -> dict[str, Any]:
    request = to_plain(Request())
    made = {
        name: gr.Slider(
            0, 1, value=request[name], step=0.05, label=name.replace("_", " "), info=info_of(Request, name)
        )
        for name in ("strength", "sharpen", "edge_enhance", "color_strength")
    }
    fixes = [(OWN, None), *((member.value, member.value) for member in ColorFix)]
    color_fix = gr.Dropdown(fixes, value=None, label="color fix", info=info_of(Request, "color_fix"))
    with gr.Row():
        tile = gr.Number(
            0, label="tile, px", precision=0, min_width=100, elem_id="tile",
            info=f"{info_of(TileWish, 'tile_px')}; 0 takes {OWN}.",
        )  # fmt: skip
        overlap = gr.Number(
            0, label="overlap, px", precision=0, min_width=100,
            info=f"{info_of(TileWish, 'overlap_px')}; 0 takes {OWN}.",
        )  # fmt: skip
    with gr.Row():
        seed = gr.Number(
            request["seed"], label="seed", precision=0, min_width=100, info=info_of(Request, "seed")
        )
        kinds = [(AS_INPUT, None), *((name, name) for name in writable_names())]
        form = gr.Dropdown(
            kinds,
            value=None,
            label="format",
            min_width=100,
            elem_id="format",
            info="Of the files you download.",
        )
    return {**made, "color_fix": color_fix, "tile": tile, "overlap": overlap, "seed": seed, "format": form}


def _result() -> dict[str, Any]:
    forecast = gr.HTML(panels.forecast_line("Add a picture, or choose an example."), elem_id="forecast")
    with gr.Row():
        run = gr.Button("Restore", variant="primary", elem_id="run", interactive=False, scale=3)
        stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False, scale=1)
    panel = gr.HTML(visible=False, elem_id="panel")
    download = gr.DownloadButton("Download", visible=False, variant="primary", elem_id="download")
    before = gr.Image(
        label="before", visible=False, interactive=False, type="filepath", buttons=["fullscreen"],
        elem_id="before",
    )  # fmt: skip
    compare = gr.ImageSlider(
        label="before | after", visible=False, interactive=False, buttons=["fullscreen"], elem_id="compare",
        max_height=640, type="filepath",
    )  # fmt: skip
    results = gr.File(
        label="Results", visible=False, interactive=False, file_count="multiple", elem_id="results"
    )
    with gr.Accordion("What was done", open=False, elem_id="done"):
        report = gr.JSON(show_label=False, elem_id="report")
    return {
        "forecast": forecast, "run": run, "stop": stop, "panel": panel, "before": before, "compare": compare,
        "download": download, "results": results, "report": report,
    }  # fmt: skip


def example_files() -> list[Path]:
    """Return the photographs that come with this package."""
    return sorted(EXAMPLES.glob("*.jpg"))


def target_of(size_by: str, scale: float, longest_side_px: int | None) -> dict[str, float | None]:
    """Return the size that is asked for, as a `TargetSize` is built from it."""
    return {"longest_side_px": longest_side_px} if size_by == BY_SIDE else {"scale": scale}
