"""Adding a LoRA into the weights it adapts, so that it costs nothing at run time.

W' = W + strength · alpha / rank · B·A (Hu et al., arXiv 2106.09685, section 4.1). For a convolution
whose up factor is 1×1 the same holds per kernel position, W'[o,i,:,:] = W[o,i,:,:] + … Σ_r B[o,r]·A[r,i,:,:],
whatever the stride and the padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..errors import RangeError
from .file import Lora, check_lora
from .names import adaptable_modules


def merge_lora_(module: nn.Module, lora: Lora, *, strength: float = 1.0) -> int:
    """Merge a LoRA into a UNet's weights in place; return how many weights changed.

    Computed in float32 on each weight's device and rounded once to the weight's dtype. Everything is checked
    before the first weight is touched. Strength 0 leaves the base as it is.

    Raises:
        SpecMismatchError: the LoRA does not fit the module; lists what differs.
        RangeError: the strength is not finite.
    """
    weights = dict(module.named_parameters())
    changed = 0
    with torch.no_grad():
        for name, merged in merged_weights(weights, lora, strength=strength):
            weights[name].copy_(merged)
            changed += 1
    return changed


def merged_weights(
    weights: Mapping[str, Tensor], lora: Lora, *, strength: float = 1.0
) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, merged weight in at least float32) for every adapted weight of a UNet's state dict.

    The check of the whole LoRA precedes the first weight. Raises as `merge_lora_` does.
    """
    if not math.isfinite(strength):
        raise RangeError(f"LoRA strength must be a finite number, got {strength}; 1 is the trained strength")
    check_lora(lora, adaptable_modules(weights), where=lora.path or "LoRA")
    if strength == 0:
        return
    for module, factors in lora.factors.items():
        name = f"{module}.weight"
        yield name, _merged(weights[name], factors, scale=strength * lora.scale_of(module))


def _merged(weight: Tensor, factors: tuple[Tensor, Tensor], *, scale: float) -> Tensor:
    dtype = torch.promote_types(weight.dtype, torch.float32)
    down, up = (factor.to(weight.device, dtype).flatten(1) for factor in factors)
    return torch.add(weight.to(dtype), (up @ down).view(weight.shape), alpha=scale)
