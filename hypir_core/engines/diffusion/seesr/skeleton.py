"""The engine of SeeSR without numbers: shapes only, to plan a run on a machine that has no weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ....device import pick_dtype
from ....models.sd.prompt import LENGTH
from ....weights.download.sources import Fetch
from ..engine import Diffusion
from .making import TESTED_DTYPES, make_seesr
from .options import SeesrOptions
from .random import random_parts


def seesr_skeleton(
    options: SeesrOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> Diffusion:
    """Return the engine on torch's meta device, laid out as it would be on `device`; extra guides are left out."""
    del fetch
    chosen = pick_dtype(dtype, device, TESTED_DTYPES)
    parts = random_parts(options, numbers=False)
    # The exact VAE copies its maps back and forth, which shapes cannot; its arithmetic is the plain one's.
    engine = make_seesr(parts, replace(options, vae_exact=False, compile=False), device=device, dtype=chosen)
    text_encoder: Any = parts.backbone.text_encoder
    words = torch.empty(1, LENGTH, text_encoder.config.hidden_size, device="meta")
    conditioner: Any = engine.conditioner
    conditioner = replace(conditioner, read=lambda _prompt: (words, ()))
    return replace(engine, codec=replace(engine.codec, whole=options.vae_exact), conditioner=conditioner)
