"""An engine whose stages look at one sample for all frames of a shot.

A stage that treats the tiles of a picture alike looks at a sample of it first (`tiling.sample`). Frame by frame, every
sample is a little different, and so is every frame: a still wall breathes. Here the first frame's sample is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..engines.base import Engine, EngineSpec, Prepared
from ..engines.leaving import leave_device
from ..request import Request
from ..tiling.geometry import Readable
from ..tiling.sample import Look, Sample, Seen
from ..tiling.stage import Stage


@dataclass(frozen=True, eq=False)
class OneSample:
    """The engine of one shot; make a new one for the next."""

    engine: Engine
    _seen: dict[str, Seen] = field(default_factory=dict)

    @property
    def spec(self) -> EngineSpec:
        """The engine's own."""
        return self.engine.spec

    def prepare(self, image: Readable, size_px: tuple[int, ...], request: Request) -> Prepared:
        """As the engine does it."""
        return self.engine.prepare(image, size_px, request)

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the engine's stages, with what they saw before."""
        return [self._sharing(stage) for stage in self.engine.stages(prepared, request)]

    def leave(self) -> None:
        """As the engine does it."""
        leave_device(self.engine)

    def _sharing(self, stage: Stage) -> Stage:
        if stage.sampling is None:
            return stage
        look = self._once(stage.name, stage.sampling.look)
        return replace(stage, sampling=replace(stage.sampling, look=look))

    def _once(self, name: str, look: Look) -> Look:
        def kept(crops: Tensor, guides: Mapping[str, Tensor], sample: Sample) -> Seen:
            if name not in self._seen:
                # What one image showed serves any number of them; batches of a shot need not be of one length.
                images = sample.shares.shape[1]
                first = replace(sample, shares=sample.shares[:, :1])
                firsts = {key: guide[::images] for key, guide in guides.items()}
                self._seen[name] = look(crops[::images], firsts, first)
            return self._seen[name]

        return kept
