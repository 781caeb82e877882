"""A clip through an engine: frames in, restored frames out, few in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from ..engines.base import Engine
from .one_sample import OneSample
from .shots import CutFinder, runs_of
from .steady import Steady

RestoreSome = Callable[[Engine, Tensor], Tensor]
"""(engine, frames [b c h w] in [0,1]) → [b c H W] in [0,1]: how some frames of one shot are restored."""

USUAL_STEADY = 0.8
"""How much flicker is kept down where nobody says it; see `steady.Steady`."""

TOGETHER = 16
"""At most so many frames are restored at a time, stage by stage."""

TOGETHER_BYTES = 64 << 20
"""Of the results of frames that are restored at a time."""


class Clip:
    """What the frames of a clip hand on to the next: where its shot began, its sample, what keeps it steady."""

    def __init__(self, engine: Engine, *, steady: float = USUAL_STEADY):
        """Begin a clip.

        Args:
            engine: what restores.
            steady: 0 to 0.95, see `steady.Steady`; 0 restores frame by frame as single pictures, but for the sample.

        Raises:
            ConfigError: `steady` is another number.
        """
        self._engine, self._amount = engine, steady
        self._finder, self._shot, self._steady = CutFinder(), OneSample(engine), Steady(steady)
        self.done = 0
        """Frames that were restored."""
        self.shots = 0
        """Shots that were begun."""
        self.shot_began = 0
        """The number, from 0 on, of the frame that the present shot began with."""

    def restored(
        self, frames: Iterable[Tensor], restore_some: RestoreSome, *, at_a_time: int = 1
    ) -> Iterator[Tensor]:
        """Restore the next frames, each shot with one sample of its first frame.

        Args:
            frames: [1 c h w] in [0,1], all of one size; read as they are needed.
            restore_some: restores frames, see `RestoreSome`; every shot comes with an engine of its own.
            at_a_time: frames of one shot that are given to it together; so many are in memory, and as many results.

        Yields:
            The restored frames [1 c H W], in their order.
        """
        for begins, some in runs_of(frames, at_most=at_a_time, finder=self._finder):
            if begins:
                self._shot, self._steady = OneSample(self._engine), Steady(self._amount)
                self.shots, self.shot_began = self.shots + 1, self.done
            restored = restore_some(self._shot, torch.cat(some))
            for i, frame in enumerate(some):
                self.done += 1
                yield self._steady(frame, restored[i : i + 1])

    def handed_on(self) -> dict[str, Tensor]:
        """Return, after some frames, what another program needs to go on behind them."""
        numbers = torch.tensor([self.done, self.shots, self.shot_began])
        return {"numbers": numbers, **self._finder.handed_on(), **self._steady.handed_on()}

    def take_up(
        self, handed_on: Mapping[str, Tensor], first_of_shot: Tensor, restore_some: RestoreSome
    ) -> None:
        """Go on where another program was.

        Args:
            handed_on: what it handed on.
            first_of_shot: the frame `shot_began`, [1 c h w]; it is restored once more, for the sample.
            restore_some: restores frames.
        """
        self.done, self.shots, self.shot_began = map(int, handed_on["numbers"])
        self._finder.take_up(handed_on)
        self._steady.take_up(handed_on)
        restore_some(self._shot, first_of_shot)


def frames_together(size_px: tuple[int, int], device: torch.device) -> int:
    """Return how many frames of a result of `size_px` are restored at a time; one by one on a CPU."""
    if device.type == "cpu":
        return 1
    return max(1, min(TOGETHER, TOGETHER_BYTES // (12 * size_px[0] * size_px[1])))
