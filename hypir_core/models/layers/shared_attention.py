"""Self-attention whose tiles see the whole picture.

An attention over a tile knows nothing of what lies beyond; over the picture it would need every tile at once. Here the
keys and values of a sample are kept while it goes through the network, and stand for the rest of the picture: every
tile attends to its own cells and to the sample's, of which each counts as many times as there are cells that it stands
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .attention_processor import Attend, PlainProcessor, is_plain_attention
from .cpu_attention import attention

Site = Callable[[Attend], AbstractContextManager[None]]
"""A self-attention of a network: within it, it computes by the given function."""

MOST_CELLS = 256 * 256
"""Of a larger picture the sample counts as of one with so many cells (2048² px). Beyond, a tile's own cells would be
lost among them, and the network was trained on far fewer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """What one self-attention saw of the sample, for each picture."""

    keys: Tensor
    """[images h s d]."""
    values: Tensor
    """[images h s d]."""
    shares: Tensor
    """[images s], float32, rows that sum to 1: how much each counts."""
    picture_cells: float
    """How many cells the whole picture has, or MOST_CELLS."""

    def is_finite(self) -> bool:
        """Say whether all are numbers."""
        return bool(self.keys.isfinite().all() and self.values.isfinite().all())


@dataclass(frozen=True, eq=False)
class SharedAttention:
    """The self-attentions of one network over a whole map."""

    sites: Sequence[Site]

    @contextmanager
    def gathering(self, shares: Tensor, picture_in_crops: float) -> Iterator[dict[Site, Tokens]]:
        """Within it, crops attend to themselves; yields what they had to see, filled as they run.

        Args:
            shares: [crops images], each column sums to 1: how much a crop counts. Batches must come as
                [crops · images …], one crop of every image after the other.
            picture_in_crops: the area of the picture over that of a crop.
        """
        found: dict[Site, Tokens] = {}

        def gather(site: Site, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            cells = key.shape[-2]
            found[site] = Tokens(
                keys=_by_image(key, shares),
                values=_by_image(value, shares),
                shares=(shares.T / cells).repeat_interleave(cells, dim=1),
                picture_cells=min(cells * picture_in_crops, MOST_CELLS),
            )
            return attention(query, key, value)

        with self._replaced({site: partial(gather, site) for site in self.sites}):
            yield found

    @contextmanager
    def using(self, found: Mapping[Site, Tokens]) -> Iterator[None]:
        """Within it, batches [tiles · images …] attend to themselves and to what was `found`."""
        with self._replaced({site: partial(_attend_beyond, tokens) for site, tokens in found.items()}):
            yield

    @contextmanager
    def _replaced(self, attend: Mapping[Site, Attend]) -> Iterator[None]:
        with ExitStack() as stack:
            for site, function in attend.items():
                stack.enter_context(site(function))
            yield


def diffusers_sites(net: nn.Module) -> tuple[Site, ...]:
    """Return the plain attentions of a diffusers VAE, all of which look at themselves."""
    return tuple(partial(_with_processor, module) for module in net.modules() if is_plain_attention(module))


@contextmanager
def _with_processor(module: Any, attend: Attend) -> Iterator[None]:
    before = module.processor
    module.processor = PlainProcessor(attend)
    try:
        yield
    finally:
        module.processor = before


def _by_image(x: Tensor, shares: Tensor) -> Tensor:
    """Return [crops · images h m d] as [images h crops·m d]."""
    return x.unflatten(0, shares.shape).permute(1, 2, 0, 3, 4).flatten(2, 3)


def _attend_beyond(tokens: Tokens, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    images = len(tokens.keys)
    own = key.shape[-2]
    beyond = tokens.picture_cells - own
    if beyond <= 0:
        return attention(query, key, value)
    made = []
    for i in range(images):
        keys, values = (
            torch.cat([mine[i::images], seen[i].to(mine).expand(len(mine[i::images]), -1, -1, -1)], dim=-2)
            for mine, seen in ((key, tokens.keys), (value, tokens.values))
        )
        counts = torch.cat([torch.ones(own), (tokens.shares[i] * beyond).cpu()])
        made.append(attention(query[i::images], keys, values, counts.log().to(query.device)))
    return made[0] if images == 1 else torch.stack(made, 1).flatten(0, 1)
