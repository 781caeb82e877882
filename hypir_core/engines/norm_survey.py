"""The survey of a stage whose network has group norms: all tiles are normalised by what a sample showed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from torch import Tensor

from ..models.shared_norms import SharedNorms, are_finite
from ..tiling.run import TileFunction
from ..tiling.survey import Survey

InFloat32 = Callable[[], AbstractContextManager[None]]


def norm_survey(
    run: TileFunction, norms: SharedNorms | None, *, crop_px: int, in_float32: InFloat32 | None = None
) -> Survey | None:
    """Return the survey of a stage, or None where tiles are normalised by themselves.

    Args:
        run: the stage's own function.
        norms: of the network that `run` calls.
        crop_px: side of a crop.
        in_float32: within it `run` computes in float32: a second try for a sample that is not finite.
    """
    if norms is None:
        return None

    def look(crops: Tensor, guides: Mapping[str, Tensor], shares: Tensor) -> AbstractContextManager[None]:
        with norms.gathering(shares) as found:
            run(crops, guides)
        if not are_finite(found) and in_float32 is not None:
            with in_float32(), norms.gathering(shares) as found:
                run(crops, guides)
        return norms.using(found)

    return Survey(look=look, crop_px=crop_px)
