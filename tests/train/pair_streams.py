"""Streams of training pairs, small and without workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from train.config import Crop, DataConfig, RecipeShare
from train.data.batch import Batch
from train.data.degrading import build_mixture
from train.data.opening import open_source
from train.data.pairs import PairSequence
from train.data.source import Channels
from train.data.stream import PairStream

CPU = torch.device("cpu")
SCALE = 2
BICUBIC = (RecipeShare(recipe="bicubic"),)


def levels(seed: int, *, height: int = 40, width: int = 48, channels: int = 3) -> np.ndarray:
    """16-bit values that 8 bits cannot hold."""
    return np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)


def data(root: Path | None = None, **changes) -> DataConfig:
    plain = DataConfig(
        root=Path(), batch_size=4, crop_px=16, hflip=False, degrade=BICUBIC, workers=0, crop=Crop.random
    )
    return replace(plain, root=root, **changes)


def sequence(config: DataConfig, *, channels: Channels | None = None, scale: int = SCALE) -> PairSequence:
    mixture = build_mixture(config.degrade, scale=scale, sharpen_target=config.sharpen_target)
    source = open_source(config, scale=scale, channels=channels or Channels())
    return PairSequence(source, config, mixture, seed=3)


def stream(config: DataConfig, *, channels: Channels | None = None, **options) -> PairStream:
    options = {"report": lambda lines: None} | options
    return PairStream(sequence(config, channels=channels), config, device=CPU, **options)


def take(source: PairStream, count: int) -> list[Batch]:
    return [next(source) for _ in range(count)]


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.hq, b.hq)
        assert torch.equal(a.lq, b.lq)
        assert a.prompts == b.prompts


def joined(left: list[Batch], right: list[Batch]) -> list[Batch]:
    """Return the batches of two processes as the one process would have them."""
    return [
        Batch(torch.cat([a.hq, b.hq]), torch.cat([a.lq, b.lq]), (*a.prompts, *b.prompts))
        for a, b in zip(left, right, strict=True)
    ]
