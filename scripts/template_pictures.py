"""Make the pictures of the templates: before and after, by the built-in restorer, from the example photographs.

    uv run scripts/template_pictures.py

The photographs and their terms are listed in hypir_core/examples/README.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from hypir_core import Request, Runtime, load_engine, read_picture, restore, to_planes
from hypir_core.color.fix import color_fix
from hypir_core.color.mode import ColorFix
from hypir_core.degrade import degrade, load_recipe
from hypir_core.image.resize import resize
from hypir_core.physics.camera import Camera
from hypir_core.physics.operator import PsfOperator
from hypir_core.physics.psf import gaussian_psf
from hypir_core.physics.specimens import specimen
from hypir_core.scenes.restoring import restore_planes

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "hypir_core" / "examples"
SIDE_PX = 480
LINE_PX = 3
ENGINE = load_engine("built-in", device=torch.device("cpu"))


def main() -> None:
    """Write one JPEG beside every template."""
    for name, make in PICTURES.items():
        picture = make()
        pixels = picture[0].permute(1, 2, 0).clamp(0, 1).mul(255).round().byte().numpy()
        Image.fromarray(pixels).save(ROOT / "workflows" / f"{name}.jpg", quality=86, optimize=True)


def square(name: str, box: tuple[float, float, float]) -> Tensor:
    """Return a square of a photograph, [1 3 480 480]; `box` is (left, upper, side) in parts of its shorter side."""
    photo, _alpha = to_planes(read_picture(EXAMPLES / f"{name}.jpg"))
    short = min(photo.shape[-2:])
    left, upper, side = (round(part * short) for part in box)
    return resize(photo[..., upper : upper + side, left : left + side], (SIDE_PX, SIDE_PX)).clamp(0, 1)


def small(picture: Tensor, by: int = 4, *, preset: str = "", seed: int = 3) -> Tensor:
    """Return a picture shrunk, and damaged by a preset on request."""
    shrunk = resize(picture, (SIDE_PX // by, SIDE_PX // by)).clamp(0, 1)
    if not preset:
        return shrunk
    return degrade(shrunk, load_recipe(preset), generator=torch.Generator().manual_seed(seed)).lq_01


def restored(picture: Tensor) -> Tensor:
    """Return what the built-in restorer makes of it, [1 3 480 480]."""
    made = restore(ENGINE, picture, Request(), Runtime()).image_01
    return resize(made, (SIDE_PX, SIDE_PX)).clamp(0, 1)


def large(picture: Tensor) -> Tensor:
    """Return a picture enlarged as it is, so that its pixels show."""
    return torch.nn.functional.interpolate(picture, (SIDE_PX, SIDE_PX), mode="nearest")


def halves(before: Tensor, after: Tensor) -> Tensor:
    """Return the left half of one picture and the right half of the other, with a white line between them."""
    middle = SIDE_PX // 2
    both = torch.cat([before[..., :middle], after[..., middle:]], -1)
    both[..., middle - LINE_PX // 2 : middle + LINE_PX // 2 + 1] = 1
    return both


def plain(
    name: str, box: tuple[float, float, float], *, by: int = 4, preset: str = ""
) -> Callable[[], Tensor]:
    """Return what makes a before and after of a photograph."""

    def make() -> Tensor:
        before = small(square(name, box), by, preset=preset)
        return halves(large(before), restored(before))

    return make


def colours() -> Tensor:
    """An enlarged picture whose colours went wrong, and with those of the original."""
    good = square("coffee", (0.35, 0.05, 0.9))
    before = small(good)
    wrong = (restored(before) * torch.tensor([1.12, 0.92, 1.15])[:, None, None]).clamp(0, 1)
    return halves(
        wrong, color_fix(wrong, resize(before, (SIDE_PX, SIDE_PX)), mode=ColorFix.wavelet, strength=1.0)
    )


def cut_out() -> Tensor:
    """A cup without its table, on the squares that stand for transparency."""
    good = square("coffee", (0.42, 0.12, 0.75))
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE_PX), torch.linspace(-1, 1, SIDE_PX), indexing="ij")
    inside = ((1.02 - ((x / 0.86) ** 2 + (y / 0.80) ** 2)) * 60).clamp(0, 1)[None, None]
    squares = ((torch.arange(SIDE_PX)[:, None] // 24 + torch.arange(SIDE_PX) // 24) % 2) * 0.18 + 0.72
    before, mask = small(good), small(inside)
    left = large(before) * large(mask) + squares * (1 - large(mask))
    soft = resize(mask, (SIDE_PX, SIDE_PX)).clamp(0, 1)
    return halves(left, restored(before) * soft + squares * (1 - soft))


def film() -> Tensor:
    """Frames of a pan: above as they came, below restored."""
    frames = []
    for i in range(3):
        before = small(square("astronaut", (0.1 + 0.09 * i, 0.02, 0.62)), preset="light", seed=5 + i)
        both = torch.cat([large(before), restored(before)], -2)[..., SIDE_PX // 6 : -SIDE_PX // 6]
        frame = resize(both, (SIDE_PX, SIDE_PX // 3 - 6)).clamp(0, 1)
        frames.append(torch.nn.functional.pad(frame, (3, 3), value=0.04))
    strip = torch.cat(frames, -1)
    strip[..., 240 - LINE_PX // 2 : 240 + LINE_PX // 2 + 1, :] = 1
    return strip


def old_photo() -> Tensor:
    """A faded, scratched print."""
    before = small(square("astronaut", (0.2, 0.0, 0.6)), 2, preset="old-photo")
    return halves(large(before), restored(before))


def specimen_under(kind: str, photons: float) -> Callable[[], Tensor]:
    """Return what makes a specimen as a microscope with few photons shows it, and deconvolved."""

    def make() -> Tensor:
        rng, sigma_px, background_e = torch.Generator().manual_seed(4), 1.5, 0.5
        light = specimen(kind, SIDE_PX // 3, rng)[None] * photons
        operator = PsfOperator(gaussian_psf((sigma_px, sigma_px)))
        seen = Camera().expose(operator.A(light) + background_e, rng)
        options = {"psf_sigma_px": sigma_px, "background_e": background_e, "white_adu": 1.0, "steps": 8}
        engine = load_engine("richardson-lucy", options, device=torch.device("cpu"))
        planes, _report = restore_planes(engine, seen[0].numpy(), Request(), Runtime())
        before, after = (
            large(((each - background_e).clamp(min=0) / photons).sqrt().clamp(0, 1)).expand(-1, 3, -1, -1)
            for each in (seen, torch.from_numpy(planes))
        )
        return halves(before, after)

    return make


PICTURES: dict[str, Callable[[], Tensor]] = {
    "restore_quick_no_download": plain("astronaut", (0.0, 0.0, 1.0)),
    "degrade_restore_compare": plain("coffee", (0.3, 0.0, 1.0), by=3, preset="jpeg-web"),
    "hypir_x4_native": plain("cat", (0.28, 0.0, 0.9)),
    "hypir_x4_stock_nodes_only": plain("cat", (0.45, 0.15, 0.5), by=8),
    "old_photo_with_caption": old_photo,
    "upscaler_right_colors": colours,
    "cut_out_keeps_alpha": cut_out,
    "restore_short_clip": film,
    "restore_picture.app": plain("astronaut", (0.25, 0.0, 0.45)),
    "denoise_16bit_stack": specimen_under("filaments", 60.0),
    "physics_guided": specimen_under("cells", 60.0),
}

if __name__ == "__main__":
    main()
