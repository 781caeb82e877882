"""The guided denoiser: a UNet that is told words and tokens, and held by ControlNets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....diffusion.samplers.base import Step
from ....models.sd.controlnet import ControlNet, added
from ....models.sd.fold import fold_timesteps_
from ..networks import layout_for, ready_for, unet_placing
from ..parts import Denoiser


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What the networks are told about one picture."""

    words: Tensor
    """[1 m width]."""
    negative: Tensor | None = None
    """[1 m width], for guidance; None reads the words alone."""
    tokens: Tensor | None = None
    """[1 n width] of the tagger; None skips the image blocks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Control:
    """A ControlNet at work."""

    net: ControlNet
    guide: str
    """Name of its picture among the condition's guides."""
    strength: float = 1.0


def guided_denoiser(
    unet: nn.Module,
    controls: Sequence[Control],
    steps: Sequence[Step],
    *,
    cfg: float,
    image_blocks: bool,
    dtype: torch.dtype,
    device: torch.device,
    alike: bool = True,
    compiled: bool = False,
) -> Denoiser:
    """Return the denoiser of SeeSR; folds the timesteps of `steps` into all networks, in place.

    Guidance (Ho and Salimans, "Classifier-Free Diffusion Guidance", arXiv 2207.12598, eq. 6) mixes two predictions:
    negative + cfg·(words − negative). Both read the same tokens and control pictures.

    Args:
        unet: `diffusers.UNet2DConditionModel`, with image blocks where `image_blocks` says so, on the CPU in float32.
        controls: their residuals are added; one of strength 0 must be left out.
        steps: of the run.
        cfg: above 1 the networks run for the negative words too.
        image_blocks: whether the UNet takes tokens.
        dtype: of all networks.
        device: where they will run.
        alike: treat all tiles of a picture alike.
        compiled: let torch.compile make the transformer blocks quicker.
    """
    folded = []
    for net in (unet, *(control.net.net for control in controls)):
        folded.append(fold_timesteps_(net, [step.t for step in steps]))
        ready_for(net, dtype=dtype, device=device, compiled=compiled)
    u: Any = unet
    layout = layout_for(dtype, device)

    placing = unet_placing(u, dtype=dtype, alike=alike, others=[control.net.net for control in controls])

    def predict(x: Tensor, step: Step, told: Told, guides: Mapping[str, Tensor]) -> Tensor:
        for net in folded:
            net.use(step.t)
        laid = _Laid(device=x.device, dtype=u.dtype, layout=layout)
        z, tokens = laid.map(x), laid.words(told.tokens, like=x)
        hints = {control.guide: laid.map(guides[control.guide]) for control in controls}

        def eps(words: Tensor, number: int) -> Tensor:
            told_words = laid.words(words, like=x)
            with nullcontext() if placing.shared is None else placing.shared.norms.of_pass(number):
                residuals = added(
                    [
                        control.net.residuals(
                            z, step.t, told_words, tokens, hints[control.guide], strength=control.strength
                        )
                        for control in controls
                    ]
                )
                held = {} if residuals is None else for_unet(residuals)
                seen = (told_words, tokens) if image_blocks else told_words
                return u(z, step.t, seen, **held, return_dict=False)[0].float()

        with_words = eps(told.words, 0)
        if cfg <= 1 or told.negative is None:
            return with_words
        without = eps(told.negative, 1)
        return without + cfg * (with_words - without)

    return Denoiser(
        predict=predict,
        placing=placing,
    )


def for_unet(residuals: Sequence[Tensor]) -> dict[str, Any]:
    """Return what ControlNets add as a diffusers UNet takes it, by the names of its arguments."""
    return {
        "down_block_additional_residuals": tuple(residuals[:-1]),
        "mid_block_additional_residual": residuals[-1],
    }


@dataclass(frozen=True, kw_only=True)
class _Laid:
    """Brings what a network reads to its device, format and layout."""

    device: torch.device
    dtype: torch.dtype
    layout: torch.memory_format

    def map(self, tiles: Tensor) -> Tensor:
        return tiles.to(self.device, self.dtype, memory_format=self.layout)

    def words(self, one: Tensor | None, *, like: Tensor) -> Any:
        """[1 m width] → [tiles m width], without a copy: its keys and values are computed once."""
        return None if one is None else one.to(self.device, self.dtype).expand(len(like), -1, -1)
