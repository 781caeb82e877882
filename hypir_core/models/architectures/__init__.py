"""Feed-forward generators and the one list of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ...registry import Registry, lazy

ARCHITECTURES: Registry[Callable[..., nn.Module]] = Registry("architecture")
"""Name → class. Every class takes keyword sizes only and maps [b c h w] in [0,1] to [b c h·scale w·scale]."""

ARCHITECTURES.add(
    "compact",
    lazy(".compact:Compact", __package__),
    summary="plain 3×3 convolutions + PReLU, pixel shuffle, nearest-upsampled skip (small and fast)",
    lazy=True,
)
ARCHITECTURES.add(
    "rrdb",
    lazy(".rrdb:RRDBNet", __package__),
    summary="residual-in-residual dense blocks (ESRGAN, arXiv 1809.00219)",
    lazy=True,
)
