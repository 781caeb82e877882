"""What a denoiser's own encoder sees: features that were learned from such pictures, and that know no colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypir_core.config import strict
from hypir_core.engines.pixel.network import read_pixel
from hypir_core.errors import ConfigError, ShapeError

from ..config import Domain
from .domain import works_in


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Whose features are compared."""

    __pydantic_config__ = strict

    weights: Path
    """A trained diffusion model of pixels, as training exports it: a random network sees nothing that counts."""


@works_in(Domain.pm1, axes=(2,))
class Features:
    """Mean squared difference of the features of every level, each of mean square 1 over its channels.

    The encoder is frozen, asked at timestep 0 and told no measurement. Pictures are [b c h w] with black as -1; the
    channels are those of the network.
    """

    Options = FeaturesConfig

    def __init__(self, options: FeaturesConfig, *, key: str, device: torch.device | None = None):
        """Read the network; `key` is what errors call the options.

        Raises:
            WeightsError: it cannot be read, or is of another kind.
            ConfigError: its architecture has no encoder that is known here.
        """
        self._file = read_pixel(options.weights)
        net = self._file.net.float().to(device or "cpu")
        found = getattr(getattr(net, "net", None), "down_blocks", None)
        if found is None:
            raise ConfigError(
                f"{key}.weights: expected a unet, got {self._file.spec.architecture}; its encoder is what is compared"
            )
        self._net, self._levels, self._key = net, list(found), key

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Raises:
            ShapeError: the network is of other channels.
        """
        with torch.no_grad():
            true = self._of(target)
        apart = [F.mse_loss(a, b) for a, b in zip(self._of(image), true, strict=True)]
        return torch.stack(apart).mean()

    def _of(self, image: Tensor) -> list[Tensor]:
        """Return what every level of the encoder gives, with vectors of one length at every place."""
        spec = self._file.spec
        if image.shape[1] != spec.channels:
            raise ShapeError(
                f"{self._key}.weights: expected a network of {image.shape[1]} channels, got one of {spec.channels}"
            )
        seen: list[Tensor] = []

        def take(_level: nn.Module, _given: object, out: tuple[Tensor, object]) -> None:
            seen.append(F.normalize(out[0], dim=1) * out[0].shape[1] ** 0.5)

        hooks = [level.register_forward_hook(take) for level in self._levels]
        try:
            nothing = image.new_zeros(len(image), spec.in_channels - spec.channels, *image.shape[2:])
            self._net(torch.cat([image, nothing], 1), 0.0)
        finally:
            for hook in hooks:
                hook.remove()
        return seen
