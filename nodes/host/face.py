"""What a node says: on its face, in the log, and with its results.

ComfyUI draws the text among a node's results for one of its own nodes only. The server's progress text is drawn on
every node, by the classic and by the newer page. `web/onestep.js` writes it again where a result comes from the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import ui
from comfy_execution.utils import get_executing_context

log = logging.getLogger(__name__)

MARKUP = str.maketrans("<>", "‹›")
"""The page reads progress text as HTML; names of files and captions are not meant so."""


def on_face(text: str) -> None:
    """Write on the face of the running node, in place of what stood there; outside a run nobody would see it."""
    running = get_executing_context()
    if running is None or not text:
        return
    from server import PromptServer  # ComfyUI's, and only there while it runs

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_progress_text(text.translate(MARKUP), running.node_id, server.client_id)


def with_notes(summary: str, notes: Sequence[str]) -> str:
    """Return a summary and its notes, one a line; the newer page runs lines together, so each note has its mark."""
    return "\n• ".join((summary, *notes))


class Said(ui.PreviewText):
    """What a node said, among its results."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as ComfyUI's own nodes do, and under the name that `web/onestep.js` looks for."""
        return {**super().as_dict(), "onestep_face": (self.value.translate(MARKUP),)}


def said(summary: str, notes: Sequence[str] = ()) -> Said:
    """Say what a node has done; notes also go to the log, as warnings. Returns what belongs to the node's results."""
    for note in notes:
        log.warning("One-Step Restore: %s", note)
    text = with_notes(summary, notes)
    on_face(text)
    return Said(text)
