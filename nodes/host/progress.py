"""A node's progress bar, and the picture that fills in on it."""

from __future__ import annotations

import time

import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ...hypir_core.progress import Progress, Tick

PREVIEW_PX = 512
PREVIEW_EVERY_S = 0.25
BAR_STEPS = 1000

LATENT_RGB = ((0.35, 0.23, 0.32), (0.33, 0.50, 0.24), (-0.28, 0.18, 0.27), (-0.21, -0.26, -0.72))
"""What one unit of each channel of a scaled Stable Diffusion latent adds to a colour in [-1,1]: a rough
preview; where ComfyUI brings its own numbers they are used."""


def progress_bar(*, picture: int = 0, pictures: int = 1) -> Progress:
    """Return a progress callback that moves this node's bar and shows the canvas filling in.

    Args:
        picture: which picture of a batch this is.
        pictures: how many there are.
    """
    bar = comfy.utils.ProgressBar(BAR_STEPS)
    shown_at = 0.0

    def move(tick: Tick) -> None:
        nonlocal shown_at
        here = tick.whole or tick.done / tick.total
        preview, now = None, time.monotonic()
        if tick.done == tick.total or now - shown_at > PREVIEW_EVERY_S:
            preview, shown_at = ("JPEG", _preview(tick.canvas), PREVIEW_PX), now
        bar.update_absolute(round(BAR_STEPS * (picture + here) / pictures), BAR_STEPS, preview)

    return move


def _preview(canvas: Tensor) -> Image.Image:
    every = max(1, max(canvas.shape[-2:]) // PREVIEW_PX)
    small = canvas[0, :, ::every, ::every].float().cpu()
    if small.shape[0] == len(LATENT_RGB):
        small = torch.einsum("chw,cr->rhw", small, torch.tensor(LATENT_RGB)) / 2 + 0.5
    pixels = small.expand(3, -1, -1).clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels)
