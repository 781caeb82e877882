"""Low-rank pairs: from named tensors to (down, up) per module, with the shapes that they must have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import SpecMismatchError
from ..weights.tensors import listed
from .names import LoraKey, WeightShape


def pair_up(
    tensors: Mapping[str, Tensor], keys: Mapping[str, LoraKey | None], where: str | Path
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, float]]:
    """Return module → (down, up) and module → alpha, from tensors whose names `parse_keys` has read.

    Raises:
        SpecMismatchError: lists the names that are none, halves of pairs, and alphas that are none.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    twice: list[str] = []
    for name, key in keys.items():
        if key is not None:
            module = parts.setdefault(key.module, {})
            twice += [name] if key.part in module else []
            module[key.part] = tensors[name]
    halves = {
        f"modules without {part}": [module for module, found in parts.items() if part not in found]
        for part in ("down", "up")
    }
    alphas = {module: found["alpha"] for module, found in parts.items() if "alpha" in found}
    problems = {
        "keys that are not LoRA keys": [name for name, key in keys.items() if key is None],
        "keys given twice": twice,
        **halves,
        "modules whose alpha is not one positive number": [
            module for module, alpha in alphas.items() if alpha.numel() != 1 or alpha.item() <= 0
        ],
    }
    raise_found(where, problems, "expected one down and one up factor per module, and alpha at most once")
    pairs = {module: (found["down"], found["up"]) for module, found in parts.items()}
    return pairs, {module: float(alpha) for module, alpha in alphas.items()}


def check_products(pairs: Mapping[str, tuple[Tensor, Tensor]], where: str | Path) -> None:
    """Check that every pair is the product of a Linear's or Conv2d's weight, whatever its rank.

    Raises:
        SpecMismatchError: lists the modules with their shapes.
    """
    wrong = [
        f"{module}: {shapes_text(shapes_of(pair))}"
        for module, pair in pairs.items()
        if not _is_product(shapes_of(pair)) or not all(factor.is_floating_point() for factor in pair)
    ]
    raise_found(
        where,
        {"modules whose factors do not fit each other, by shape or number format": wrong},
        "expected down (rank, in) and up (out, rank), floating point",
    )


def _is_product(shapes: tuple[WeightShape, WeightShape]) -> bool:
    """Whether (down, up) are the factors of a Linear or Conv2d weight."""
    down, up = shapes
    rank = down[0] if down else 0
    if rank < 1 or len(down) != len(up) or len(down) not in {2, 4}:
        return False
    weight = (up[0], *down[1:])
    return shapes == factor_shapes(weight, rank)


def shapes_of(pair: tuple[Tensor, Tensor]) -> tuple[WeightShape, WeightShape]:
    """Return the shapes of (down, up)."""
    return tuple(pair[0].shape), tuple(pair[1].shape)


def shapes_text(shapes: tuple[WeightShape, WeightShape]) -> str:
    """Write the shapes of (down, up) for a message."""
    return " and ".join("×".join(map(str, shape)) or "a single number" for shape in shapes)


def raise_found(where: str | Path, problems: Mapping[str, list[str]], expected: str) -> None:
    """Raise `SpecMismatchError` for the kinds of problems that have names; all kinds at once."""
    found = [f"{kind}: {listed(names)}" for kind, names in problems.items() if names]
    if found:
        raise SpecMismatchError(f"{where}: does not fit: {'; '.join(found)}; {expected}")


def rank_of(pair: tuple[Tensor, Tensor]) -> int:
    """Return the rank of one module's factors."""
    return pair[0].shape[0]


def factor_shapes(weight: WeightShape, rank: int) -> tuple[WeightShape, WeightShape]:
    """Return the shapes of (down, up) for a weight (out, in) or (out, in, height, width)."""
    out, inner, *kernel = weight
    return (rank, inner, *kernel), (out, rank, *(1 for _ in kernel))
