"""Recognize Anything (RAM): a Swin that sees, and a head that names; sizes are read off the tensors.

Zhang et al., "Recognize Anything: A Strong Image Tagging Model", arXiv 2306.03514, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .swin import Swin
from .tag_head import TagHead

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pictures that the network was trained on, in [0,1] (ImageNet's)."""


@dataclass(frozen=True, kw_only=True)
class RamSizes:
    """What distinguishes one RAM from another."""

    width: int
    """Channels of the Swin's first stage; Swin-L has 192."""
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    mlp_width: int
    """Of the Swin's first stage."""
    token_width: int
    """Numbers per token; SeeSR reads 512."""
    label_width: int
    """Numbers per label embedding."""
    head_width: int
    head_mlp_width: int
    head_layers: int
    labels: int


class Ram(nn.Module):
    """The parts of RAM that tags need; the checkpoint's text encoder and decoder are left out."""

    def __init__(self, sizes: RamSizes):
        super().__init__()
        self.visual_encoder = Swin(
            width=sizes.width,
            depths=sizes.depths,
            heads=sizes.heads,
            window=sizes.window,
            mlp_width=sizes.mlp_width,
        )
        self.image_proj = nn.Linear(sizes.width << (len(sizes.depths) - 1), sizes.token_width)
        self.label_embed = nn.Parameter(torch.zeros(sizes.labels, sizes.label_width))
        same = sizes.label_width == sizes.head_width
        self.wordvec_proj = nn.Identity() if same else nn.Linear(sizes.label_width, sizes.head_width)
        self.tagging_head = TagHead(
            width=sizes.head_width,
            token_width=sizes.token_width,
            mlp_width=sizes.head_mlp_width,
            layers=sizes.head_layers,
        )
        self.fc = nn.Linear(sizes.head_width, 1)

    @property
    def side_px(self) -> int:
        """Return the side of the pictures it takes; 384."""
        return self.visual_encoder.side_px

    def tokens(self, prepared: Tensor) -> Tensor:
        """Return what is seen, place by place, after one token for the whole picture: [b 1+cells token_width].

        Shape: [b 3 side side], as `prepare` makes it.
        """
        cells = self.visual_encoder(prepared)
        return self.image_proj(torch.cat([cells.mean(1, keepdim=True), cells], 1))

    def logits(self, tokens: Tensor) -> Tensor:
        """Return how sure each label is, [b labels], before the sigmoid."""
        labels = F.relu(self.wordvec_proj(self.label_embed)).expand(len(tokens), -1, -1)
        return self.fc(self.tagging_head(labels, tokens)).squeeze(-1)

    def forward(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Return (`tokens`, `logits`)."""
        tokens = self.tokens(prepared)
        return tokens, self.logits(tokens)


def prepare(image_01: Tensor, side_px: int, *, antialias: bool = True) -> Tensor:
    """Return a picture as the network wants it: resized to a square, normalised.

    Args:
        image_01: [b 3 h w] in [0,1].
        side_px: the network's.
        antialias: whether shrinking averages. The original does not, so that a large picture's tags hang on single
            pixels.

    Shape: → [b 3 side_px side_px], float32.
    """
    size = (side_px, side_px)
    small = F.interpolate(
        image_01.float(), size=size, mode="bilinear", antialias=antialias, align_corners=False
    )
    mean, std = (torch.tensor(numbers, device=small.device).view(1, 3, 1, 1) for numbers in (MEAN, STD))
    return (small - mean) / std


def ram_sizes(tensors: Mapping[str, Tensor]) -> RamSizes:
    """Read the sizes off a checkpoint's tensors.

    Raises:
        KeyError: a tensor that they are read from is not there.
    """
    tables = _tables(tensors)
    stages = sorted({stage for stage, _ in tables})
    head = "tagging_head.encoder.layer"
    return RamSizes(
        width=tensors["visual_encoder.patch_embed.proj.weight"].shape[0],
        depths=tuple(sum(stage == at for at, _ in tables) for stage in stages),
        heads=tuple(tables[stage, 0].shape[1] for stage in stages),
        window=(math.isqrt(tables[0, 0].shape[0]) + 1) // 2,
        mlp_width=tensors["visual_encoder.layers.0.blocks.0.mlp.fc1.weight"].shape[0],
        token_width=tensors["image_proj.weight"].shape[0],
        label_width=tensors["label_embed"].shape[1],
        head_width=tensors["fc.weight"].shape[1],
        head_mlp_width=tensors[f"{head}.0.intermediate.dense.weight"].shape[0],
        head_layers=len({name.split(".")[3] for name in tensors if name.startswith(head)}),
        labels=tensors["label_embed"].shape[0],
    )


def _tables(tensors: Mapping[str, Tensor]) -> dict[tuple[int, int], Tensor]:
    """Return the bias tables by stage and block."""
    names = [name for name in tensors if name.endswith(".attn.relative_position_bias_table")]
    return {(int(parts[2]), int(parts[4])): tensors[name] for name in names if (parts := name.split("."))}
