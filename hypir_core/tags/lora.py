"""SeeSR's LoRA for the tagger (DAPE), which keeps tags and tokens right on degraded pictures.

Wu et al., arXiv 2311.16518, section 3.1. It was trained with loralib, alpha = 1: W' = W + strength / rank · B·A. A
Swin's query, key and value are one layer; of it, the LoRA adapts query and value, each by a pair of its own, and the
key not at all: rows 0 … r−1 of A and the first half of B's rows belong to the query, the others to the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import SpecMismatchError, WeightsError
from ..weights.tensors import check_finite, listed, read_tensors

_A, _B = ".lora_A", ".lora_B"

_TOGETHER = ".attn.qkv"
"""The layer that is query, key and value at once."""

_OF_HEAD = (".crossattention.self.query.weight", ".crossattention.self.key.weight")

_OTHERS = ("tag_encoder.", "text_decoder.")
"""Parts of the LoRA for networks that the tagger does not have. `tag_encoder` shares its weights with the tag head,
so its own pairs must not be added to them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaggerLora:
    """What is added to some weights."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """Name of the weight → (A, B)."""
    strength: float = 1.0

    def delta(self, weight: str) -> Tensor | None:
        """Return what is added to the weight of that name, float32; None: nothing is."""
        if weight not in self.pairs:
            return None
        down, up = (factor.float() for factor in self.pairs[weight])
        if not _is_together(weight):
            return self.strength / len(down) * (up @ down)
        rank = len(down) // 2
        (query, value), (query_up, value_up) = down.chunk(2), up.chunk(2)
        parts = [query_up @ query, torch.zeros_like(query_up @ query), value_up @ value]
        return self.strength / rank * torch.cat(parts)


def read_tagger_lora(path: Path, weights: Mapping[str, Tensor], *, strength: float = 1.0) -> TaggerLora:
    """Read the LoRA.

    Args:
        path: ``DAPE.pth``, or the same tensors as safetensors.
        weights: the tagger's, by name.
        strength: how much of it is added; −1 takes away what 1 has added.

    Raises:
        WeightsError: it cannot be read, or is no such LoRA.
        SpecMismatchError: it does not fit the tagger.
    """
    tensors = read_tensors(path).tensors
    factors = {
        name: tensor
        for name, tensor in tensors.items()
        if name.endswith((_A, _B)) and not name.startswith(_OTHERS)
    }
    if not factors:
        raise WeightsError(
            f"{path}: expected SeeSR's LoRA for the tagger (DAPE.pth), got {listed(list(tensors))} other tensors"
        )
    check_finite(factors, path)
    modules = dict.fromkeys(name.removesuffix(_A).removesuffix(_B) for name in factors)
    alone = [module for module in modules if f"{module}{_A}" not in factors or f"{module}{_B}" not in factors]
    if alone:
        raise WeightsError(f"{path}: expected pairs of lora_A and lora_B, got one of them in {listed(alone)}")
    pairs = {f"{m}.weight": (factors[f"{m}{_A}"], factors[f"{m}{_B}"]) for m in modules}
    wrong = [
        name for name, pair in pairs.items() if name not in weights or not _fits(name, pair, weights[name])
    ]
    if wrong:
        raise SpecMismatchError(
            f"{path}: expected a LoRA for this tagger, got other places or sizes in {listed(wrong)} of {len(pairs)}; "
            "give the LoRA that was trained on it"
        )
    return TaggerLora(pairs=pairs, strength=strength)


def adapted_weights(names: Iterable[str]) -> list[str]:
    """Return which of a tagger's weights the LoRA adapts: query and value of the Swin, query and key of the tag head."""
    return [name for name in names if name.endswith((f"{_TOGETHER}.weight", *_OF_HEAD))]


def factor_shapes(weight: str, shape: Sequence[int], rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shapes of A and B for a weight [rows columns] of that name."""
    rows, columns = shape
    if _is_together(weight):
        return (2 * rank, columns), (2 * rows // 3, rank)
    return (rank, columns), (rows, rank)


def _is_together(weight: str) -> bool:
    return weight.removesuffix(".weight").endswith(_TOGETHER)


def _fits(name: str, pair: tuple[Tensor, Tensor], weight: Tensor) -> bool:
    down, up = pair
    rows, columns = weight.shape
    if not _is_together(name):
        return down.shape == (up.shape[1], columns) and up.shape[0] == rows
    return down.shape == (2 * up.shape[1], columns) and 3 * up.shape[0] == 2 * rows
