"""The layers of diffusers' UNet and VAE with fewer multiplications and fewer passes over memory, for inference.

Nearest-neighbour enlargement and the 3×3 convolution after it see each input cell several times with the same
value; taps that meet the same cell are added beforehand. What is left is a transposed convolution with a 4×4
kernel and stride 2: 4 taps per result instead of 9. Along one axis, kernel (a, b, c) becomes (c, b+c, a+b, a):
even results see a·x[j−1] + (b+c)·x[j], odd ones (a+b)·x[j] + c·x[j+1]. Exact up to rounding.
(Shi et al., arXiv 1609.07009, show how such convolutions are related.)
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FOLD = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""[4 3]: taps of the transposed kernel from those of the 3×3 one, along one axis."""


def use_fast_layers_(net: nn.Module) -> int:
    """Give the resnets and enlargements of a diffusers UNet or VAE a quicker forward, in place.

    Do it in float32, after a LoRA was merged and the timestep folded, before the cast. Modules and weights keep
    their names; an enlargement also gets the buffer `folded`, which its `remake` makes anew of another weight.
    Gradients cannot pass: activations and sums are computed in place. Layers that are built otherwise stay as they are.

    Returns:
        How many layers changed.
    """
    changed = 0
    for module in net.modules():
        if _is_plain_resnet(module):
            module.forward = MethodType(_resnet, module)
        elif _is_plain_enlargement(module):
            m: Any = module
            m.register_buffer("folded", fold_enlargement(m.conv.weight), persistent=False)
            module.forward = MethodType(_enlarge, module)
            m.remake = MethodType(_remake, module)
        else:
            continue
        changed += 1
    return changed


@torch.no_grad()
def fold_enlargement(weight: Tensor) -> Tensor:
    """Return the transposed kernel [in out 4 4] of enlarging by 2 and convolving with [out in 3 3]."""
    fold = FOLD.to(weight)
    return torch.einsum("ay,bx,oiyx->ioab", fold, fold, weight).contiguous()


def _is_plain_resnet(module: nn.Module) -> bool:
    m: Any = module
    return type(module).__name__ == "ResnetBlock2D" and all(
        (
            m.upsample is None,
            m.downsample is None,
            m.time_emb_proj is None,
            m.time_embedding_norm
            in {"default", "group"},  # the VAE's decoder says "group" and means the same
            m.output_scale_factor == 1,
            isinstance(m.nonlinearity, nn.SiLU),
        )
    )


def _is_plain_enlargement(module: nn.Module) -> bool:
    m: Any = module
    return (
        type(module).__name__ == "Upsample2D"
        and m.norm is None
        and isinstance(getattr(m, "conv", None), nn.Conv2d)
        and not m.use_conv_transpose
        and m.conv.kernel_size == (3, 3)
        and m.conv.padding == (1, 1)
    )


def _resnet(self: Any, x: Tensor, temb: Tensor | None = None) -> Tensor:
    del temb  # folded into the first bias (`models.sd.fold`)
    # One name for all: no more than three maps are alive at a time.
    h = F.silu(self.norm1(x), inplace=True)
    h = self.conv1(h)
    h = self.norm2(h)
    h = F.silu(h, inplace=True)
    h = self.conv2(h)
    return h.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


def _remake(self: Any, weight: Tensor) -> None:
    """Take another weight [out in 3 3] for the convolution's."""
    self.folded.copy_(fold_enlargement(weight))


def _enlarge(self: Any, x: Tensor, output_size: Any = None) -> Tensor:
    h, w = x.shape[-2:]
    if output_size is not None and tuple(output_size) != (2 * h, 2 * w):  # an odd side was halved before
        return self.conv(F.interpolate(x, size=output_size, mode="nearest"))
    return F.conv_transpose2d(x, self.folded, self.conv.bias, stride=2, padding=1)
