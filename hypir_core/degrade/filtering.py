"""Blur with any odd kernel, through the FFT.

A direct 21×21 depthwise convolution of a 128×128 colour crop takes several times as long on one CPU thread.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def filter_image(image_bchw: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel with one kernel; reflected borders, any picture size down to 1×1.

    Shapes: image [b c h w] float32, kernel [k k] with k odd; returns [b c h w], not clamped.
    Convention: borders mirror without repeating the edge pixel (torch's "reflect"), again and again where the
    picture is narrower than the kernel.
    """
    margin = kernel.shape[-1] // 2
    h, w = image_bchw.shape[-2:]
    rows = _reflected(h, margin, image_bchw.device)
    columns = _reflected(w, margin, image_bchw.device)
    padded = image_bchw[..., rows[:, None], columns]
    size = (_fast_length(h + 2 * margin), _fast_length(w + 2 * margin))
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernel.to(image_bchw), s=size)
    start = 2 * margin
    return torch.fft.irfft2(spectrum, s=size)[..., start : start + h, start : start + w]


def _reflected(length: int, margin: int, device: torch.device) -> Tensor:
    if length == 1:
        return torch.zeros(1 + 2 * margin, dtype=torch.long, device=device)
    last = length - 1
    steps = torch.arange(-margin, length + margin, device=device)
    return last - (steps.remainder(2 * last) - last).abs()


@lru_cache(maxsize=4096)
def _fast_length(length: int) -> int:
    """Return the next even number with no prime factor above 5, for which the FFT is quick."""
    candidate = length + length % 2
    while True:
        rest = candidate
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return candidate
        candidate += 2
