"""The one diffusion engine: encode, n steps, decode. One step is n = 1 and no edits.

    picture → [encode] → start → ( [predict i/n → x0] → canvas: edits of x0 → sampler's move ) × n → [decode]

What stands in brackets runs tile by tile. What follows a prediction happens once, on the whole canvas: noise, edits and
solvers never see the border of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ...diffusion.edits.base import X0Edit, apply_edits
from ...diffusion.prediction import predict_x0
from ...diffusion.samplers.base import Sampler, Step, remembered
from ...image.ranges import UNIT, Range
from ...request import Request
from ...tiling.geometry import Plane, Readable
from ...tiling.stage import Stage, Watch
from ..base import EngineSpec, Prepared
from .codec import SHARES, decode_stage, encode_stage
from .noise import Noise, NoiseSource
from .parts import Codec, Condition, Conditioner, Denoiser
from .sharing import of_network
from .sizing import HouseSizing, Sizing, Tiling
from .starts import Start, as_is

Edits = Callable[[Prepared, Request], Sequence[X0Edit]]
"""Returns the edits of one picture's clean estimate; each sees the whole canvas."""


def no_edits(prepared: Prepared, request: Request) -> Sequence[X0Edit]:
    """Leave the clean estimate as it is."""
    del prepared, request
    return ()


@dataclass(frozen=True, kw_only=True)
class Particles:
    """Several tries of one picture, each with noise of its own, which edits may look at together."""

    count: int
    result: Callable[[Tensor], Tensor]
    """What becomes of the last step's [count c *cells], pictures in [0,1] without a codec: as a rule one image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Diffusion:
    """Restoration by a diffusion model."""

    spec: EngineSpec
    codec: Codec
    denoiser: Denoiser
    conditioner: Conditioner
    steps: tuple[Step, ...]
    """From noise to clean, at least one."""
    sampler: Sampler
    start: Start = as_is
    edits: Edits = no_edits
    particles: Particles | None = None
    """None tries once; with particles, the engine takes one picture at a time."""
    noise: Callable[[int], NoiseSource] = Noise
    """Seed → where all noise of one picture comes from."""
    sizing: Sizing = field(default_factory=HouseSizing)
    value_range: Range = field(default=UNIT)
    """What the denoiser calls black and white, where there is no codec that knows it."""
    flat_is_wrong: bool = True
    """Whether a step's tile that came out nearly constant is taken for wrong; a dark field of a microscope is not."""

    def prepare(self, image: Readable, size_px: tuple[int, ...], request: Request) -> Prepared:
        """Make the condition, and bring the picture onto the canvas."""
        assert isinstance(image, Plane), "a diffusion model looks at whole pictures"
        placed = self.sizing.place(image.data, size_px, request, default_scale=self.spec.default_scale)
        plane = placed.plane
        condition = self.conditioner(image.data, placed, request)
        if self.codec.encode is None:  # the canvas is the picture: the steps begin at once
            canvas = self.value_range.apply(plane.data)
            plane = Plane(self.begun(canvas, self.noise(request.seed)), plane.strides)
        return Prepared(
            plane=plane,
            content_px=placed.content_px,
            reference_01=placed.reference_01,
            condition=condition,
            prompt=condition.prompt,
            tags=condition.tags,
            notes=(*condition.notes, *placed.notes),
            finish=placed.finish,
            last=placed.last,
        )

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return encode, the steps, and decode; without a codec, the steps alone."""
        noise = self.noise(request.seed)
        tiling = self.sizing.tiling(prepared.plane.sizes_px, request.tile)
        edits = self.edits(prepared, request)
        steps = [self.step_stage(step, prepared.condition, noise, edits, tiling) for step in self.steps]

        def begin(_: Plane, canvas: Plane) -> Plane:
            return Plane(self.begun(canvas.data, noise), canvas.strides)

        if self.codec.encode is None:
            return tuple(steps)
        plain = self.start is as_is and not self.sampler.history and self.particles is None
        return (
            encode_stage(self.codec, tiling, scale=self.codec.scale, after=None if plain else begin),
            *steps,
            decode_stage(self.codec, tiling, scale=self.codec.scale),
        )

    def leave(self) -> None:
        """Send the networks home; see `engines.leaving`."""
        for placing in (self.codec.encoding, self.denoiser.placing, self.codec.decoding):
            placing.leave()

    def step_stage(
        self,
        step: Step,
        condition: Condition,
        noise: NoiseSource,
        edits: Sequence[X0Edit] = (),
        tiling: Tiling | None = None,
    ) -> Stage:
        """Return one step: tiles predict the clean canvas, then the whole of it is edited and moved."""
        denoiser, channels = self.denoiser, self.codec.channels

        def clean(x: Tensor, guides: Mapping[str, Tensor]) -> Tensor:
            x = x[:, :channels] if self.sampler.history else x
            predicted = denoiser.predict(x, step, condition.value, guides)
            return predict_x0(x, predicted, a_bar=step.a_bar, kind=denoiser.kind)

        pictured = self.codec.decode is None and step.index + 1 == step.of
        ends = step.a_bar_next == 1 and not (edits or pictured or self.particles)
        return Stage(
            name=f"step {step.index + 1}/{step.of}",
            work="step",
            share=SHARES["step"],
            run=clean,
            out_channels=channels,
            out_strides=self.codec.cell_px,
            tile=denoiser.tile,
            min_tile_px=denoiser.min_tile_px,
            guides=condition.guides,
            watch=Watch(flat=self.flat_is_wrong, idle=self.flat_is_wrong and step.of == 1),
            after=None if ends else partial(self._move, step, noise, edits),
            **of_network(clean, denoiser.placing, denoiser.sample),
            **(tiling or Tiling()).of(denoiser.grain_px, margin_px=denoiser.margin_px),
        )

    def _move(
        self, step: Step, noise: NoiseSource, edits: Sequence[X0Edit], before: Plane, estimate: Plane
    ) -> Plane:
        """Edit the clean estimate and let the sampler move the canvas to the next step."""
        x, *earlier = before.data.split(self.codec.channels, dim=1)
        x0 = apply_edits(estimate.data, step, edits)
        last = step.index + 1 == step.of
        moved = x0
        if step.a_bar_next < 1 or not last:
            drawn = noise.like(x, step.index + 1) if self.sampler.stochastic else None
            moved = self.sampler.move(x, x0, step, noise=drawn, earlier=tuple(earlier[: step.index]))
        if last:
            picture = self.value_range.undo(moved) if self.codec.decode is None else moved
            return Plane(self._result(picture), estimate.strides)
        history = self.sampler.history
        kept = [remembered(self.sampler, x, x0, step), *earlier][:history] if history else []
        return Plane(torch.cat([moved, *kept], 1) if kept else moved, estimate.strides)

    def _result(self, images: Tensor) -> Tensor:
        """Return what becomes of the particles; without particles, all images."""
        return images if self.particles is None else self.particles.result(images)

    def begun(self, canvas: Tensor, noise: NoiseSource) -> Tensor:
        """Return x at the first step, of a canvas in the denoiser's units, with empty channels for earlier estimates."""
        if self.particles is not None:
            canvas = canvas.expand(self.particles.count, *canvas.shape[1:])
        x = self.start(canvas, self.steps[0], noise)
        history = self.sampler.history
        return torch.cat([x, *[torch.zeros_like(x)] * history], 1) if history else x
