"""Swin: a transformer whose attention stays within windows, shifted by half a window in every second block.

Liu et al., "Swin Transformer", arXiv 2103.14030, sections 3.1 and 3.2. The modules carry the names that the published
checkpoints use. Nothing is done in place, so that gradients pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH_PX = 4
"""Side of the patches that a picture is cut into."""

FAR = -100.0
"""Added to the attention between cells that only meet because the map was rolled."""


class Swin(nn.Module):
    """Picture [b 3 s s] → one cell for each of its (s / 32)² places, [b cells 8·width]."""

    def __init__(
        self, *, width: int, depths: Sequence[int], heads: Sequence[int], window: int, mlp_width: int
    ):
        """Build the network for one size of picture, `side_px`: that whose last map is one window.

        Args:
            width: channels of the first stage; every stage has twice those of the one before.
            depths: blocks of each stage.
            heads: attention heads of each stage.
            window: side of a window, in cells.
            mlp_width: of the first stage's feed-forward part.
        """
        super().__init__()
        stages = len(depths)
        self.side_px = PATCH_PX * window * 2 ** (stages - 1)
        self.patch_embed = _Patches(width)
        self.layers = nn.ModuleList(
            _Stage(
                width << i,
                depth=depths[i],
                heads=heads[i],
                window=window,
                side=window << (stages - 1 - i),
                mlp_width=mlp_width << i,
                last=i == stages - 1,
            )
            for i in range(stages)
        )
        self.norm = nn.LayerNorm(width << (stages - 1))

    def forward(self, picture: Tensor) -> Tensor:
        """Return the cells, row by row."""
        x = self.patch_embed(picture)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x).flatten(1, 2)


class _Patches(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH_PX, PATCH_PX)
        self.norm = nn.LayerNorm(width)

    def forward(self, picture: Tensor) -> Tensor:
        return self.norm(self.proj(picture).permute(0, 2, 3, 1))


class _Stage(nn.Module):
    """Blocks on a map [b side side width]; but for the last stage, then half the side and twice the width."""

    def __init__(
        self, width: int, *, depth: int, heads: int, window: int, side: int, mlp_width: int, last: bool
    ):
        super().__init__()
        shifts = [window // 2 if i % 2 and side > window else 0 for i in range(depth)]
        self.blocks = nn.ModuleList(_Block(width, heads, window, side, shift, mlp_width) for shift in shifts)
        self.downsample = None if last else _Merge(width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class _Merge(nn.Module):
    """Four neighbours become one cell."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convention: the upper left neighbour first, then the lower left, the upper right, the lower right."""
        b, h, w, c = x.shape
        four = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(four))


class _Block(nn.Module):
    far: Tensor | None

    def __init__(self, width: int, heads: int, window: int, side: int, shift: int, mlp_width: int):
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width, mlp_width)
        far = _far_apart(side, window, shift) if shift else None
        self.register_buffer("far", far, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, side, _, c = x.shape
        n, count = self.window, side // self.window
        rolled = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2))
        windows = rolled.view(b, count, n, count, n, c).transpose(2, 3).reshape(-1, n * n, c)
        seen = self.attn(windows, self.far)
        rolled = seen.view(b, count, count, n, n, c).transpose(2, 3).reshape(b, side, side, c)
        x = x + torch.roll(rolled, (self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm2(x))


class _Mlp(nn.Module):
    def __init__(self, width: int, mlp_width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _WindowAttention(nn.Module):
    """Attention among the cells of a window, with a learned bias for each of their relative places (eq. 4)."""

    places: Tensor

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("places", _relative_places(window), persistent=False)

    def forward(self, windows: Tensor, far: Tensor | None) -> Tensor:
        """[windows cells width] → the same; `far` [windows of a picture, 1, cells, cells] is added to the bias."""
        n, cells, _ = windows.shape
        q, k, v = self.qkv(windows).view(n, cells, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.places].permute(2, 0, 1)[None]
        if far is not None:
            bias = (bias + far.to(bias.dtype)).repeat(n // len(far), 1, 1, 1)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(seen.transpose(1, 2).flatten(2))


def _relative_places(window: int) -> Tensor:
    """Return, for each pair of cells of a window, the row of the bias table for their difference."""
    at = torch.arange(window, device="cpu")
    cells = torch.cartesian_prod(at, at)
    apart = cells[:, None] - cells[None] + window - 1
    return apart[..., 0] * (2 * window - 1) + apart[..., 1]


def _far_apart(side: int, window: int, shift: int) -> Tensor:
    """Return what keeps cells apart that a roll by `shift` brought into one window: [windows, 1, cells, cells]."""
    came_round = torch.arange(side, device="cpu") >= side - shift  # only the last windows hold both kinds
    region = 2 * came_round[:, None] + came_round[None]
    count = side // window
    windows = region.view(count, window, count, window).transpose(1, 2).reshape(count * count, -1)
    return torch.where(windows[:, None, :, None] == windows[:, None, None, :], 0.0, FAR)
