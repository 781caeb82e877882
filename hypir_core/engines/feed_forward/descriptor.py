"""A restorer of ours as spandrel's descriptor, so that other people's nodes can call it too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MissingDependencyError, SpecMismatchError, SpecMissingError
from ...request import Request
from ...tiling.geometry import Plane
from .drawing import LATENT
from .engine import FeedForward

RGB = 3


class Whole(nn.Module):
    """[n 3 h w] in [0,1] → [n 3 h·scale w·scale] in about [0,1]: the ranges of the network are inside.

    Where a range is fitted on the picture, it is fitted on what this is called with: on each tile of somebody else's
    tiling. A network of one channel takes the colours one by one.
    """

    def __init__(self, engine: FeedForward, *, seed: int = 0):
        super().__init__()
        self.net = engine.net
        self._engine = replace(engine, place=lambda _device: None)
        self._seed = seed

    def forward(self, image_01: Tensor) -> Tensor:
        """Restore a picture after the other; the sides suit the network."""
        channels = self._engine.spec.in_channels
        singles = image_01.float().reshape(-1, channels, *image_01.shape[-2:]).split(1)
        restored = torch.cat([self._one(single) for single in singles])
        return restored.reshape(len(image_01), -1, *restored.shape[-2:]).to(image_01.dtype)

    def _one(self, image_01: Tensor) -> Tensor:
        engine = self._engine
        size_px = (image_01.shape[-2] * engine.scale[0], image_01.shape[-1] * engine.scale[1])
        request = Request(seed=self._seed)
        prepared = engine.prepare(Plane(image_01), size_px, request)
        (stage,) = engine.stages(prepared, request)
        drawing = engine.drawing
        latents = {} if drawing is None else {LATENT: drawing.guide(self._seed, 2).data.to(image_01.device)}
        return stage.run(image_01, latents)


def check_pictures(engine: FeedForward, *, where: str) -> None:
    """Refuse a restorer of other things than pictures.

    Raises:
        SpecMismatchError: it has other channels than grey or RGB, three axes, or another factor on each side.
    """
    spec = engine.spec
    same = spec.in_channels == spec.out_channels and spec.in_channels in {1, RGB}
    if spec.axes != 2 or not same or len(set(engine.scale)) != 1 or spec.file_values:
        values = ", the file's own values" if spec.file_values else ""
        raise SpecMismatchError(
            f"{where}: expected a restorer of pictures, 1 or 3 channels and 2 axes, got {spec.in_channels} → "
            f"{spec.out_channels} channels, {spec.axes} axes{values}; restore rasters and volumes with the command "
            "hypir restore"
        )


def descriptor_of(engine: FeedForward, *, seed: int = 0, where: str) -> Any:
    """Return a `spandrel.ImageModelDescriptor` of a restorer; the network is shared, not copied.

    Args:
        engine: of pictures.
        seed: for networks that draw.
        where: names the weights in errors.

    Raises:
        SpecMismatchError: it restores other things than pictures.
        MissingDependencyError: spandrel is not installed.
    """
    check_pictures(engine, where=where)
    try:
        import spandrel
    except ModuleNotFoundError as err:
        raise MissingDependencyError("spandrel", "upscalers", f"giving {where} to other nodes") from err

    class Restorer(spandrel.Architecture):
        """What spandrel is told of a file that it has not read."""

        def load(self, state_dict: Any) -> Any:
            """Refuse: the range of the numbers is not in the tensors."""
            raise SpecMissingError(f"{where}: tensors do not say their range; read the file with its spec")

    whole = Whole(engine, seed=seed)
    return spandrel.ImageModelDescriptor(
        whole,
        whole.state_dict(),
        architecture=Restorer(id="onestep-restore", name=engine.spec.weights, detect=lambda _tensors: False),
        purpose="SR" if engine.scale[0] > 1 else "Restoration",
        tags=[],
        supports_half=False,
        supports_bfloat16=False,
        scale=engine.scale[0],
        input_channels=RGB,
        output_channels=RGB,
        size_requirements=spandrel.SizeRequirements(minimum=engine.least_px, multiple_of=engine.multiple),
    )
