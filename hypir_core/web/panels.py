"""What the page says, as HTML. Everything that comes from a file or a person is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from .running import Seen

CANVAS_QUALITY = 80


def notice(problems: Sequence[str]) -> str:
    """Return the lines that say why something was refused; nothing where there is none."""
    lines = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<ul class="hypir-notice" role="alert">{lines}</ul>' if lines else ""


def waiting(words: str) -> str:
    """Return the panel before a run has said anything."""
    return _panel(0.0, words)


def panel(seen: Seen) -> str:
    """Return the bar, what is going on, the canvas that fills in, and one line for each picture of several."""
    shows_all = len(seen.done) > 1 or seen.error is not None
    listed = "".join(
        f'<li class="{"bad" if one.error else "good"}">{escape(one.line)}</li>'
        for one in seen.done
        if shows_all or one.error is not None
    )
    notes = {note: None for one in seen.done if one.report is not None for note in one.report.notes}
    noted = "".join(f"<li>{escape(note)}</li>" for note in notes) if seen.is_over else ""
    below = f"<ul>{listed}{noted}</ul>" if listed or noted else ""
    return _panel(seen.whole, seen.words, canvas=seen.canvas, below=below, is_bad=seen.error is not None)


def forecast_line(words: str, *, is_bad: bool = False) -> str:
    """Return the line above the buttons."""
    return f'<p class="hypir-forecast{" bad" if is_bad else ""}">{escape(words)}</p>'


def engine_line(summary: str, missing: Sequence[str]) -> str:
    """Return what an engine is, and what it still needs."""
    needs = "".join(f"<li>{escape(line)}</li>" for line in missing)
    return f'<p class="hypir-about">{escape(summary)}</p>' + (
        f'<p class="hypir-about">Before it can be used:</p><ul class="hypir-needs">{needs}</ul>'
        if needs
        else ""
    )


def _panel(
    whole: float, words: str, *, canvas: Image.Image | None = None, below: str = "", is_bad: bool = False
) -> str:
    percent = round(100 * whole)
    shown = "" if canvas is None else f'<img alt="the canvas so far" src="{_inline(canvas)}">'
    return (
        f'<div class="hypir-panel{" bad" if is_bad else ""}">'
        f'<progress max="100" value="{percent}" aria-label="progress"></progress>'
        f'<p role="{"alert" if is_bad else "status"}">{escape(words)}</p>{shown}{below}</div>'
    )


def _inline(picture: Image.Image) -> str:
    """Return a picture as an address that holds it: nothing is written for a glance."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=CANVAS_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
