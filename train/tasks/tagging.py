"""Seeing alike: what the tagger says of the clean picture is what it should say of the degraded one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from hypir_core.errors import ConfigError
from hypir_core.image.ranges import UNIT, AnyRange
from hypir_core.image.resize import resize

from ..config import TrainConfig
from ..config.checks import raise_all
from ..data.batch import Batch
from ..generators import Generator
from .base import Attempt


class TaggingTask:
    """The squared difference of the tokens, and the cross-entropy of the tags, whose targets are probabilities.

    Of the latter, what is above the targets' own entropy: the same gradient, and 0 where both see alike.
    """

    values: AnyRange = UNIT

    def __init__(self, config: TrainConfig, generator: Generator):
        """Take the generator.

        Raises:
            ConfigError: it does not see, or a setting would not be read; lists all of them.
        """
        if generator.sight is None:
            raise ConfigError(
                f"task: tagging is for the generator tagger_lora, got {config.generator.name}; use task=gan"
            )
        problems = [
            f"{key}: not read with task=tagging, which makes no picture; set it to {{}}"
            for key in ("losses", "discriminators")
            if getattr(config, key)
        ]
        if config.strategy.name != "plain":
            problems.append(f"strategy.name: expected plain with task=tagging, got {config.strategy.name}")
        raise_all(problems)
        self._sight = generator.sight

    def attempt(self, module: nn.Module, batch: Batch, step: int) -> Attempt:
        """Return how far what is seen in the degraded pictures is from what the clean ones show."""
        del step
        tokens, tags = self._distances(module, batch)
        of_tokens, of_tags = self._sight.weights
        terms = {"tokens": (of_tokens, tokens), "tags": (of_tags, tags)}
        return Attempt(batch, None, {name: term for name, term in terms.items() if term[0] > 0})

    def restore(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the degraded pictures, enlarged: nothing is restored."""
        del module
        h, w = batch.hq.shape[-2:]
        return resize(batch.lq, (h, w)).clamp(0, 1)

    def checks(self, module: nn.Module, batch: Batch) -> Mapping[str, float]:
        """Return both distances."""
        tokens, tags = self._distances(module, batch)
        return {"tokens": float(tokens), "tags": float(tags)}

    def _distances(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        wanted, wanted_logits = self._sight.clean(batch.hq)
        tokens, logits = self._sight.see(module, batch.lq)
        sure, entropy_of = wanted_logits.sigmoid(), F.binary_cross_entropy_with_logits
        return F.mse_loss(tokens, wanted), entropy_of(logits, sure) - entropy_of(wanted_logits, sure)
