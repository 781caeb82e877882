"""A node's progress bar, the time that is left, and the picture that fills in."""

from __future__ import annotations

import time

import comfy.utils
from comfy.cli_args import LatentPreviewMethod, args
from torch import Tensor

from ...hypir_core.image.preview import PREVIEW_PX, as_picture, preview_of
from ...hypir_core.progress import Progress, Tick, duration
from .face import on_face

PREVIEW_EVERY_S = 0.25
BAR_STEPS = 1000

TELL_AFTER_S = 3.0
"""A run that is over sooner says nothing while it runs."""

TELL_EVERY_S = 1.0


def previews_wanted() -> bool:
    """Return whether ComfyUI's preview method is not "none"; in newer versions every run has its own."""
    return args.preview_method != LatentPreviewMethod.NoPreviews


def progress_bar(*, picture: int = 0, pictures: int = 1, backdrop: Tensor | None = None) -> Progress:
    """Return a progress callback that moves this node's bar and shows the canvas filling in.

    Args:
        picture: which picture of a batch this is.
        pictures: how many there are.
        backdrop: [1 1|3 h w] in [0,1], any size: what is shown, enlarged, where there is nothing yet. It is shown
            at once.
    """
    bar = comfy.utils.ProgressBar(BAR_STEPS)
    shown_at, told_at, begun = 0.0, time.monotonic(), time.monotonic()
    wanted = previews_wanted()
    if wanted and backdrop is not None:
        bar.update_absolute(
            round(BAR_STEPS * picture / pictures), BAR_STEPS, ("JPEG", as_picture(backdrop), PREVIEW_PX)
        )

    def move(tick: Tick) -> None:
        nonlocal shown_at, told_at
        whole = (picture + (tick.whole or tick.done / tick.total)) / pictures
        preview, now = None, time.monotonic()
        if wanted and (tick.done == tick.total or now - shown_at > PREVIEW_EVERY_S):
            preview, shown_at = ("JPEG", preview_of(tick.canvas, backdrop), PREVIEW_PX), now
        bar.update_absolute(round(BAR_STEPS * whole), BAR_STEPS, preview)
        if whole >= 1 or (now - begun > TELL_AFTER_S and now - told_at > TELL_EVERY_S):
            told_at = now
            on_face(time_told(tick, whole, now - begun, picture=picture, pictures=pictures))

    return move


def time_told(tick: Tick, whole: float, passed_s: float, *, picture: int, pictures: int) -> str:
    """Return where a run is: stage, tile, time left; `whole` is the part that is done, by the time `passed_s`."""
    if whole >= 1:
        return f"done in {duration(passed_s)}"
    here = max(whole - picture / pictures, 1e-3)  # the bar of a later picture begins with it
    left = duration(passed_s * (1 - whole) / here)
    of = f"picture {picture + 1} of {pictures}, " if pictures > 1 else ""
    return f"{of}{tick.stage}: {tick.done} of {tick.total} tiles, about {left} left"
