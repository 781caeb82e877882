"""Global means that are alike for every tile of a picture.

Channel attention weights a channel by its mean over everything the network is given: cut into tiles, a picture is
weighted tile by tile, and borders show. Here the means are estimated once, on a sample of the picture that goes through
the network together (`tiling.sample`), and then used for all tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

Means = Mapping[nn.Module, Tensor]
"""Pool → its means, [images c 1 …]."""


def global_pools(net: nn.Module) -> tuple[nn.Module, ...]:
    """Return the layers of a network that give one mean per channel."""
    kinds = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
    return tuple(m for m in net.modules() if isinstance(m, kinds) and m.output_size == 1)


@dataclass(frozen=True, eq=False)
class SharedPools:
    """The global pools of one network."""

    pools: tuple[nn.Module, ...]

    @contextmanager
    def gathering(self, shares: Tensor) -> Iterator[dict[nn.Module, Tensor]]:
        """Within it, crops of a picture are pooled together; yields the means, filled as they run.

        Args:
            shares: [crops images], each column sums to 1: how much a crop counts. Batches must come as
                [crops · images …], one crop of every image after the other.
        """
        found: dict[nn.Module, Tensor] = {}

        def gather(pool: nn.Module) -> Callable[[Tensor], Tensor]:
            def forward(x: Tensor) -> Tensor:
                means = x.float().mean(tuple(range(2, x.ndim)), keepdim=True).unflatten(0, shares.shape)
                weights = shares.to(means).reshape(*shares.shape, *[1] * (x.ndim - 1))
                found[pool] = (weights * means).sum(0)
                return _for_all(found[pool], x)

            return forward

        with self._replaced(gather):
            yield found

    @contextmanager
    def using(self, found: Means) -> Iterator[None]:
        """Within it, batches [tiles · images …] get the means that were `found`."""

        def use(pool: nn.Module) -> Callable[[Tensor], Tensor]:
            return lambda x: _for_all(found[pool], x)

        with self._replaced(use):
            yield

    @contextmanager
    def _replaced(self, forward: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> Iterator[None]:
        try:
            for pool in self.pools:
                pool.__dict__["forward"] = forward(pool)
            yield
        finally:
            for pool in self.pools:
                pool.__dict__.pop("forward", None)  # the class's own is back


def _for_all(means: Tensor, x: Tensor) -> Tensor:
    """Return the means of every image for a batch [n · images …], in its format."""
    each = means.to(x)
    return each.repeat(len(x) // len(each), *[1] * (each.ndim - 1))
