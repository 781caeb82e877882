"""What must hold before a picture walks through an engine: shape, range, channels."""

from __future__ import annotations

import torch
from torch import Tensor

from .color.mode import ColorFix
from .engines.base import Engine, EngineSpec
from .errors import ConfigError, RangeError, ShapeError
from .request import Request
from .runtime import Runtime
from .tiling.choose import lay_tiles
from .tiling.geometry import Plane


def check_image(image_01: Tensor, spec: EngineSpec) -> None:
    """Raise unless the tensor is a picture that the engine takes: [b c h w], float, finite, in [0,1]."""
    if spec.axes != 2:
        raise ConfigError(
            f"engine {spec.name!r} restores volumes of {spec.axes} axes, and this is a picture of 2"
        )
    channels = spec.in_channels
    if image_01.ndim != 4 or 0 in image_01.shape:
        raise ShapeError(f"expected a picture [b {channels} h w], got {tuple(image_01.shape)}")
    if image_01.shape[1] != channels and (image_01.shape[1] != 1 or channels != 3):
        given = image_01.shape[1]
        raise ShapeError(
            f"engine {spec.name!r} takes {channels} channel{'s' * (channels > 1)}, the picture has {given}; choose "
            f"weights made for {given} channel{'s' * (given > 1)}, or give a picture of {channels}"
        )
    if not image_01.is_floating_point():
        raise RangeError(
            f"expected floating-point values in [0,1], got {image_01.dtype}; divide by 255 or 65535"
        )
    low, high = (float(v) for v in torch.aminmax(image_01))
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise RangeError(f"expected finite values in [0,1], got {low:g} to {high:g}")


def check_mixing(spec: EngineSpec, request: Request, mask_01: Tensor | None) -> None:
    """Refuse what mixes input and result where their channels differ."""
    wants = {
        "a strength below 1": request.strength != 1,
        "a mask": mask_01 is not None,
        "a colour fix": request.color_fix not in {None, ColorFix.none},
    }
    if spec.in_channels != spec.out_channels and (asked := [name for name, it in wants.items() if it]):
        raise ConfigError(
            f"engine {spec.name!r} makes {spec.out_channels} channels of {spec.in_channels}: "
            f"{' and '.join(asked)} would mix them; leave it out"
        )


def check_one_channel(name: str, plane: Tensor | None, image: Tensor) -> None:
    """Raise a ShapeError unless a mask or an alpha channel is [b|1 1 h w], as large as the picture."""
    if plane is not None and (plane.ndim != 4 or plane.shape[1] != 1 or plane.shape[-2:] != image.shape[-2:]):
        h, w = image.shape[-2:]
        raise ShapeError(
            f"expected the {name} as large as the picture, [b|1 1 {h} {w}], got {tuple(plane.shape)}"
        )


def check_tiles(engine: Engine, request: Request) -> None:
    """Lay the tiles that a request asks for over a canvas that needs many, without running anything.

    Raises:
        ConfigError: no picture could have them.
    """
    spec = engine.spec
    tiny = Plane(torch.zeros(1, spec.in_channels, *[8] * spec.axes))
    size_px = tuple(round(8 * spec.default_scale) for _ in range(spec.axes))
    prepared = engine.prepare(tiny, size_px, request)
    for stage in engine.stages(prepared, request):
        lay_tiles(stage, prepared.plane.sizes_px, wish=request.tile, runtime=Runtime(batch_tiles=1))
