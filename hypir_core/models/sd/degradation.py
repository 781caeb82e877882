"""How blurred and how noisy a picture is: two numbers, as S3Diff reads them.

The estimator is MM-RealSR's (Mou et al., arXiv 2207.12987, section 3.1): for each number residual blocks without norms,
the mean over the picture, two linear layers and a sigmoid. Published as ``de_net.pth``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import SpecMismatchError
from .backbone import fill

WANTED = "the estimator of blur and noise of S3Diff (de_net.pth)"

COUNT = 2
"""Numbers that are estimated."""

WIDTHS = (64, 64, 64, 128)
"""Channels of the four stages."""
STAGE_BLOCKS = 2
HALVED_AFTER = 2
"""The stage behind which a convolution halves the resolution; others keep it."""

BAND_PX = 1024
"""A picture is looked at in parts of this side, so that memory is bounded; smaller pictures are one part."""


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def _body() -> nn.Sequential:
    layers: list[nn.Module] = []
    for stage, width in enumerate(WIDTHS):
        layers += [_Residual(width) for _ in range(STAGE_BLOCKS)]
        following = WIDTHS[min(stage + 1, len(WIDTHS) - 1)]
        if stage == HALVED_AFTER:
            layers.append(nn.Conv2d(width, following, 3, 2, 1))
        elif following != width:
            layers.append(nn.Conv2d(width, following, 3, padding=1))
    return nn.Sequential(*layers)


class DegradationEstimator(nn.Module):
    """[1 3 h w] in [0,1] → [2], blur and noise, each from 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = nn.ModuleList(nn.Conv2d(3, WIDTHS[0], 3, padding=1) for _ in range(COUNT))
        self.body = nn.ModuleList(_body() for _ in range(COUNT))
        self.fc_degree = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTHS[-1], 512), nn.ReLU(), nn.Linear(512, 1), nn.Sigmoid())
            for _ in range(COUNT)
        )

    @torch.inference_mode()
    def forward(self, image_01: Tensor) -> Tensor:
        """Estimate both; larger pictures than `BAND_PX` in parts, whose means are weighed by their areas."""
        degrees = []
        for first, body, last in zip(self.conv_first, self.body, self.fc_degree, strict=True):
            total, cells = torch.zeros(WIDTHS[-1], device=image_01.device), 0
            for rows in image_01.split(BAND_PX, dim=-2):
                for part in rows.split(BAND_PX, dim=-1):
                    features = body(first(part))[0].flatten(1)
                    total, cells = total + features.sum(1), cells + features.shape[1]
            degrees.append(last(total / cells))
        return torch.cat(degrees)


def degradation_estimator(tensors: Mapping[str, Tensor], where: Path) -> DegradationEstimator:
    """Return the estimator that a file holds, frozen, in float32.

    Raises:
        SpecMismatchError: the file holds something else.
    """
    if "conv_first.0.weight" not in tensors:
        raise SpecMismatchError(
            f"{where}: expected {WANTED}, got other tensors, the first is {next(iter(tensors))}; give the right file"
        )
    with torch.device("meta"):
        empty: Any = DegradationEstimator()
    made = fill(empty, tensors, torch.float32, where, wanted=WANTED)
    assert isinstance(made, DegradationEstimator)
    return made
