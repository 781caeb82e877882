"""What a device can do at best: the rate of a large matrix product, to hold every other rate against."""

from __future__ import annotations

import time

import torch

SIDE = {"cpu": 2048, "cuda": 8192}
"""Large enough to fill the device, small enough to take well under a second."""

PRODUCTS = 4


def matrix_flops_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of a square matrix product.

    2n³ over the quickest of a few, which other work on the machine disturbed least.
    """
    n = SIDE.get(device.type, 2048)
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, n, generator=rng).to(device, dtype) for _ in range(2))
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        torch.mm(a, b)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
