"""Reference mode of `seesr`: sizes, tiles, noise and rounding of the original, for comparisons.

Verified against github.com/cswry/SeeSR at 8edecc7, `test_seesr_turbo.py` and `test_seesr.py`. Pictures are resized by
Pillow on 8 bits, sizes are truncated, tiles of the latent have Gaussian windows, and colour fixes end on 8 bits that
are cut off instead of rounded. Two things differ on purpose: the posterior's mean is taken instead of a random
sample, and encoder and decoder see the whole picture (the original's tiled VAE leaves out the spread of its tiles'
means, so that it differs from its own untiled one).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....color.mode import ColorFix
from ....diffusion.samplers.base import Step, plan_steps
from ....diffusion.scheduler_file import Sampling
from ....diffusion.timesteps import Spacing, timesteps
from ....errors import ConfigError
from ....image.size import TargetSize
from ....request import Request
from ....tiling.geometry import Plane
from ....tiling.plan import TileConfig, TilePlan, TileWish, whole_plan, wished
from ....tiling.window import Window
from ..networks import LATENT_PX
from ..noise import NoiseSource
from ..reference import original_spans, original_weights
from ..sizing import Placed, Tiling
from ..starts import Start
from .options import SamplerName, StartFrom

ORIGINAL_TILE = TileConfig(tile_px=768, overlap_px=256, window=Window.gaussian)
"""96 latent cells with an overlap of 32."""


@dataclass(frozen=True, kw_only=True)
class OriginalSeesrSizing:
    """The original's rules of size."""

    process_px: int
    tile: TileConfig = ORIGINAL_TILE
    middles: tuple[float, float] = (0.0, 0.5)
    """Where the windows have their middle along columns and rows, in cells (`original_weights`)."""
    to_cells: Image.Resampling = Image.Resampling.BICUBIC
    """How a picture is brought to whole latent cells."""
    engine: str = "seesr"
    """For messages."""

    def place(
        self, image_01: Tensor, size_px: tuple[int, ...], request: Request, *, default_scale: float
    ) -> Placed:
        """Resize as the original does, whose sizes are truncated: `size_px` is not looked at."""
        del size_px
        scale = whole_scale(request.target, default_scale, engine=self.engine)
        picture = _to_pillow(image_01)
        w, h = picture.size
        least = self.process_px // scale
        enlarged = picture
        if min(w, h) < least:
            factor = least / min(w, h)
            enlarged = picture.resize((int(factor * w), int(factor * h)))
        wide, high = (side * scale for side in enlarged.size)
        canvas = enlarged.resize((wide, high)).resize(
            (wide // LATENT_PX * LATENT_PX, high // LATENT_PX * LATENT_PX), self.to_cells
        )
        canvas_01 = _from_pillow(canvas).to(image_01.device)
        sides = (canvas.size[1], canvas.size[0])
        return Placed(
            plane=Plane(canvas_01),
            content_px=sides,
            reference_01=canvas_01,
            finish=_in_8_bits,
            last=partial(_resized_in_8_bits, size=(w * scale, h * scale)),
        )

    def tiling(self, sizes_px: tuple[int, ...], wish: TileWish) -> Tiling:
        """Lay the steps on the original's tiles; one tile where the canvas has no more cells than a tile."""
        tile_px, overlap_px = _square(wish, self.tile, engine=self.engine)
        cells = [size // LATENT_PX for size in sizes_px]
        if cells[0] * cells[1] <= (tile_px // LATENT_PX) ** 2:
            return Tiling(sizes_px=sizes_px, plan=whole_plan(sizes_px), grain_px=LATENT_PX)
        tile_px = min(tile_px, *sizes_px)
        if overlap_px >= tile_px:
            raise ConfigError(
                f"the original cuts the tile to the short side, {tile_px} px, and an overlap of {overlap_px} px "
                "leaves no stride; give a smaller --overlap"
            )
        spans = tuple(original_spans(size, tile_px, overlap_px) for size in sizes_px)
        return Tiling(
            sizes_px=sizes_px,
            plan=TilePlan(sizes_px, spans, Window.gaussian),
            weights=tuple(partial(original_weights, middle=middle) for middle in self.middles),
            grain_px=LATENT_PX,
        )


def whole_scale(target: TargetSize, default_scale: float, *, engine: str = "seesr") -> int:
    """Return the factor that is asked for.

    Raises:
        ConfigError: the original knows whole factors only.
    """
    scale = default_scale if target.scale is None else target.scale
    if target != TargetSize(scale=target.scale) or scale != int(scale):
        raise ConfigError(f"reference mode of {engine} knows a whole scale only, as the original")
    return int(scale)


@dataclass(frozen=True)
class OriginalNoise:
    """One generator per picture, drawn from in order: the start, then every step."""

    seed: int

    def like(self, canvas: Tensor, draw: int) -> Tensor:
        """See `NoiseSource`."""
        rng = torch.Generator().manual_seed(self.seed)
        drawn = [torch.randn(canvas.shape, generator=rng) for _ in range(draw + 1)]
        return drawn[-1].to(canvas.device)


def original_steps(
    a_bars: Tensor, sampling: Sampling, *, steps: int, sampler: SamplerName, start_t: int
) -> tuple[Step, ...]:
    """Return the original's steps: those above `start_t` are left out; each ends 1000 // steps earlier."""
    train = len(a_bars)
    spacing = sampling.spacing or Spacing.leading
    visited = [t for t in timesteps(train, steps, spacing, offset=sampling.offset) if t <= start_t]
    if not visited:
        raise ConfigError(f"start_t {start_t} leaves none of the {steps} steps; give a larger one")
    dirty = sampler is SamplerName.ddim and not sampling.ends_clean
    return plan_steps(a_bars, visited, a_bar_last=float(a_bars[0]) if dirty else 1.0, stride=train // steps)


def original_start(start: StartFrom, a_bar: float) -> Start:
    """Return how the original begins: noise of `start_t`, whatever the first step's timestep is."""

    def lq(canvas: Tensor, step: Step, noise: NoiseSource) -> Tensor:
        del step
        return a_bar**0.5 * canvas + (1 - a_bar) ** 0.5 * noise.like(canvas, 0)

    def alone(canvas: Tensor, step: Step, noise: NoiseSource) -> Tensor:
        del step
        return noise.like(canvas, 0)

    if start is StartFrom.as_is:
        raise ConfigError("the original begins with lq or noise; leave out start=as_is, or reference_mode")
    return lq if start is StartFrom.lq else alone


def _square(wish: TileWish, tile: TileConfig, *, engine: str) -> tuple[int, int]:
    (tile_px, *others), overlaps = wished(wish, tile, axes=2).sides(2)
    if others != [tile_px] or len({*overlaps}) > 1 or tile_px % LATENT_PX or overlaps[0] % LATENT_PX:
        raise ConfigError(
            f"reference mode of {engine} knows square tiles in multiples of {LATENT_PX} px, "
            f"got tile {tile_px} px, overlap {overlaps[0]} px"
        )
    return tile_px, overlaps[0]


def _in_8_bits(decoded: Tensor, mode: ColorFix, fix: Callable[[Tensor], Tensor]) -> Tensor:
    """Fix colours on 8 bits; what a fix gives is cut off to 8 bits, not rounded. Without a fix nothing is rounded."""
    if mode is ColorFix.none:
        return fix(decoded)
    rounded = decoded.clamp(0, 1).mul(255).round().div(255)
    return fix(rounded).mul(255).floor().div(255)


def _resized_in_8_bits(image_01: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Resize [1 3 h w] as Pillow does on 8 bits; a picture that has its size stays as it is."""
    h, w = image_01.shape[-2:]
    if (w, h) == size:
        return image_01
    return _from_pillow(_to_pillow(image_01).resize(size)).to(image_01.device)


def _to_pillow(image_01: Tensor) -> Image.Image:
    rows = image_01[0].clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    return Image.fromarray(rows.cpu().numpy())


def _from_pillow(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
