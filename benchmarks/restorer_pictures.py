"""The two built-in restorers beside each other, as one picture.

    uv run python benchmarks/restorer_pictures.py docs/images/restorers.jpg

Crops of the photographs in `hypir_core/examples`, degraded by `light` (upper rows) and `realesrgan` (lower rows) at a
fixed seed and shrunk ×4. From left to right: bicubic enlargement, `built-in`, `built-in-sharp`, the photograph.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

from hypir_core import Request, Runtime, load_engine, read_picture, restore, to_planes
from hypir_core.degrade import degrade, load_recipe
from hypir_core.image.resize import resize

EXAMPLES = Path(__file__).parents[1] / "hypir_core" / "examples"
CROPS = (("cat.jpg", 20, 100), ("astronaut.jpg", 20, 150), ("coffee.jpg", 60, 200))
"""(file, top, left)."""
SIDE_PX, SHOWN_PX, SEED = 144, 288, 3


def main() -> None:
    engines = [
        load_engine(name, options={}, device=torch.device("cpu"), dtype="float32")
        for name in ("built-in", "built-in-sharp")
    ]
    rows = []
    for recipe in ("light", "realesrgan"):
        settings = load_recipe(recipe, {"sharpen": None})
        for file, top, left in CROPS:
            photo, _ = to_planes(read_picture(EXAMPLES / file))
            h, w = (side // 4 * 4 for side in photo.shape[-2:])
            photo = photo[..., :h, :w]
            small = degrade(photo, settings, generator=torch.Generator().manual_seed(SEED), scale=4).lq_01
            made = [restore(engine, small, Request(), Runtime()).image_01 for engine in engines]
            row = [resize(small, (h, w)).clamp(0, 1), *made, photo]
            rows.append(
                torch.cat([image[..., top : top + SIDE_PX, left : left + SIDE_PX] for image in row], -1)
            )
    levels = (torch.cat(rows, -2)[0].permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy()
    factor = SHOWN_PX // SIDE_PX
    strip = Image.fromarray(levels)
    strip.resize((strip.width * factor, strip.height * factor), Image.Resampling.NEAREST).save(
        sys.argv[1], quality=88
    )


if __name__ == "__main__":
    main()
