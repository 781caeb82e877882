"""Where one shot of a clip ends and the next begins.

Two frames are compared as small pictures by their correlation, so that a flash or a fade of the light is no cut. A cut
is a step that is large in itself and far larger than the steps of the moment: fast motion has large steps too, but many
of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

SMALL_CELLS = 24
"""Side of the small pictures: noise and small motion are averaged away."""

LEAST_STEP = 0.5
"""1 − correlation of two small pictures, below which there is no cut."""

LEAST_CHANGE = 0.02
"""Mean absolute difference of two small pictures, below which there is no cut: flat pictures correlate by chance."""

TIMES_USUAL = 3.0
"""A cut is a step that is so many times the usual one."""

MEMORY_FRAMES = 8
"""The usual step is the median of the last so many."""


@dataclass(eq=False)
class CutFinder:
    """Looks at the frames of a clip, one after the other."""

    _before: Tensor | None = None
    _steps: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY_FRAMES))

    def is_cut(self, frame_01: Tensor) -> bool:
        """Say whether a shot begins with this frame; the first one's answer is yes.

        Args:
            frame_01: [1 c h w] in [0,1], any floating format.
        """
        small = F.adaptive_avg_pool2d(frame_01.detach().float().cpu(), SMALL_CELLS)
        small = small - small.mean((-2, -1), keepdim=True)
        before, self._before = self._before, small
        if before is None:
            return True
        spread = float(small.square().sum().sqrt() * before.square().sum().sqrt())
        step = 1 - float((small * before).sum()) / spread if spread > 0 else 1.0
        change = float((small - before).abs().mean())
        step = step if change > LEAST_CHANGE else 0.0
        cut = step > max(LEAST_STEP, TIMES_USUAL * median(self._steps) if self._steps else 0.0)
        if cut:
            self._steps.clear()
        else:
            self._steps.append(step)
        return cut

    def handed_on(self) -> dict[str, Tensor]:
        """Return what the next frame needs to know of the earlier ones."""
        assert self._before is not None
        return {"small": self._before, "steps": torch.tensor(list(self._steps), dtype=torch.float64)}

    def take_up(self, handed_on: Mapping[str, Tensor]) -> None:
        """Go on behind frames that another finder saw."""
        self._before = handed_on["small"]
        self._steps.extend(handed_on["steps"].tolist())


def runs_of(
    frames: Iterable[Tensor], *, at_most: int, finder: CutFinder | None = None
) -> Iterator[tuple[bool, list[Tensor]]]:
    """Yield (does a shot begin with them, frames) for up to `at_most` frames [1 c h w] of one shot at a time.

    Args:
        frames: read as they are needed.
        at_most: so many at a time.
        finder: one that saw the frames before these; without it, a shot begins with the first.
    """
    finder = finder or CutFinder()
    held: list[Tensor] = []
    begins = False
    for frame in frames:
        cut = finder.is_cut(frame)
        if held and (cut or len(held) == at_most):
            yield begins, held
            held = []
        begins = cut if not held else begins
        held.append(frame)
    if held:
        yield begins, held
