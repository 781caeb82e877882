"""From AdcSR's two files to a feed-forward engine."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...color.mode import ColorFix
from ...device import pick_dtype
from ...errors import SpecMismatchError
from ...models.sd.adcsr import SCALE, WANTED, adcsr, is_adcsr
from ...weights.download.sources import Fetch
from ...weights.fingerprint import short_hash
from ...weights.tensors import check_finite, read_tensors
from ..base import EngineSpec
from .engine import FeedForward
from .options import AdcSROptions

LIVE_MAPS = 3
"""Largest feature maps that are alive at once: a residual block's input, its inside and its result."""

SURROUNDINGS_PX = 16
"""Input pixels of surroundings that a tile keeps. Attention and norms see the whole tile, as they saw a whole training
picture of 128 px; what is near counts most."""

ENGINE = "adcsr"
LICENCE = "AdcSR: Apache-2.0"


def load_adcsr(
    options: AdcSROptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> FeedForward:
    """Load AdcSR: Stable Diffusion 2.1 cut down to one pass.

    Raises:
        WeightsNotFoundError, WeightsError: a file is not there, or cannot be read.
        SpecMismatchError: it is another network's.
    """
    del fetch
    files = [read_tensors(path) for path in (options.weights, options.decoder)]
    for file in files:
        check_finite(file.tensors, file.path)
    weights, decoder = files
    if not is_adcsr(weights.tensors):
        raise SpecMismatchError(
            f"{weights.path}: expected {WANTED}, got other tensors, the first is {next(iter(weights.tensors))}; give "
            "its two files as weights and decoder"
        )
    dtypes = ("float32", "bfloat16")
    chosen = pick_dtype(dtype, device, dtypes)
    net = adcsr(weights.tensors, decoder.tensors, weights.path, decoder.path, chosen)
    spec = EngineSpec(
        name=ENGINE,
        weights=f"{weights.path.name} {short_hash(weights.path)}, {decoder.path.name} {short_hash(decoder.path)}",
        dtype=str(chosen).removeprefix("torch."),
        default_scale=float(SCALE),
        dtypes=dtypes,
        color_fix=ColorFix.adain,
        licence=LICENCE,
    )
    return FeedForward(
        spec=spec,
        net=net.to(memory_format=torch.channels_last),  # type: ignore[call-overload]  # torch's stub lacks it
        scale=(SCALE, SCALE),
        radius=SURROUNDINGS_PX,
        bytes_per_input_px=LIVE_MAPS * 4.0 * net.maps_per_cell,
        multiple=net.multiple,
    )


def adcsr_skeleton(
    options: AdcSROptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> FeedForward:
    """Return `load_adcsr`'s engine on torch's meta device; the files are read, for their shapes."""
    engine = load_adcsr(options, device, dtype, fetch)
    return replace(engine, net=engine.net.to("meta"))
