"""A frozen CLIP ConvNeXt that looks, and small trained heads that judge what it sees.

Projected discriminators (Sauer et al., arXiv 2111.01007) with CLIP features, as in vision-aided GANs (Kumari
et al., arXiv 2112.09130). Names and shapes of the heads are those of the published one-step discriminator, so
that its file can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from hypir_core.config import strict
from hypir_core.errors import (
    ConfigError,
    MissingDependencyError,
    ShapeError,
    UnknownNameError,
    WeightsNotFoundError,
)

from ..three_bands import three_bands
from .binomial_blur import BinomialBlur
from .judgement import Judgement

SLOPE = 0.2
"""Of the leaky rectifiers."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

LEVELS = 3
"""Stages with a head of their own; the last stage is judged by its pooled embedding."""

LEAST_PX = 64
"""The third stage then has 4 cells a side, the fewest that leave one logit."""

TRUNK_SEED = 0
"""Of a trunk without pretrained weights: it is in no checkpoint, so it must come out the same every time."""


class TrunkFormat(str, Enum):
    """Number format of the frozen trunk."""

    bf16 = "bf16"
    fp32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class ClipConvNextOptions:
    """Which trunk, and the size of the heads."""

    __pydantic_config__ = strict

    trunk: str = "convnext_xxlarge"
    """An open_clip model with a ConvNeXt image tower."""
    pretrained: str | None = "laion2b_s34b_b82k_augreg_soup"
    """An open_clip tag (downloaded once), the path of its file, or null: random weights, for tests."""
    trunk_format: TrunkFormat = TrunkFormat.bf16
    checkpoint_trunk: bool = False
    """Compute the trunk's activations again in the backward pass: less memory, more time."""
    channels: tuple[int, int, int] | None = None
    """Which three of the generator's channels are shown to it as red, green and blue; must be said for bands."""
    width: int = 512
    """Channels inside the heads; a published head file has 512."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width must be 1 or more, got {self.width}")


class ClipConvNextDiscriminator(nn.Module):
    """Heads on the first three stages and on the pooled embedding of a frozen trunk.

    Shapes: [b c h w], [-1,1], at least 64 px a side → logit maps of 1/16, 1/32 and 1/64 of the size, and [b 1].
    The trunk always stays in evaluation mode.
    """

    Options = ClipConvNextOptions
    mean: Tensor
    std: Tensor

    def __init__(self, options: ClipConvNextOptions):
        super().__init__()
        self.shown = options.channels
        visual = _visual(options).requires_grad_(False).eval()
        if options.checkpoint_trunk:
            visual.set_grad_checkpointing(True)
        self.trunk = visual.to(torch.bfloat16 if options.trunk_format is TrunkFormat.bf16 else torch.float32)
        self.channels = [stage["num_chs"] for stage in visual.trunk.feature_info][:LEVELS]
        self.heads = Heads(self.channels, embedding=_embedding_size(visual), width=options.width)
        for name, values in (("mean", CLIP_MEAN), ("std", CLIP_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def in_file(self) -> nn.Module:
        """What a weight file holds: the heads."""
        return self.heads

    def train(self, mode: bool = True) -> ClipConvNextDiscriminator:
        """Set the mode of the heads."""
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, image_pm1: Tensor, *, with_features: bool = False) -> Judgement:
        """Judge a batch.

        Raises:
            ShapeError: an image side is below 64 px.
            ConfigError: there are other channels than three, and none are chosen.
        """
        if min(image_pm1.shape[-2:]) < LEAST_PX:
            raise ShapeError(
                f"clip_convnext discriminator: expected at least {LEAST_PX} px a side, got "
                f"{tuple(image_pm1.shape[-2:])}; raise data.crop_px"
            )
        colours_pm1 = three_bands(image_pm1, self.shown, key="clip_convnext: options.channels")
        return self.heads(*self._look(colours_pm1), with_features=with_features)

    def _look(self, image_pm1: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the levels and the embedding, in the heads' format; autocast leaves the trunk alone."""
        normalised = (image_pm1.float() * 0.5 + 0.5 - self.mean) / self.std
        heads_format = next(self.heads.parameters()).dtype
        with torch.autocast(image_pm1.device.type, enabled=False):
            x = normalised.to(next(self.trunk.parameters()).dtype)
            last, stages = self.trunk.trunk.forward_intermediates(x, norm=False)
            # Older versions of timm put the stem in front. It has as many channels as the first stage, which
            # comes later and so wins here.
            by_channels = {stage.shape[1]: stage for stage in stages}
            levels = [by_channels[channels].to(heads_format) for channels in self.channels]
            embedding = self.trunk.head(self.trunk.trunk.forward_head(last))
        return levels, embedding.to(heads_format)


class Heads(nn.Module):
    """One small network per level; the attribute names are those of the published file."""

    def __init__(self, channels: list[int], *, embedding: int, width: int):
        super().__init__()
        self.decoder = nn.ModuleList(_map_head(count, width) for count in channels)
        self.decoder.append(nn.Sequential(spectral_norm(nn.Linear(embedding, width)), nn.LeakyReLU(SLOPE)))
        self.out = spectral_norm(nn.Linear(width, 1))

    def forward(self, levels: list[Tensor], embedding: Tensor, *, with_features: bool) -> Judgement:
        """Judge the levels [b c h w], finest first, and the embedding [b c]."""
        judgement = Judgement([], [])
        *map_heads, embedding_head = self.decoder
        for head, level in zip(map_heads, levels, strict=True):
            blur, look, bend, blur_again, judge = head.children()
            seen = bend(look(blur(level)))
            judgement.features.append(seen)
            judgement.logits.append(judge(blur_again(seen)))
        seen = embedding_head(embedding)
        judgement.features.append(seen)
        judgement.logits.append(self.out(seen))
        return judgement if with_features else Judgement(judgement.logits, [])


def _map_head(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        BinomialBlur(channels, padding=2),
        spectral_norm(nn.Conv2d(channels, width, 3, stride=2)),
        nn.LeakyReLU(SLOPE),
        BinomialBlur(width, padding=1),
        spectral_norm(nn.Conv2d(width, 1, 1, stride=2)),
    )


def _visual(options: ClipConvNextOptions) -> Any:
    """Return open_clip's image tower: a timm `trunk` and a `head` that makes the embedding."""
    try:
        import open_clip
    except ImportError as err:
        raise MissingDependencyError("open_clip_torch", "train", "the clip_convnext discriminator") from err
    if options.trunk not in open_clip.list_models():
        raise UnknownNameError("open_clip model", options.trunk, open_clip.list_models())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TRUNK_SEED)
        try:
            visual: Any = open_clip.create_model(options.trunk, pretrained=options.pretrained).visual
        except (OSError, RuntimeError, ValueError) as err:
            raise WeightsNotFoundError(
                f"options.pretrained: the weights {options.pretrained!r} of {options.trunk} cannot be had "
                f"({err}); without network, place open_clip's file by hand and set pretrained to its path"
            ) from err
    if not hasattr(getattr(visual, "trunk", None), "stages"):
        raise ConfigError(f"options.trunk: expected an open_clip model with a ConvNeXt, got {options.trunk}")
    return visual


def _embedding_size(visual: Any) -> int:
    weight: Tensor = visual.head.proj.weight
    return weight.shape[0]
