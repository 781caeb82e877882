"""Cutting photographs into tiles at several sizes, so that training reads small files and sees every scene often.

A photograph of 12 Mpx has blur and compression of its own at full size, and one scene. Shrunk to a few lengths it gives
sharp pixels with the detail that small pictures have. Of the tiles without structure (sky, walls) few are kept: they
teach little else than to leave such areas as they are.

Photographs hold hardly any pure colours. A network that passes the picture on among its features, trained on them alone,
turned pure green and blue white; so some tiles are written a second time in strong colours, and some are drawn. Another
one made a dark red blur behind a cat magenta; so some are written a second time out of focus, in another colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

LONG_SIDES_PX = (1100, 700, 480, 330)
"""Lengths of the longer side that a photograph is shrunk to. Large ones are smooth from pixel to pixel; there is little
to learn from one that is still 1800 px long."""
LEAST_SHRINK = 1.25
"""A photograph is shrunk by at least so much, or not at all."""
FLAT = 3.0
"""Mean step between neighbours, in 8-bit levels, below which a tile counts as flat."""
FLAT_KEPT_EVERY = 4
"""Of so many flat tiles one is written."""

RECOLOURED_EVERY = 12
"""Of so many tiles one is written a second time, in strong colours."""
BLURRED_EVERY = 10
"""Of so many tiles one is written a second time, out of focus and in another colour."""
BLUR_PX = (4.0, 24.0)
"""Least and greatest standard deviation of that blur, in pixels of the tile."""


def sizes_of(picture: Image.Image) -> Iterator[Image.Image]:
    """Yield the photograph shrunk to each length, or as it is where it is small already."""
    longest = max(picture.size)
    lengths = [px for px in LONG_SIDES_PX if longest >= px * LEAST_SHRINK]
    if not lengths:
        yield picture
    for px in lengths:
        width, height = (round(side * px / longest) for side in picture.size)
        yield picture.resize((width, height), Image.Resampling.BICUBIC)


def starts(length_px: int, tile_px: int) -> list[int]:
    """Where tiles begin along one side: evenly spread, the last one ends with the picture."""
    count = -(-length_px // tile_px)
    if count == 1:
        return [0]
    return [round(i * (length_px - tile_px) / (count - 1)) for i in range(count)]


def is_flat(tile: Image.Image) -> bool:
    """Whether a tile has next to no structure."""
    luma = np.asarray(tile.convert("L"), dtype=np.float32)
    steps = np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
    return bool(steps / 2 < FLAT)


def write_tiles(photo: Path, folder: Path, tile_px: int) -> tuple[int, int]:
    """Write the tiles of a photograph as PNG; return how many were written (second times aside) and were flat."""
    written = left = 0
    with Image.open(photo) as opened:
        picture = opened.convert("RGB")
    for sized in sizes_of(picture):
        for top in starts(sized.height, tile_px):
            for across in starts(sized.width, tile_px):
                box = (across, top, min(across + tile_px, sized.width), min(top + tile_px, sized.height))
                tile = sized.crop(box)
                name = f"{photo.stem}--{max(sized.size)}--{top}-{across}"
                if is_flat(tile):
                    left += 1
                    if left % FLAT_KEPT_EVERY == 0:
                        tile.save(folder / f"{name}--flat.png")
                    continue
                tile.save(folder / f"{name}.png")
                written += 1
                if written % RECOLOURED_EVERY == 6:
                    recoloured(tile, written).save(folder / f"{name}--recoloured.png")
                if written % BLURRED_EVERY == 5:
                    out_of_focus(tile, written).save(folder / f"{name}--out-of-focus.png")
    return written, left


def recoloured(tile: Image.Image, seed: int) -> Image.Image:
    """Return a tile with its channels in another order, some turned over, and two to four times the saturation."""
    rng = np.random.default_rng(seed)
    pixels = np.asarray(tile, dtype=np.float32)[..., rng.permutation(3)]
    pixels = np.where(rng.random(3) < 0.5, 255 - pixels, pixels)
    grey = pixels.mean(-1, keepdims=True)
    strong = grey + rng.uniform(2, 4) * (pixels - grey)
    return Image.fromarray(strong.clip(0, 255).round().astype(np.uint8))


def out_of_focus(tile: Image.Image, seed: int) -> Image.Image:
    """Return a tile blurred, with its channels in another order, darker, and up to three times the saturation."""
    rng = np.random.default_rng(seed)
    soft = tile.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_PX)))
    pixels = np.asarray(soft, dtype=np.float32)[..., rng.permutation(3)] * rng.uniform(0.3, 1.0)
    grey = pixels.mean(-1, keepdims=True)
    coloured = grey + rng.uniform(1, 3) * (pixels - grey)
    return Image.fromarray(coloured.clip(0, 255).round().astype(np.uint8))


def drawn(px: int, seed: int) -> Image.Image:
    """Return a drawing of triangles and discs, half of them in pure colours, with smooth edges."""
    rng = np.random.default_rng(seed)

    def colour() -> tuple[int, ...]:
        values = 255 * rng.integers(0, 2, 3) if rng.random() < 0.5 else rng.integers(0, 256, 3)
        return tuple(int(v) for v in values)

    large = Image.new("RGB", (4 * px, 4 * px), colour())
    draw = ImageDraw.Draw(large)
    for _ in range(24):
        if rng.random() < 0.6:
            draw.polygon([(int(x), int(y)) for x, y in rng.integers(0, 4 * px, (3, 2))], fill=colour())
        else:
            (x, y), r = rng.integers(0, 4 * px, 2), int(rng.integers(px // 8, px))
            draw.ellipse((int(x) - r, int(y) - r, int(x) + r, int(y) + r), fill=colour())
    return large.resize((px, px), Image.Resampling.BOX)


def write_drawings(folder: Path, count: int, tile_px: int) -> None:
    """Write drawings beside the tiles."""
    for number in range(count):
        drawn(tile_px, number).save(folder / f"drawn--{number:02}.png")
