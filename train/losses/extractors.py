"""Losses on features: what a network sees of the image and of its target."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypir_core.errors import ConfigError, ShapeError
from hypir_core.registry import load_target

from ..config import Distance, Domain, ExtractorConfig
from .domain import works_in

DISTANCES: dict[Distance, Callable[[Tensor, Tensor], Tensor]] = {
    Distance.l1: F.l1_loss,
    Distance.l2: F.mse_loss,
}


@works_in(Domain.unit)
class Extractor:
    """Features of one's own, of images [b c *spatial], [0,1] unless the settings say otherwise.

    They are a tensor, or several of any shapes; the loss is the mean of their distances. A module is not trained.
    """

    Options = ExtractorConfig

    def __init__(self, options: ExtractorConfig, *, key: str, device: torch.device | None = None):
        """Import the target and make it; `key` is what errors call the options.

        Raises:
            ConfigError: the path leads nowhere, or its target does not take the options.
        """
        thing = load_target(options.target, key=f"{key}.target")
        if not callable(thing):
            raise ConfigError(f"{key}.target: {options.target} is no function, module or class of such")
        try:
            self._features: Any = thing(**options.options) if inspect.isclass(thing) else thing
            self._options = {} if inspect.isclass(thing) else options.options
            if not isinstance(self._features, nn.Module):
                inspect.signature(self._features).bind(None, **self._options)
        except TypeError as err:
            raise ConfigError(f"{key}.options: {options.target} does not take them: {err}") from err
        if isinstance(self._features, nn.Module):
            self._features.requires_grad_(False).eval().to(device or "cpu")
        self._distance, self._key = DISTANCES[options.distance], key

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the mean distance over the features.

        Raises:
            ShapeError: there are no features.
        """
        with torch.no_grad():
            true = self._of(target)
        distances = [self._distance(a, b) for a, b in zip(self._of(image), true, strict=True)]
        return torch.stack(distances).mean()

    def _of(self, image: Tensor) -> Sequence[Tensor]:
        found = self._features(image, **self._options)
        features = [found] if isinstance(found, Tensor) else list(found)
        if not features:
            raise ShapeError(f"{self._key}.target: expected one feature or more, got none")
        return features
