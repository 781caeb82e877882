"""What a training step sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .levels import alike, moved, put, to_01


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs on the training device, float32: pictures in [0,1], scenes and volumes in the values of their files."""

    hq: Tensor
    """Targets [b c *cells]."""
    lq: Tensor
    """Inputs [b c *cells/scale]."""
    prompts: tuple[str, ...] = ()
    """One per pair, empty texts where there is none; () where nobody gave any."""
    valid: Tensor | None = None
    """[b 1 *cells], true where the target has data; None: everywhere."""
    light: Tensor | None = None
    """[b 4] of `measured.Exposed`, where a microscope measured the inputs; None: nobody knows."""

    def __len__(self) -> int:
        return self.hq.shape[0]

    def to(self, device: torch.device) -> Batch:
        """Return the same pairs on `device`."""
        valid = None if self.valid is None else self.valid.to(device)
        light = None if self.light is None else self.light.to(device)
        return Batch(self.hq.to(device), self.lq.to(device), self.prompts, valid, light)


@dataclass(frozen=True, eq=False)
class Samples:
    """Pairs as they are kept and sent between processes: each half at the depth of its deepest picture."""

    indexes: Tensor
    """int64 [n], on the CPU: which samples of the endless sequence these are."""
    hq: Tensor
    """[n c *cells], uint8, uint16 or float32."""
    lq: Tensor
    """[n c *cells/scale], uint8, uint16 or float32."""
    prompts: tuple[str, ...]
    valid: Tensor | None = None
    """bool [n 1 *cells]; None: everywhere."""
    light: Tensor | None = None
    """float32 [n 4]; of all samples of a run, or of none."""

    def to_batch(self, device: torch.device) -> Batch:
        """Return them as a batch on `device`."""
        hq, lq = (to_01(plane.to(device, non_blocking=True)) for plane in (self.hq, self.lq))
        valid = None if self.valid is None else self.valid.to(device, non_blocking=True)
        light = None if self.light is None else self.light.to(device, non_blocking=True)
        return Batch(hq, lq, self.prompts, valid, light)

    def take(self, places: Tensor) -> Samples:
        """Return copies of those at `places`, int64 [m]."""
        on_device = places.to(self.hq.device)
        prompts = tuple(self.prompts[place] for place in places.tolist())
        hq, lq = (moved(half, lambda half: half[on_device]) for half in (self.hq, self.lq))
        valid = None if self.valid is None else self.valid[places.to(self.valid.device)]
        light = None if self.light is None else self.light[places.to(self.light.device)]
        return Samples(self.indexes[places], hq, lq, prompts, valid, light)

    def replaced(self, places: Tensor, fresh: Samples) -> Samples:
        """Put `fresh` at `places`; the tensors are changed in place unless `fresh` is deeper."""
        on_device = places.to(self.hq.device)
        self.indexes[places] = fresh.indexes
        (hq, fresh_hq), (lq, fresh_lq) = alike((self.hq, fresh.hq)), alike((self.lq, fresh.lq))
        put(hq, on_device, fresh_hq)
        put(lq, on_device, fresh_lq)
        prompts = list(self.prompts)
        for place, prompt in zip(places.tolist(), fresh.prompts, strict=True):
            prompts[place] = prompt
        valid = self.valid
        if valid is not None or fresh.valid is not None:
            valid, fresh_valid = all_valid((self.valid, fresh.valid), (self.hq, fresh.hq))
            valid[places.to(valid.device)] = fresh_valid
        if self.light is not None and fresh.light is not None:
            self.light[places.to(self.light.device)] = fresh.light
        return Samples(self.indexes, hq, lq, tuple(prompts), valid, self.light)


def joined(parts: Sequence[Samples]) -> Samples:
    """Return the samples of all parts, one after the other."""
    masks = [part.valid for part in parts]
    known = any(mask is not None for mask in masks)
    return Samples(
        torch.cat([part.indexes for part in parts]),
        torch.cat(alike([part.hq for part in parts])),
        torch.cat(alike([part.lq for part in parts])),
        prompts=tuple(prompt for part in parts for prompt in part.prompts),
        valid=torch.cat(all_valid(masks, [part.hq for part in parts])) if known else None,
        light=stacked_light([part.light for part in parts], torch.cat),
    )


def stacked_light(
    lights: Sequence[Tensor | None], stack: Callable[[list[Tensor]], Tensor] = torch.stack
) -> Tensor | None:
    """Return what a microscope's light was for all of them, or None where that is not known of all."""
    known = [light for light in lights if light is not None]
    return stack(known) if known and len(known) == len(lights) else None


def all_valid(masks: Sequence[Tensor | None], images: Sequence[Tensor], *, axis: int = 1) -> list[Tensor]:
    """Return masks of images, with one in place of the channels at `axis`; true everywhere where there is none."""
    return [
        torch.ones_like(image.narrow(axis, 0, 1), dtype=torch.bool) if mask is None else mask
        for mask, image in zip(masks, images, strict=True)
    ]
