"""Terms of a loss as settings make them, and pictures to compare with them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hypir_core.config import build
from train.config import LossConfig
from train.losses import Compared, WeightedLoss, build_losses

SMALL: dict[str, dict[str, Any]] = {
    "tv": {"beyond_target": False},
    "ssim": {"window": 5},
    "ms_ssim": {"scales": 2, "window": 3},
    "checkerboard": {"window": 2},
    "lpips": {"net": "alex", "pretrained": False},
    "vgg19": {"layers": {"1_2": 1.0, "2_1": 0.5}, "pretrained": False},
}
"""Options for the small pictures here."""


def pictures(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = torch.rand(*shape, generator=g)
    return a, (a + 0.3 * torch.randn(*shape, generator=g)).clamp(0, 1)


def number(x: torch.Tensor | float) -> float:
    return float(x.detach()) if isinstance(x, torch.Tensor) else float(x)


def term(name: str, **config: Any) -> WeightedLoss:
    return build_losses({name: build(LossConfig, config)})[0]


def compared(image: torch.Tensor, target: torch.Tensor, **more: Any) -> Compared:
    return Compared(image=image, target=target, **more)


@pytest.fixture(scope="module", autouse=True)
def extractor():
    """An importable module with features of one's own."""
    module: Any = ModuleType("features_of_mine")

    class Blurred(nn.Module):
        def __init__(self, *, by: int = 2):
            super().__init__()
            self.by, self.gain = by, nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
            return [x * self.gain, pool(x, self.by)]

    module.Blurred, module.number = Blurred, 3
    module.means = lambda x, *, times=1.0: times * x.flatten(2).mean(2)
    sys.modules[module.__name__] = module
    yield module.__name__
    del sys.modules[module.__name__]
