"""The one list of condition pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .base import ConditionPicture, ConditionSettings, Make


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One kind of condition picture."""

    load: Callable[[ConditionSettings, torch.device], Make] | None
    """Get ready to make it of the degraded picture; None where the user has to give it."""

    @property
    def needs_source(self) -> bool:
        """Whether only the user can make it."""
        return self.load is None


def _edge(settings: ConditionSettings, _device: torch.device) -> Make:
    from .edge import load_edge

    return load_edge(settings)


def _depth(settings: ConditionSettings, device: torch.device) -> Make:
    from .depth import load_depth

    return load_depth(settings, device)


CONDITIONS: Registry[Condition] = Registry("guide")
CONDITIONS.add("edge", Condition(load=_edge), summary="lines where the light changes fast (Canny)")
CONDITIONS.add("depth", Condition(load=_depth), summary="near white, far black (a transformers model)")
CONDITIONS.add("given", Condition(load=None), summary="a picture that you made")


def load_condition(
    kind: str,
    source: str | Path | Tensor | None = None,
    *,
    settings: ConditionSettings | None = None,
    device: torch.device | None = None,
) -> Make:
    """Read the given picture, or load what makes it: whatever is wrong is told before the first picture.

    Args:
        kind: a name in `CONDITIONS`.
        source: a ready condition picture, of any kind: a file, or [b 1|3 h w] in [0,1]; None makes it.
        settings: how it is made.
        device: where a model runs that makes it; None: the CPU.

    Returns:
        What makes the condition picture of a degraded one; it holds the model or the given picture.

    Raises:
        UnknownNameError: no such kind.
        ConfigError: the kind needs a picture.
        HypirError: whatever the kind raises.
    """
    import torch

    from .base import ConditionSettings

    entry = CONDITIONS.get(kind)
    if source is not None:
        from .given import load_given

        return load_given(source)
    if entry.load is None:
        raise ConfigError(f"guide {kind!r} needs a picture, {kind}=FILE")
    return entry.load(settings or ConditionSettings(), device or torch.device("cpu"))


def condition_picture(
    kind: str,
    source: str | Path | Tensor | None,
    image_01: Tensor,
    size_px: tuple[int, int],
    *,
    settings: ConditionSettings | None = None,
) -> ConditionPicture:
    """Return the condition picture of one degraded picture; arguments and errors as `load_condition`.

    Shapes: `image_01` [b 1|3 h w] in [0,1] → [b 3 *size_px] in [0,1]; a given one has its own b.
    """
    return load_condition(kind, source, settings=settings)(image_01, size_px)
