"""Settings of the engines made of a diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from ...config import strict
from ...errors import ConfigError


class RandomWeights(str, Enum):
    """Architectures that can be filled with random numbers."""

    sd21 = "sd21"
    """Stable Diffusion 2.1 in full size with a LoRA of rank 256: real speed, meaningless pictures."""


@dataclass(frozen=True, kw_only=True)
class OneStepOptions:
    """Settings of `one-step`."""

    __pydantic_config__ = strict

    FLAGS: ClassVar[Mapping[str, str]] = {"base_model": "--base"}
    """Options whose flag is not their name."""

    lora: Path | None = None
    """The LoRA that turns the base model into a restorer; None looks for a HYPIR-style one on this machine,
    unless the base model has one merged into it."""
    lora_strength: float = 1.0
    """0 to 2: how much of the LoRA is added to the base model; 1 is as trained."""
    base_model: str | None = None
    """Stable Diffusion 2.1-base: a diffusers folder, a checkpoint file, a folder of separate files, or a
    repository id in the Hugging Face cache; None looks for it on this machine."""
    coeff_t: int | None = None
    """Fidelity, 0 to 999: the timestep whose coefficients apply the UNet's prediction; None takes the LoRA's,
    usually 200, the only value anyone trained. Lower keeps more of the input (at 100, 60 % of the
    correction), higher exaggerates (at 300, 146 %); far above that the result is no picture any more."""
    reference_mode: bool = False
    """Sizes, tiles and windows of the original implementation, for comparisons; slower."""
    vae_exact: bool = False
    """Encode and decode the whole picture as if it were one tile, layer by layer; slower."""
    fast_decoder: str | None = None
    """A tiny decoder instead of the VAE's, for previews: a diffusers folder of an `AutoencoderTiny`, a weight file of
    one or of TAESD's decoder, or a repository id in the Hugging Face cache (``madebyollin/taesd``). Never
    downloaded. Fine detail is approximate; reports say so."""
    random_weights: RandomWeights | None = None
    """For benchmarks on machines without the weights."""
    download: bool = False
    """Fetch what is missing."""
    offline: bool = False
    """Never use the network."""

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.lora_strength <= 2:
            problems.append(f"lora_strength must be from 0 to 2, got {self.lora_strength:g}")
        if self.coeff_t is not None and not 0 <= self.coeff_t <= 999:
            problems.append(f"coeff_t must lie in 0 … 999, got {self.coeff_t}")
        for one, other in (
            ("reference_mode", "vae_exact"),
            ("fast_decoder", "reference_mode"),
            ("fast_decoder", "vae_exact"),
            ("download", "offline"),
        ):
            if getattr(self, one) and getattr(self, other):
                problems.append(f"{one} and {other} exclude each other")
        given = [name for name in ("lora", "base_model") if getattr(self, name) is not None]
        if self.random_weights and given:
            problems.append(f"random_weights needs no {' and no '.join(given)}; leave one of them out")
        if problems:
            raise ConfigError(problems)
