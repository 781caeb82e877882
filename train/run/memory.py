"""How much memory a training holds: counted from its tensors, and what a pass keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

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
    """What autograd keeps inside a block of `count_kept`; every storage counts once."""

    bytes: int = 0
    """Now."""
    peak_bytes: int = 0
    holders: dict[int, int] = field(default_factory=dict)
    """Address of a storage → how many saved tensors lie in it."""


class _Holder:
    """A tensor that autograd saved; what it takes is given back when autograd drops it."""

    def __init__(self, tensor: Tensor, kept: Kept):
        storage = tensor.untyped_storage()
        self.tensor, self._kept = tensor, kept
        self._address, self._bytes = storage.data_ptr(), storage.nbytes()
        count = kept.holders.get(self._address, 0)
        kept.holders[self._address] = count + 1
        if not count:
            kept.bytes += self._bytes
            kept.peak_bytes = max(kept.peak_bytes, kept.bytes)

    def __del__(self):
        self._kept.holders[self._address] -= 1
        if not self._kept.holders[self._address]:
            self._kept.bytes -= self._bytes


@contextmanager
def count_kept(weights: Iterable[Tensor]) -> Iterator[Kept]:
    """Count what passes inside the block keep for their backward pass, without the `weights`, at the most.

    That is the memory of the activations on any device, with what checkpointed parts compute again.
    """
    kept = Kept()
    own = {tensor.untyped_storage().data_ptr() for tensor in weights}

    def pack(tensor: Tensor) -> Tensor | _Holder:
        return tensor if tensor.untyped_storage().data_ptr() in own else _Holder(tensor, kept)

    def unpack(saved: Tensor | _Holder) -> Tensor:
        return saved.tensor if isinstance(saved, _Holder) else saved

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
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
