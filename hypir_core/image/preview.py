"""What a canvas shows while it fills in: a small picture, rough where it is a latent."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from .resize import resize

PREVIEW_PX = 512
"""Longest side of a preview."""

LATENT_RGB = ((0.35, 0.23, 0.32), (0.33, 0.50, 0.24), (-0.28, 0.18, 0.27), (-0.21, -0.26, -0.72))
"""What one unit of each channel of a scaled Stable Diffusion latent adds to a colour in [-1,1]: a rough preview."""


def preview_of(canvas: Tensor, backdrop: Tensor | None = None) -> Image.Image:
    """Return a canvas [b c h w], a picture's in [0,1] or a latent's, as a small picture over what is to come."""
    every = max(1, max(canvas.shape[-2:]) // PREVIEW_PX)
    small = canvas[:1, :, ::every, ::every].float().cpu()
    empty = (small == 0).all(1, keepdim=True)
    if small.shape[1] == len(LATENT_RGB):
        small = torch.einsum("bchw,cr->brhw", small, torch.tensor(LATENT_RGB)) / 2 + 0.5
    if backdrop is not None:
        h, w = small.shape[-2:]
        small = torch.where(empty, resize(backdrop[:1].float().cpu(), (h, w)), small)
    return as_picture(small)


def as_picture(image: Tensor) -> Image.Image:
    """Return the first picture of [b c h w] in [0,1], no side longer than a preview's."""
    h, w = image.shape[-2:]
    shrink = PREVIEW_PX / max(h, w)
    if image.ndim == 4 and shrink != 1:
        image = resize(image[:1].float().cpu(), (max(1, round(h * shrink)), max(1, round(w * shrink))))
    pixels = image[0].expand(3, -1, -1).clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels)
