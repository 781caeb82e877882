"""Distance of the features of VGG19 (Johnson et al., arXiv 1603.08155), after the activations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hypir_core.errors import ShapeError, SpecMismatchError, WeightsNotFoundError
from hypir_core.weights.tensors import read_tensors

from ..config import VGG_CONVOLUTIONS, Domain, Vgg19Config
from ..three_bands import three_bands
from .domain import works_in
from .extractors import DISTANCES

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the five blocks."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures in [0,1], red, green, blue."""

RANDOM_SEED = 0
"""Of a network that is not pretrained: no checkpoint holds it, so it must come out the same every time."""


@works_in(Domain.unit, only=True, axes=(2,))
class Vgg19:
    """Weighted mean distance of chosen layers; a scalar for a batch [b 3 h w], [0,1], float32."""

    Options = Vgg19Config

    def __init__(self, options: Vgg19Config, *, key: str, device: torch.device | None = None):
        """Make the network as far as the deepest layer; `key` is what errors call the options.

        Raises:
            WeightsError: the weights cannot be had, or are not VGG19's.
        """
        places = _convolutions()
        self._layers = {places[name] + 1: weight for name, weight in options.layers.items()}
        wanted = {name: place for name, place in places.items() if place < max(self._layers)}
        tensors = _tensors(options, key) if options.pretrained else None
        self.network = _network(wanted, tensors, f"{key}.weights")
        self.network.requires_grad_(False).eval().to(device or "cpu")
        mean, deviation = (MEAN, DEVIATION) if options.imagenet else ((0.0,) * 3, (1.0,) * 3)
        self._mean, self._deviation = (
            torch.tensor(numbers, device=device or "cpu").view(3, 1, 1) for numbers in (mean, deviation)
        )
        self._distance, self._channels = DISTANCES[options.distance], options.channels
        self._key = f"{key}.channels"
        self.least_px = 2 ** max(int(name[0]) - 1 for name in options.layers)

    def __call__(self, image_01: Tensor, target_01: Tensor) -> Tensor:
        """Return the sum over the layers of weight · mean distance.

        Raises:
            ShapeError: the images are too small for the deepest layer.
            ConfigError: they have other channels than three, and none are chosen.
        """
        if min(image_01.shape[-2:]) < self.least_px:
            raise ShapeError(
                f"vgg19: expected images of at least {self.least_px} px a side, got {tuple(image_01.shape[-2:])}"
            )
        with torch.no_grad():
            true = self.features(target_01)
        mine = self.features(image_01)
        distances = [
            weight * self._distance(mine[place], true[place]) for place, weight in self._layers.items()
        ]
        return torch.stack(distances).sum()

    def features(self, image_01: Tensor) -> dict[int, Tensor]:
        """Return the chosen layers' features by their place in torchvision's `features`."""
        x = (three_bands(image_01, self._channels, key=self._key) - self._mean) / self._deviation
        found = {}
        for place, layer in enumerate(self.network):
            x = layer(x)
            if place in self._layers:
                found[place] = x
        return found


def _convolutions() -> dict[str, int]:
    """Return the place of every convolution in torchvision's `features`; a ReLU follows each, a pool each block."""
    places, place = {}, 0
    for block, count in enumerate(VGG_CONVOLUTIONS, 1):
        for number in range(1, count + 1):
            places[f"{block}_{number}"] = place
            place += 2
        place += 1
    return places


def _network(wanted: Mapping[str, int], tensors: Mapping[str, Tensor] | None, key: str) -> nn.Sequential:
    """Return the layers up to the last wanted convolution and its ReLU; without tensors they are random.

    Raises:
        SpecMismatchError: a tensor is absent or has another shape.
    """
    layers: list[nn.Module] = []
    channels = 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        for name, place in wanted.items():
            if len(layers) < place:
                layers.append(nn.MaxPool2d(2))
            if tensors is None:
                convolution = nn.Conv2d(channels, WIDTHS[int(name[0]) - 1], 3, padding=1)
            else:
                convolution = _filled(tensors, place, channels, key)
            layers += [convolution, nn.ReLU()]
            channels = convolution.out_channels
    return nn.Sequential(*layers)


def _filled(tensors: Mapping[str, Tensor], place: int, channels: int, key: str) -> nn.Conv2d:
    """Return the convolution of a place, as wide as the file's, which may be a narrower VGG19."""
    weight, bias = (tensors.get(f"features.{place}.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None or weight.shape[1:] != (channels, 3, 3) or len(bias) != len(weight):
        raise SpecMismatchError(
            f"{key}: expected torchvision's weights of VGG19, where features.{place} has [n, {channels}, 3, 3], got "
            f"{'none' if weight is None else list(weight.shape)}; use that file"
        )
    convolution = nn.Conv2d(channels, len(weight), 3, padding=1)
    convolution.load_state_dict({"weight": weight, "bias": bias})
    return convolution


def _tensors(options: Vgg19Config, key: str) -> Mapping[str, Tensor]:
    """Return the tensors of the file that is named, or of torchvision's cache; nothing is downloaded."""
    if options.weights:
        return read_tensors(options.weights).tensors
    from torchvision.models import VGG19_Weights

    url = VGG19_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise WeightsNotFoundError(
            f"{key}: VGG19 needs torchvision's weights (548 MB, BSD 3-Clause), which are not at {path}; "
            f"get {url} and set {key}.weights to the file"
        )
    return read_tensors(path).tensors
