"""LPIPS: how different two images look to a network that learnt to see (Zhang et al., arXiv 1801.03924)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypir_core.errors import MissingDependencyError, ShapeError, SpecMismatchError, WeightsNotFoundError
from hypir_core.weights.tensors import read_tensors

from ..config import Domain, LpipsConfig, LpipsNet
from ..three_bands import three_bands
from .domain import works_in

LEAST_PX = {LpipsNet.alex: 31, LpipsNet.vgg: 16}
"""Below it nothing is left after the network's strides."""

RANDOM_SEED = 0
"""Of a backbone that is not pretrained: no checkpoint holds it, so it must come out the same every time."""


@works_in(Domain.pm1, only=True, axes=(2,))
class Lpips:
    """LPIPS, version 0.1, by the package `lpips`; one scalar for a batch [b c h w], [-1,1], float32.

    The linear weights come with the package, the backbone's are torchvision's.
    """

    Options = LpipsConfig

    def __init__(self, options: LpipsConfig, *, key: str, device: torch.device | None = None):
        """Make the network; `key` is what errors call the options.

        Raises:
            MissingDependencyError: the package `lpips` is not installed.
            WeightsError: the backbone's weights cannot be had or do not fit.
        """
        try:
            import lpips
        except ImportError as err:
            raise MissingDependencyError("lpips", "train", "LPIPS") from err
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # lpips calls torchvision in a way that torchvision calls old.
            warnings.simplefilter("ignore", UserWarning)
            torch.manual_seed(RANDOM_SEED)
            self.network = lpips.LPIPS(net=options.net.value, pnet_rand=True, verbose=False)
        if options.pretrained:
            _load_backbone(self.network.net, options, key)
        self.network.requires_grad_(False).eval().to(device or "cpu")
        self.least_px = LEAST_PX[options.net]
        self._channels, self._key = options.channels, f"{key}.channels"

    def __call__(self, image_pm1: Tensor, target_pm1: Tensor) -> Tensor:
        """Return the mean distance over the batch.

        Raises:
            ShapeError: the images are too small for the network.
            ConfigError: they have other channels than three, and none are chosen.
        """
        if min(image_pm1.shape[-2:]) < self.least_px:
            raise ShapeError(
                f"lpips: expected images of at least {self.least_px} px a side, got {tuple(image_pm1.shape[-2:])}"
            )
        image, target = (three_bands(each, self._channels, key=self._key) for each in (image_pm1, target_pm1))
        return self.network(image, target).mean()


def _load_backbone(backbone: torch.nn.Module, options: LpipsConfig, key: str) -> None:
    """Fill lpips' backbone, whose layers are torchvision's `features`, cut into slices."""
    if options.backbone:
        tensors, came_from = read_tensors(options.backbone).tensors, options.backbone
    else:
        tensors, came_from = _torchvision_tensors(options.net, key), "torchvision"
    own = backbone.state_dict()
    names = {name: f"features.{name.split('.', 1)[1]}" for name in own}
    differing = [
        source
        for name, source in names.items()
        if source not in tensors or tensors[source].shape != own[name].shape
    ]
    if differing:
        raise SpecMismatchError(
            f"{key}.backbone: expected torchvision's weights of {_file(options.net)[0]}, got {came_from}, where "
            f"{differing[0]} is absent or has another shape; use that file"
        )
    backbone.load_state_dict({name: tensors[source] for name, source in names.items()})


def _torchvision_tensors(net: LpipsNet, key: str) -> dict[str, Tensor]:
    """Return torchvision's weights, from its cache or downloaded."""
    name, weights = _file(net)
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as err:
        cache = Path(torch.hub.get_dir()) / "checkpoints" / name
        raise WeightsNotFoundError(
            f"{key}: LPIPS needs the weights of torchvision's {net.value} network, which cannot be downloaded "
            f"({err}); get {weights.url} elsewhere and place it as {cache}, or set {key}.backbone to it"
        ) from err


def _file(net: LpipsNet) -> tuple[str, Any]:
    """Return the name of torchvision's file and its entry there."""
    from torchvision import models

    weights = {
        LpipsNet.alex: models.AlexNet_Weights.IMAGENET1K_V1,
        LpipsNet.vgg: models.VGG16_Weights.IMAGENET1K_V1,
    }[net]
    return weights.url.rpartition("/")[2], weights
