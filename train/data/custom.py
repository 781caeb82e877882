"""Data sets of one's own: anything with a length and items, by a registered name, an entry point or a Python path."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hypir_core.errors import ConfigError, HypirError, ImageFileError
from hypir_core.registry import Registry, lazy

from ..config import SourceConfig
from .axes import Scale, scales_of
from .source import Channels, Item, Weights

DATASETS: Registry[Callable[..., Any]] = Registry("data set", group="onestep_restore.datasets")
"""Name → a class or function that is given `root` and options, and returns something with ``len`` and items.

An item is a target [c *cells], a pair (low quality, target), or a mapping with ``hq`` and, as far as there are,
``lq``, ``prompt`` and ``valid``; arrays or tensors, in the values of the files. Its attribute ``weights`` may say how
often each is drawn, [n].
"""

DATASETS.add(
    "synthetic_microscopy",
    lazy(".synthetic:Synthetic", __package__),
    summary="beads, filaments and cells, made from numbers, brightest 1",
    lazy=True,
)

F = TypeVar("F", bound=Callable[..., Any])


def register_dataset(name: str, *, summary: str = "") -> Callable[[F], F]:
    """Return a decorator that makes a data set known under `name`; ``data.source.dataset`` takes it."""
    return DATASETS.decorator(name, summary=summary)


@dataclass(frozen=True, eq=False)
class CustomSource:
    """A data set of one's own as a source."""

    where: str
    data: Any
    channels: Channels
    scales: tuple[int, ...]
    paired: bool
    hash: str
    weights: Weights | None
    skipped: tuple[str, ...] = ()
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.data)

    def name(self, index: int) -> str:
        """Return the number of the item."""
        return f"item {index}"

    def item(self, index: int) -> Item:
        """Take one item.

        Raises:
            ImageFileError: it is nothing that can be trained on; begins with its number.
        """
        try:
            item = read_item(self.data[index])
        except (HypirError, OSError, ValueError, TypeError) as err:
            raise ImageFileError(f"{self.name(index)}: {err}") from err
        if problem := self._problem(item):
            raise ImageFileError(f"{self.name(index)}: {problem}")
        return item

    def _problem(self, item: Item) -> str:
        sides, axes = tuple(item.hq.shape[1:]), len(self.scales)
        if len(sides) != axes:
            return f"its target has the shape {list(item.hq.shape)}, expected channels and {axes} axes"
        if item.hq.shape[0] != self.channels.hq:
            return f"its target has {item.hq.shape[0]} channels, the generator makes {self.channels.hq}"
        if (item.lq is not None) != self.paired:
            return (
                "it has no low-quality half, and the first item has one"
                if self.paired
                else "it has a low-quality half, and the first item has none"
            )
        if item.lq is None:
            return ""
        if item.lq.shape[0] != self.channels.lq:
            return f"its low-quality half has {item.lq.shape[0]} channels, the generator takes {self.channels.lq}"
        small, factors = tuple(item.lq.shape[1:]), self.scales
        if tuple(n * k for n, k in zip(small, factors, strict=True)) == sides:
            return ""
        return (
            f"its target has {list(sides)} cells and its low-quality half {list(small)}; expected {list(factors)} times "
            "that"
        )


def open_custom(
    root: Path, config: SourceConfig, *, key: str, scale: Scale, channels: Channels, dims: int
) -> CustomSource:
    """Make a data set of one's own.

    Raises:
        ConfigError: it cannot be made, is empty, or its first item is nothing that can be trained on.
        UnknownNameError: no such data set.
    """
    where = f"{key.removesuffix('root')}source.dataset"
    assert config.dataset is not None
    DATASETS.allow(config.dataset, key=where)
    make = DATASETS.get(config.dataset)
    try:
        data: Any = make(root=root, **config.options)
        count = len(data)
    except TypeError as err:
        raise ConfigError(f"{where}: {config.dataset} does not take root and its options: {err}") from err
    if not count:
        raise ConfigError(f"{where}: {config.dataset} has no items at {root}")
    try:
        first = read_item(data[0])
    except (HypirError, OSError, ValueError, TypeError) as err:
        raise ConfigError(f"{where}: item 0 of {config.dataset}: {err}") from err
    digest = hashlib.sha256(f"{config.dataset} {count} {sorted(config.options.items())}".encode())
    digest.update(first.hq.contiguous().numpy().tobytes())
    source = CustomSource(
        where=f"{config.dataset} of {root}",
        data=data,
        channels=channels,
        scales=scales_of(scale, dims),
        paired=first.lq is not None,
        hash=digest.hexdigest(),
        weights=_weights(data, count, where),
    )
    try:
        source.item(0)
    except ImageFileError as err:
        raise ConfigError(f"{where}: {config.dataset}: {err}") from err
    return source


def read_item(given: Any) -> Item:
    """Return an item of any of the forms that `DATASETS` names.

    Raises:
        TypeError: it is another.
    """
    if isinstance(given, Item):
        return given
    if isinstance(given, Mapping):
        unknown = given.keys() - {"hq", "lq", "prompt", "valid"}
        if unknown or "hq" not in given:
            raise TypeError(
                f"expected a mapping with hq, and lq, prompt and valid where there are, got {sorted(given)}"
            )
        valid = given.get("valid")
        return Item(
            _tensor(given["hq"]),
            None if given.get("lq") is None else _tensor(given["lq"]),
            str(given.get("prompt", "")),
            None if valid is None else torch.as_tensor(np.asarray(valid)).bool(),
        )
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise TypeError(f"expected a pair (low quality, target), got {len(given)} things")
        return Item(_tensor(given[1]), _tensor(given[0]))
    return Item(_tensor(given))


def _tensor(values: Any) -> Tensor:
    return (values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))).to(torch.float32)


def _weights(data: Any, count: int, where: str) -> Weights | None:
    given = getattr(data, "weights", None)
    if given is None:
        return None
    numbers = torch.as_tensor(given, dtype=torch.float64).flatten()
    if len(numbers) != count or not bool((numbers >= 0).all()) or not float(numbers.sum()) > 0:
        raise ConfigError(f"{where}: expected {count} weights of 0 or more, not all 0, got {len(numbers)}")
    return Weights(numbers)
