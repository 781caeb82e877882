"""One random generator per purpose and index, so that what is drawn depends on nothing else."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator_for(seed: int, purpose: str, *index: int) -> torch.Generator:
    """Return a CPU generator that depends on (seed, purpose, index) alone, mixed by numpy's SeedSequence."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *index]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """Draw one number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def below(generator: torch.Generator, end: int) -> int:
    """Draw one whole number from 0 … end − 1."""
    return int(torch.randint(end, (), generator=generator))
