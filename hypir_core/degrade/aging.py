"""What years do to a print, and what printing does to a picture: fading, scratches and dust, dot screens."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .choices import FadeDraw, HalftoneDraw, ScratchesDraw
from .noise import luma


def fade(image_01: Tensor, choice: FadeDraw) -> Tensor:
    """Return the picture with lost colour, lifted blacks, dull whites and yellowed paper.

    ``y = black·b + (white·w − black·b)·x`` per channel after a blend towards luma, where the tints w and b go
    from 1 to sepia's (1, 0.9, 0.68) and (1, 0.75, 0.55) as the warmth goes to 1. A grey picture stays grey.

    Shapes: [b c h w] float32 in [0, 1], c 1 or 3, in and out.
    """
    colours = image_01.shape[1]
    paper = _tint((1.0, 0.90, 0.68), choice.warmth, colours).to(image_01)
    ink = _tint((1.0, 0.75, 0.55), choice.warmth, colours).to(image_01)
    black, white = choice.black * ink, choice.white * paper
    return black + (white - black) * image_01.lerp(luma(image_01), choice.grey)


def scratch(image_01: Tensor, choice: ScratchesDraw) -> Tensor:
    """Return the picture with long fine scratches and with dust, light or dark.

    Everything is placed and sized relative to the picture, with soft edges; nothing is thinner than about a
    pixel. The counts are those of a whole print: a picture below 512×512, a crop, gets its share by area.

    Shapes: [1 c h w] float32 in [0, 1], in and out.
    """
    marked = image_01.clone()
    share = min(1.0, image_01.shape[-2] * image_01.shape[-1] / 512**2)
    g = Generator().manual_seed(choice.seed)
    for _ in range(math.ceil(choice.lines * share)):
        _scratch_line(marked, choice.opacity, torch.rand(10, generator=g).tolist())
    for _ in range(math.ceil(choice.specks * share)):
        _speck(marked, choice.opacity, torch.rand(7, generator=g).tolist())
    return marked


def halftone(image_01: Tensor, choice: HalftoneDraw) -> Tensor:
    """Return the picture blended with its print in a rotated dot screen per channel.

    The screen is the mean of two triangle waves mapped through its own distribution function, so it is
    uniform and a flat area keeps its mean tone. Angles 15°, 75°, 0° for the inks cyan, magenta, yellow (the
    complements of red, green, blue), 45° for a grey picture.

    Shapes: [b c h w] float32 in [0, 1], in and out.
    """
    _, c, h, w = image_01.shape
    y = torch.arange(h, dtype=torch.float32, device=image_01.device)[:, None]
    x = torch.arange(w, dtype=torch.float32, device=image_01.device)[None, :]
    screens = []
    for degrees in (15, 75, 0) if c == 3 else (45,):
        angle = math.radians(degrees) + choice.angle
        u = (x * math.cos(angle) + y * math.sin(angle)) / choice.period_px
        v = (y * math.cos(angle) - x * math.sin(angle)) / choice.period_px
        mean = (_triangle(u) + _triangle(v)) / 2
        screens.append(torch.where(mean < 0.5, 2 * mean**2, 1 - 2 * (1 - mean) ** 2))
    printed = ((image_01 - torch.stack(screens)) * choice.period_px + 0.5).clamp_(0, 1)
    return image_01.lerp(printed, choice.strength)


def _tint(full: tuple[float, float, float], warmth: float, colours: int) -> Tensor:
    factors = full if colours == 3 else (1.0,)
    return torch.tensor([1 + warmth * (factor - 1) for factor in factors]).view(-1, 1, 1)


def _triangle(phase: Tensor) -> Tensor:
    return (2 * (phase - phase.floor()) - 1).abs()


def _scratch_line(image: Tensor, opacity: float, r: list[float]) -> None:
    """Draw one nearly vertical, slightly bent and wavering scratch, in place."""
    h, w = image.shape[-2:]
    short = min(h, w)
    top, length = r[0] * 0.6 * h, (0.3 + 0.7 * r[1]) * h
    y0, y1 = int(top), min(h, int(top + length) + 1)
    t = (torch.arange(y0, y1, dtype=torch.float32) - top) / length
    lean, bend, waver = 0.12 * (r[2] - 0.5) * h, 0.04 * (r[3] - 0.5) * h, 0.003 * short
    centre = r[4] * w + lean * t + bend * 4 * t * (1 - t) + waver * torch.sin((20 + 20 * r[5]) * t + 6 * r[6])
    width = max(0.8, short * (0.0008 + 0.0016 * r[7]))
    x0, x1 = int(centre.min() - width - 1), int(centre.max() + width + 2)
    x0, x1 = max(0, x0), min(w, x1)
    if x0 >= x1:
        return
    distance = (torch.arange(x0, x1, dtype=torch.float32) - centre[:, None]).abs()
    broken = (0.65 + 0.35 * torch.sin(9 * t + 6 * r[8])) * (4 * t * (1 - t)).clamp(0, 1).sqrt()
    cover = ((width + 1) / 2 - distance).clamp(0, 1) * broken[:, None] * opacity
    tone = 0.92 if r[9] < 0.8 else 0.08
    image[..., y0:y1, x0:x1].lerp_(torch.tensor(tone).to(image), cover.to(image))


def _speck(image: Tensor, opacity: float, r: list[float]) -> None:
    """Draw one grain of dust or one short hair as a soft ellipse, in place."""
    h, w = image.shape[-2:]
    short = min(h, w)
    radius = max(0.7, short * 0.0035 * r[0] ** 2)
    aspect = 8.0 if r[1] < 0.2 else 1 + r[1]
    cx, cy, angle = r[2] * w, r[3] * h, math.pi * r[4]
    reach = int(radius * aspect) + 2
    x0, x1 = max(0, int(cx) - reach), min(w, int(cx) + reach + 1)
    y0, y1 = max(0, int(cy) - reach), min(h, int(cy) + reach + 1)
    x = torch.arange(x0, x1, dtype=torch.float32)[None, :] - cx
    y = torch.arange(y0, y1, dtype=torch.float32)[:, None] - cy
    along = (x * math.cos(angle) + y * math.sin(angle)) / aspect
    across = y * math.cos(angle) - x * math.sin(angle)
    cover = (radius + 0.5 - torch.hypot(along, across)).clamp(0, 1) * opacity * (0.5 + 0.5 * r[5])
    tone = 0.92 if r[6] < 0.7 else 0.12
    image[..., y0:y1, x0:x1].lerp_(torch.tensor(tone).to(image), cover.to(image))
