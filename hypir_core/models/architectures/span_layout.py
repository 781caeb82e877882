"""How a file holds a `span`: in the layout that spandrel, and so ComfyUI's stock "Load Upscale Model", knows as "SPAN".

There every convolution over 3 cells is the sum of a shortcut ``sk`` (1 cell) and a chain ``conv`` (1, 3 and 1 cells,
with twice the channels in between), and ``eval_conv`` is what they come to. Ours is ``eval_conv`` alone. In a file the
chain holds it between selections of channels, ones and zeros, and the shortcut is zero: the sum is exactly ours. The
zeros take no room once they are packed. ``no_norm`` says that the picture is taken as it is, in [0,1].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FUSED = "eval_conv."
AS_IT_IS = "no_norm"
PARTS = tuple(
    f"{part}.{kind}" for part in ("sk", "conv.0", "conv.1", "conv.2") for kind in ("weight", "bias")
)


def as_stock(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a `span` with the chains and shortcuts that the stock layout has as well."""
    made = {**tensors, AS_IT_IS: torch.zeros(1)}
    for name, weight in tensors.items():
        if name.endswith(f"{FUSED}weight"):
            place = name.removesuffix(f"{FUSED}weight")
            parts = _chain(weight.detach(), tensors[f"{place}{FUSED}bias"].detach())
            made |= {place + part: tensor for part, tensor in zip(PARTS, parts, strict=True)}
    return made


def as_plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file with each chain and shortcut replaced by what they come to."""
    made = {name: tensor for name, tensor in tensors.items() if name != AS_IT_IS}
    for name in tensors:
        if not name.endswith(f"{FUSED}weight"):
            continue
        place = name.removesuffix(f"{FUSED}weight")
        if all(place + part in tensors for part in PARTS):
            parts = [made.pop(place + part) for part in PARTS]
            made[name], made[f"{place}{FUSED}bias"] = _sum_of(*parts)
    return made


def _chain(weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """Return shortcut and chain, weights and biases in the order of `PARTS`."""
    outside, inside, *kernel = weight.shape
    point = [1] * len(kernel)
    middle = weight.new_zeros(2 * outside, 2 * inside, *kernel)
    middle[:outside, :inside] = weight
    return (
        weight.new_zeros(outside, inside, *point),
        torch.zeros_like(bias),
        _selection(weight, 2 * inside, inside),
        bias.new_zeros(2 * inside),
        middle,
        torch.cat([bias, torch.zeros_like(bias)]),
        _selection(weight, outside, 2 * outside),
        torch.zeros_like(bias),
    )


def _selection(like: Tensor, outside: int, inside: int) -> Tensor:
    """Return a convolution over one cell that passes on as many channels as both sides have."""
    chosen = torch.eye(outside, inside, dtype=like.dtype, device=like.device)
    return chosen.reshape(outside, inside, *[1] * (like.ndim - 2))


def _sum_of(
    shortcut: Tensor,
    shortcut_bias: Tensor,
    first: Tensor,
    first_bias: Tensor,
    middle: Tensor,
    middle_bias: Tensor,
    last: Tensor,
    last_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the one convolution that shortcut and chain come to, without a border between them."""
    first, last = first.flatten(1), last.flatten(1)
    weight = torch.einsum("oh,hi...,ic->oc...", last, middle, first)
    weight[(slice(None), slice(None), *[1] * (middle.ndim - 2))] += shortcut.flatten(1)
    cells = tuple(range(2, middle.ndim))
    bias = last @ (middle.sum(cells) @ first_bias + middle_bias) + last_bias + shortcut_bias
    return weight, bias
