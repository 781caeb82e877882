"""How much memory a training holds: counted from its tensors, and what a pass keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import Optimiser, OptimiserConfig
from ..players import Player

STATE_BYTES = {
    Optimiser.adamw: 8,
    Optimiser.adam: 8,
    Optimiser.adamw8bit: 2,
    Optimiser.schedule_free: 8,
    Optimiser.prodigy: 16,
}
"""What an optimiser keeps per trained number: two float32 numbers, two bytes, or Prodigy's four."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a network of the training holds between two steps, in numbers and bytes."""

    trained: int
    """Trained numbers."""
    all: int
    """All numbers, frozen ones included."""
    weights_bytes: int
    gradients_bytes: int
    optimiser_bytes: int
    average_bytes: int

    @property
    def total_bytes(self) -> int:
        """Return the sum of the four."""
        return self.weights_bytes + self.gradients_bytes + self.optimiser_bytes + self.average_bytes


def held_by(player: Player) -> Held:
    """Count what a player holds in this process; a split network counts its own part."""
    parameters = list(player.module.parameters())
    trained = [p for p in parameters if p.requires_grad]
    count = sum(_numel(p) for p in trained)
    return Held(
        trained=count,
        all=sum(_numel(p) for p in parameters),
        weights_bytes=_bytes(parameters) + _bytes(player.module.buffers()),
        gradients_bytes=_bytes(trained),
        optimiser_bytes=count * _state_bytes(player.config),
        average_bytes=_bytes(player.ema.shadow.values()) if player.ema else 0,
    )


def held_by_frozen(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of networks that only help."""
    return sum(_bytes(module.parameters()) + _bytes(module.buffers()) for module in modules)


@dataclass(eq=False)
class Kept:
    """What autograd keeps; `bytes` grows while the block runs, every storage counted once."""

    bytes: int = 0


@contextmanager
def count_kept(weights: Iterable[Tensor]) -> Iterator[Kept]:
    """Count the bytes that passes inside the block keep for their backward pass, without the `weights`.

    That is the memory of the activations on any device. What checkpointed parts compute again is not in it.
    """
    kept = Kept()
    seen = {tensor.untyped_storage().data_ptr() for tensor in weights}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept.bytes += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def gib(count: float) -> str:
    """Return bytes as a person reads them."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**27 else f"{count / 2**20:.1f} MiB"


def millions(count: int) -> str:
    """Return a number of parameters as a person reads it."""
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count}"


def _state_bytes(config: OptimiserConfig) -> int:
    return STATE_BYTES[config.kind]


def _numel(tensor: Tensor) -> int:
    return _local(tensor).numel()


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(_local(tensor).numel() * tensor.element_size() for tensor in tensors)


def _local(tensor: Tensor) -> Tensor:
    part = getattr(tensor, "to_local", None)
    return part() if part else tensor
