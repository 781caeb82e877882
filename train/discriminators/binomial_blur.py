"""Blur before a stride, so that halving the size does not alias (Zhang, arXiv 1904.11486)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BinomialBlur(nn.Module):
    """The four-tap binomial [1 3 3 1]⊗[1 3 3 1]/64 on every channel, with `padding` zeros on each side.

    Shapes: [b channels h w] → [b channels h+2·padding−3 w+2·padding−3]. The kernel is kept in the state dict,
    as `filt`, because published files hold it.
    """

    filt: Tensor

    def __init__(self, channels: int, *, padding: int):
        super().__init__()
        self.padding = padding
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = torch.outer(taps, taps) / 64
        self.register_buffer("filt", kernel.expand(channels, 1, 4, 4).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Blur a batch."""
        return F.conv2d(x, self.filt.to(x.dtype), padding=self.padding, groups=x.shape[1])
