"""The list of losses, and how one of one's own gets into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from hypir_core.components import LOSS_REGISTRY
from hypir_core.registry import Registry, lazy

ImageLoss = Callable[..., Tensor]

LOSSES: Registry[ImageLoss] = LOSS_REGISTRY
"""Name → a function of image and target with keyword options, or a class with its options dataclass as `Options`.

The list itself is the library's, and filled here. A class is made once per run, as ``loss(options, key=…, device=…)``,
and then called with image and target.
"""

for _name, _target, _summary in (
    ("l1", ".pixel:l1", "mean absolute error"),
    ("l2", ".pixel:l2", "mean squared error"),
    ("huber", ".pixel:huber", "squared below `delta`, absolute above (Huber 1964)"),
    ("charbonnier", ".pixel:charbonnier", "smooth absolute error (Charbonnier et al. 1994)"),
    ("ssim", ".structure:ssim_loss", "1 − structural similarity (Wang et al. 2004)"),
    ("ms_ssim", ".structure:ms_ssim_loss", "1 − SSIM over several scales (Wang et al. 2003)"),
    (
        "fourier",
        ".structure:fourier",
        "absolute error of the spectrum (Jiang et al., arXiv 2012.12821, unweighted)",
    ),
    ("gradient", ".structure:gradient", "absolute error of finite differences; blind to a constant offset"),
    ("tv", ".structure:total_variation", "mean absolute finite difference, all of it or beyond the target's"),
    (
        "checkerboard",
        ".structure:checkerboard",
        "the part of the error that repeats every `period` px (Odena et al. 2016 name it)",
    ),
    ("sam", ".spectral:sam", "angle between the bands of a pixel in file values (Kruse et al. 1993)"),
    (
        "spectral_angle",
        ".spectral:spectral_angle",
        "the same counted from black, exact at small angles",
    ),
    ("histogram", ".spectral:histogram", "distance of the distributions of values, wherever they are"),
    ("log_fourier", ".frequency:log_fourier", "error of the logarithm of every frequency's strength"),
    (
        "spectral",
        ".frequency:spectral",
        "error of the logarithm of the strength, ring by ring of frequencies",
    ),
    (
        "multi_scale_frequency",
        ".frequency:multi_scale_frequency",
        "log_fourier and spectral at full, half and quarter size",
    ),
    (
        "high_frequency",
        ".frequency:high_frequency",
        "error of the spectrum, of fine detail twice, and of edges",
    ),
    ("frequency_bands", ".frequency:frequency_bands", "log_fourier band by band, the coarse one counts most"),
    ("haar", ".frequency:haar", "absolute error of Haar's wavelets (Mallat 1989)"),
    ("pyramid", ".multiscale:pyramid", "mean squared error at full size, a half, a quarter and an eighth"),
    ("cross_resolution", ".multiscale:cross_resolution", "mean squared error at half the size"),
    ("poisson_nll", ".counts:poisson_nll", "minus the log likelihood of counts, in file values"),
    (
        "lpips",
        ".perceptual:Lpips",
        "distance of deep features, as people see it (Zhang et al., arXiv 1801.03924)",
    ),
    ("vgg19", ".vgg19:Vgg19", "distance of the features of VGG19 (Johnson et al., arXiv 1603.08155)"),
    ("features", ".features:Features", "distance of what a trained denoiser's own encoder sees"),
    ("custom", ".extractors:Extractor", "distance of the features of a network of one's own"),
):
    LOSSES.add(
        _name,
        lazy(_target, __package__),
        summary=_summary,
        lazy=True,
        aliases={"l1": ("mae",), "l2": ("mse",), "lpips": ("perceptual",)}.get(_name, ()),
    )

L = TypeVar("L", bound=Callable[..., Any])


def register_loss(name: str, *, summary: str = "") -> Callable[[L], L]:
    """Return a decorator that makes a loss known under `name`; `domain.works_in` says in which units it compares."""
    return LOSSES.decorator(name, summary=summary)
