"""LPIPS, when the weights of its network are on this machine already: nothing is downloaded here.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018. The linear
heads (version 0.1) come inside torchmetrics; the AlexNet below them is torchvision's, in torch's hub folder.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ..errors import MissingDependencyError, ShapeError, WeightsError, WeightsNotFoundError

LPIPS_MIN_SIDE_PX = 64
"""Below this the last layers of AlexNet have hardly a cell left."""

Lpips = Callable[[Tensor, Tensor], Tensor]
"""A function of two pictures [b c h w], 1 or 3 channels, range [0,1]; returns [b], 0 for equal pictures."""


def why_no_lpips() -> str | None:
    """Return why LPIPS cannot be measured here, with the command that helps, or None if it can."""
    for package in ("torchmetrics", "torchvision"):
        if find_spec(package) is None:
            return str(MissingDependencyError(package, "metrics", "LPIPS"))
    path = _alexnet_path()
    if not path.is_file():
        return (
            f"LPIPS needs the AlexNet weights at {path} (233 MB, BSD 3-Clause); to fetch them run: "
            "python -c \"import torchvision; torchvision.models.alexnet(weights='IMAGENET1K_V1')\""
        )
    return None


def load_lpips(device: torch.device | None = None) -> Lpips:
    """Load AlexNet and its heads, and return the metric.

    Raises:
        WeightsNotFoundError: something is missing; says what `why_no_lpips` says.
        WeightsError: the weight file holds something else than tensors, or is damaged.
    """
    reason = why_no_lpips()
    if reason is not None:
        raise WeightsNotFoundError(reason)
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    path = _alexnet_path()
    try:
        # torchvision unpickles its cache without limits; look first that the file holds tensors only.
        torch.load(path, map_location="cpu", weights_only=True)
        metric = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as err:
        raise WeightsError(f"{path} holds no readable AlexNet weights; delete it and fetch it again") from err

    @torch.no_grad()
    def lpips(image_01: Tensor, truth_01: Tensor) -> Tensor:
        height, width = truth_01.shape[-2:]
        if image_01.shape[-2:] != truth_01.shape[-2:] or min(height, width) < LPIPS_MIN_SIDE_PX:
            raise ShapeError(
                f"LPIPS needs two pictures of the same size, sides of at least {LPIPS_MIN_SIDE_PX} px, got "
                f"{list(image_01.shape)} and {list(truth_01.shape)}"
            )
        pairs = zip(_as_rgb(image_01).split(1), _as_rgb(truth_01).split(1), strict=True)
        return torch.stack([metric(image.to(device), truth.to(device)) for image, truth in pairs])

    return lpips


def _alexnet_path() -> Path:
    from torchvision.models import AlexNet_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]


def _as_rgb(image_01: Tensor) -> Tensor:
    return image_01.float().clamp(0, 1).expand(-1, 3, -1, -1)
