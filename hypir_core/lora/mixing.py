"""Adapters that are mixed anew for every picture: W' = W + scale · B·Mᵀ·A, where M depends on its blur and noise.

Zhang et al., "Degradation-Guided One-Step Image Super-Resolution with Diffusion Priors" (S3Diff), arXiv 2409.17058,
section 3.2. Two numbers say how blurred and how noisy the picture is. Their Fourier features and a learned vector of
each block of the network go through small layers into one matrix [rank rank] per block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import SpecMismatchError
from .file import Lora

DEGREES = ("blur", "noise")
"""What is estimated of a picture, 0 to 1 each, in this order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixing:
    """The layers that make the matrices of one network."""

    frequencies: Tensor
    """[n] of the Fourier features."""
    of_degrees: tuple[Tensor, Tensor]
    """Weight and bias of what reads the features of both numbers."""
    of_block: tuple[Tensor, Tensor]
    """Of what reads a block's vector."""
    fused: tuple[Tensor, Tensor]
    """Of what makes a matrix of both."""
    blocks: Tensor
    """[blocks width]: the blocks' vectors."""

    def matrices(self, degrees: Tensor) -> Tensor:
        """Return [blocks rank rank], float32.

        Args:
            degrees: [2], blur and noise.
        """
        angles = degrees.float().reshape(-1, 1) * self.frequencies * (2 * math.pi)
        features = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten()
        of_degrees = F.relu(F.linear(features, *self.of_degrees))
        of_blocks = F.relu(F.linear(self.blocks, *self.of_block))
        both = torch.cat([of_degrees.expand(len(of_blocks), -1), of_blocks], dim=-1)
        flat = F.linear(both, *self.fused)
        rank = math.isqrt(flat.shape[-1])
        return flat.reshape(-1, rank, rank)


def read_mixing(content: Mapping[str, Any], network: str, rank: int, path: Path) -> Mixing:
    """Return the layers of ``unet`` or ``vae`` in S3Diff's file.

    Raises:
        SpecMismatchError: one is missing, or they do not fit each other or the rank.
    """
    parts: dict[str, Tensor] = {}
    try:
        of_degrees, of_block, fused = (
            content[f"state_dict_{network}_{part}_mlp"] for part in ("de", "block", "fuse")
        )
        blocks = content["state_embeddings"][f"state_dict_{network}_block"]["weight"]
        for name, state, layer in (("de", of_degrees, "0."), ("block", of_block, "0."), ("fuse", fused, "")):
            parts |= {
                f"{name}.{kind}": state[f"{layer}{kind}"].detach().float() for kind in ("weight", "bias")
            }
        parts |= {"blocks": blocks.detach().float(), "w": content["w"].detach().float()}
    except (KeyError, TypeError, AttributeError) as err:
        raise SpecMismatchError(
            f"{path}: expected the layers that mix S3Diff's adapters of the {network}, got none called {err}; get the "
            "file again"
        ) from err
    made = Mixing(
        frequencies=parts["w"],
        of_degrees=(parts["de.weight"], parts["de.bias"]),
        of_block=(parts["block.weight"], parts["block.bias"]),
        fused=(parts["fuse.weight"], parts["fuse.bias"]),
        blocks=parts["blocks"],
    )
    try:
        shape = tuple(made.matrices(torch.zeros(len(DEGREES))).shape[1:])
    except RuntimeError as err:
        raise SpecMismatchError(
            f"{path}: the layers that mix the adapters of the {network} do not fit each other ({err}); get the file "
            "again"
        ) from err
    if shape != (rank, rank):
        raise SpecMismatchError(
            f"{path}: expected matrices of rank {rank} for the {network}, got {shape}; get the file again"
        )
    return made


class Mixed:
    """A network whose adapters are mixed anew for every picture, in place."""

    def __init__(self, net: nn.Module, lora: Lora, mixing: Mixing, *, strength: float = 1.0):
        """Remember the network's own weights, in half the memory where nothing is lost by it.

        Call it before the network is cast; the LoRA was checked against it when it was read.
        """
        self._net, self._lora, self._mixing, self._strength = net, lora, mixing, strength
        weights = dict(net.named_parameters())
        self._own = {module: _small(weights[f"{module}.weight"]) for module in lora.factors}
        self._now: Tensor | None = None

    @torch.no_grad()
    def mix(self, degrees: Tensor) -> None:
        """Give the network the weights for a picture of so much blur and noise, [2]; nothing happens if it has them."""
        if self._now is not None and torch.equal(self._now, degrees):
            return
        matrices = self._mixing.matrices(degrees)
        modules = dict(self._net.named_modules())
        for module, factors in self._lora.factors.items():
            layer: Any = modules[module]
            device = layer.weight.device
            own = self._own[module].to(device, torch.float32)
            matrix = matrices[block_of(module, len(matrices))].to(device)
            down, up = (factor.to(device, torch.float32).flatten(1) for factor in factors)
            change = (up @ matrix.T @ down).view(own.shape)
            merged = torch.add(own, change, alpha=self._strength * self._lora.scale_of(module))
            layer.weight.copy_(merged)
            _refresh(modules[module.rpartition(".")[0]], merged)
        self._now = degrees.clone()


def block_of(module: str, blocks: int) -> int:
    """Return the number of the matrix that a module of a UNet or of a VAE's encoder takes.

    Levels come first on the way down, then the middle, then the way up; the last is for what stands outside.
    """
    parts = module.removeprefix("encoder.").split(".")
    levels = (blocks - 2) // 2 if not module.startswith("encoder.") else blocks - 2
    if parts[0] == "down_blocks":
        return int(parts[1])
    if parts[0] == "mid_block":
        return levels
    return levels + 1 + int(parts[1]) if parts[0] == "up_blocks" else blocks - 1


def _refresh(parent: nn.Module, weight: Tensor) -> None:
    """Make anew what a quicker layer keeps of its convolution (`models.layers.fast_layers`)."""
    remake = getattr(parent, "remake", None)
    if remake is not None:
        remake(weight)


def _small(weight: Tensor) -> Tensor:
    """Return a copy on the CPU, in float16 where that holds the same numbers."""
    own = weight.detach().cpu()
    half = own.half()
    return half if torch.equal(half.to(own.dtype), own) else own.clone()
