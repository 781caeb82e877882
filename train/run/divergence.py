"""When a training is lost: a loss that is not finite, beyond all bounds, or far above what it was."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor

from hypir_core.errors import TrainingDivergedError

BOUND = 1e8
"""No term that means anything gets here: images are on [-1,1], logits and penalties are thousands at most."""

REMEMBERED = 100
"""Values of which the running median is taken."""

LEAST_REMEMBERED = 20
"""Before that many there is no median to compare with."""

FAR = 1e4
"""How many times its lowest running median a loss between images may not be, `PATIENCE` times in a row."""

FLOOR = 1e-3
"""Lower medians count as this much. No error between images that resemble pictures reaches `FAR` times it."""

PATIENCE = 10
"""One bad batch is no divergence."""


@dataclass(eq=False)
class Watch:
    """The recent values of every loss of the generator and its discriminators."""

    image_losses: frozenset[str]
    """Terms between images: only these have a scale of their own; adversarial terms may cross zero."""
    recent: dict[str, deque[float]] = field(default_factory=dict)
    lowest: dict[str, float] = field(default_factory=dict)
    """The lowest running median so far."""
    far_in_a_row: dict[str, int] = field(default_factory=dict)

    def check(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Look at the terms of one pass.

        Raises:
            TrainingDivergedError: one of them is lost; names it.
        """
        values = torch.stack([value.detach().float() for value in terms.values()]).tolist()
        for name, value in zip(terms, values, strict=True):
            if not math.isfinite(value) or abs(value) > BOUND:
                raise TrainingDivergedError(step, name, value)
            if name in self.image_losses and self._is_far(name, value):
                raise TrainingDivergedError(step, f"{name}, which was {self.lowest[name]:.2g} before,", value)

    def _is_far(self, name: str, value: float) -> bool:
        """Count `value`; say whether it and those just before it are far above the lowest median."""
        recent = self.recent.setdefault(name, deque(maxlen=REMEMBERED))
        lowest = self.lowest.get(name, math.inf)
        far = value > FAR * max(lowest, FLOOR)
        self.far_in_a_row[name] = self.far_in_a_row.get(name, 0) + 1 if far else 0
        recent.append(value)
        if len(recent) >= LEAST_REMEMBERED:
            self.lowest[name] = min(lowest, median(recent))
        return self.far_in_a_row[name] >= PATIENCE


def check_weights(step: int, player: str, tensors: Iterable[Tensor]) -> None:
    """Refuse weights that are not finite, so that no checkpoint or export ever holds them.

    Raises:
        TrainingDivergedError: one of them is NaN or infinite.
    """
    for tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingDivergedError(step, f"weights of {player}", math.nan)
