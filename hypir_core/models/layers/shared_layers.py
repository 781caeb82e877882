"""What tiles of one picture share, so that a network treats all alike: statistics of norms, context of attentions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn

from .shared_attention import SharedAttention, Site, Tokens
from .shared_norms import PerPass, SharedNorms


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a sample of a picture showed."""

    moments: Mapping[nn.Module, PerPass]
    tokens: Mapping[Site, Tokens]

    def is_finite(self) -> bool:
        """Say whether all of it are numbers."""
        moments = (part for passes in self.moments.values() for part in passes.values())
        return all(part.is_finite() for part in (*moments, *self.tokens.values()))


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedLayers:
    """The layers of one network that would look beyond a tile."""

    norms: SharedNorms
    attention: SharedAttention = field(default_factory=lambda: SharedAttention(()))
    """Empty where tiles should attend to themselves only."""

    @contextmanager
    def gathering(self, shares: Tensor, picture_in_crops: float) -> Iterator[Seen]:
        """Within it, crops of a picture go through the network together; yields what they showed.

        Args:
            shares: [crops images], each column sums to 1: how much a crop counts. Batches must come as
                [crops · images …], one crop of every image after the other.
            picture_in_crops: the area of the picture over that of a crop.
        """
        with (
            self.norms.gathering(shares) as moments,
            self.attention.gathering(shares, picture_in_crops) as tokens,
        ):
            yield Seen(moments=moments, tokens=tokens)

    @contextmanager
    def using(self, seen: Seen) -> Iterator[None]:
        """Within it, batches [tiles · images …] are treated by what was seen."""
        with self.norms.using(seen.moments), self.attention.using(seen.tokens):
            yield
