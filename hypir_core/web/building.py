"""The page and what it does, put together."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .acting import Acting
from .engine import HeldEngine
from .page import TITLE, Widgets, lay_out
from .sessions import Sessions
from .settings import PageSettings

ONE_AT_A_TIME = "engine"
"""Runs and captions wait for each other: there is one device."""

DARK = "() => { document.body.classList.toggle('dark'); }"


def build_page(settings: PageSettings, sessions: Sessions, engines: HeldEngine) -> gr.Blocks:
    """Return the page, not served yet."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        widgets = lay_out(settings)
        _connect(page, widgets, Acting(widgets, settings, sessions, engines))
    return page.queue(default_concurrency_limit=4, max_size=64)


def _connect(page: gr.Blocks, on: Widgets, act: Acting) -> None:
    quiet: Any = {"show_progress": "hidden", "api_visibility": "private"}
    shown = [
        on.pictures,
        on.notice,
        on.before,
        on.compare,
        on.mask,
        on.run,
        on.panel,
        on.download,
        on.results,
    ]
    taken = [
        on.pictures.upload(act.take_pictures, on.pictures, shown, **quiet),
        on.pictures.delete(act.take_pictures, on.pictures, shown, **quiet),
        on.pictures.clear(act.take_pictures, on.pictures, shown, **quiet),
        on.examples.click(act.take_example, on.examples, shown, **quiet),
    ]
    for event in taken:
        event.then(act.foresee, on.wishes, on.forecast, **quiet)
    panels = [panel for panel, _options in on.own.values()]
    on.engine.input(act.choose_engine, on.engine, [on.about, *panels], **quiet)
    page.load(act.about, on.engine, on.about, **quiet)
    on.size_by.input(act.choose_size, on.size_by, [on.scale, on.longest_side], **quiet)
    watched: set[Any] = on.wishes - {on.pictures, on.prompt}
    gr.on(
        [widget.change for widget in watched],
        act.foresee,
        on.wishes,
        on.forecast,
        trigger_mode="always_last",
        **quiet,
    )
    on.auto.click(
        act.describe, on.pictures, on.prompt, concurrency_id=ONE_AT_A_TIME, concurrency_limit=1,
        api_visibility="private",
    )  # fmt: skip
    ready = [on.run, on.stop, on.panel, on.notice, on.download, on.results]
    ended = [on.run, on.stop, on.panel, on.before, on.compare, on.download, on.results, on.report]
    run = on.run.click(act.get_ready, None, ready, queue=False, **quiet).then(
        act.restore, on.wishes | {on.mask}, ended, concurrency_id=ONE_AT_A_TIME, concurrency_limit=1, **quiet
    )
    run.failure(act.give_up, None, [on.panel, on.run, on.stop], **quiet)
    run.then(act.foresee, on.wishes, on.forecast, **quiet)
    on.stop.click(act.stop, None, None, queue=False, **quiet)
    on.theme.click(None, js=DARK)
    page.unload(act.close)
