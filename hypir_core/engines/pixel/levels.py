"""Coarse to fine: the same steps on sums of pixels first, then from there on finer ones.

Ho et al., "Cascaded Diffusion Models", arXiv 2106.15282, in one network: electrons add up, so a measurement of large
pixels is a measurement with more light, and the network is told how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional as F

from ...diffusion.samplers.base import Step
from ...errors import ShapeError
from ...image.ranges import Range
from ...tiling.geometry import Plane
from ...tiling.stage import Stage
from ..diffusion.engine import Diffusion
from ..diffusion.noise import NoiseSource, ParticleNoise
from .microscope import Microscope

BEGIN_AT = 0.3
"""Part of the training's timesteps at which a finer level begins."""

KEPT = 0.1
"""Part of the coarse picture that a finer level keeps."""

_LEVEL = 0xA0761D6478BD642F
"""Keeps the draws of the levels of one seed apart."""


@dataclass(frozen=True, kw_only=True)
class LevelNoise:
    """Noise of one level; that of the full size is the seed's own."""

    stride: int

    def __call__(self, seed: int) -> NoiseSource:
        """Return where the level's noise comes from."""
        return ParticleNoise((seed + (self.stride - 1) * _LEVEL) % 2**63)


@dataclass(frozen=True, kw_only=True, eq=False)
class Light:
    """A measurement on the canvas of a level, and in which unit the network sees it."""

    y_e: Tensor
    """[1 c *cells]."""
    saturated: Tensor
    """A mask like y."""
    units: Range
    """From electrons above the background to network values."""
    microscope: Microscope

    def pooled(self, factor: int) -> Light:
        """Return the sums over cells of `factor`×`factor`: Poisson's law holds for them as it did before."""
        if factor == 1:
            return self
        area = factor**2
        units = replace(
            self.units,
            middle=tuple(m * area for m in self.units.middle),
            width=tuple(w * area for w in self.units.width),
        )
        return Light(
            y_e=F.avg_pool2d(self.y_e, factor) * area,
            saturated=F.max_pool2d(self.saturated.float(), factor) > 0,
            units=units,
            microscope=self.microscope.shrunken(factor),
        )


@dataclass(eq=False)
class Coarse:
    """What the level before has made, in network values: set when that level ends, read when the next one does."""

    made: Tensor | None = None
    """[n c *cells]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KeepCoarse:
    """In the last step of a level: x0 + w·up(coarse - down(x0)), means of cells and lines between them."""

    coarse: Coarse
    factor: int

    def __call__(self, x0: Tensor, step: Step) -> Tensor:
        """See `X0Edit`."""
        if step.index + 1 < step.of:
            return x0
        if self.coarse.made is None:
            raise ShapeError("a finer level ends before the coarser one; run the stages in their order")
        return x0 + KEPT * enlarged(self.coarse.made - F.avg_pool2d(x0, self.factor), self.factor)


def enlarged(x: Tensor, factor: int) -> Tensor:
    """Return [n c h w] `factor` times as large, linearly between the middles of cells."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def rising(
    stages: Sequence[Stage], *, coarse: Coarse, factor: int, finer: Diffusion, seed: int
) -> tuple[Stage, ...]:
    """Return the stages of a level, the last of which begins the next one.

    Args:
        stages: of the level; the last makes pictures in [0,1].
        coarse: where the next level finds what was made.
        factor: how much finer the next level is.
        finer: the next level.
        seed: of the run.
    """
    *before, last = stages
    ends = last.after
    assert ends is not None, "a level of pictures ends on the canvas"

    def rise(source: Plane, estimate: Plane) -> Plane:
        picture = ends(source, estimate)
        coarse.made = finer.value_range.apply(picture.data)
        strides = tuple(stride // factor for stride in picture.strides)
        return Plane(finer.begun(enlarged(coarse.made, factor), finer.noise(seed)), strides)

    return (*before, replace(last, after=rise))


def first_timesteps(curve: Tensor) -> Tensor:
    """Return the part of ā [timesteps] on which a finer level runs."""
    return curve[: max(1, round(BEGIN_AT * len(curve)))]
