"""Settings of the engines made of a diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

from ...config import strict
from ...errors import ConfigError

AUTO, OFF = "auto", "off"
"""What `tagger` may be besides a file."""

SLIDERS = ("fidelity", "detail")
"""Options that weigh the parts of a restorer which has several."""


class RandomWeights(str, Enum):
    """Architectures that can be filled with random numbers."""

    sd21 = "sd21"
    """Stable Diffusion 2.1 in full size with a LoRA of rank 256: real speed, meaningless pictures."""
    sd_turbo = "sd-turbo"
    """SD-Turbo in full size with SeeSR's image blocks and ControlNet."""
    tiny = "tiny"
    """The same layout, a thousandth of the size: for trying a whole run."""


@dataclass(frozen=True, kw_only=True)
class OneStepOptions:
    """Settings of `one-step`."""

    __pydantic_config__ = strict

    FLAGS: ClassVar[Mapping[str, str]] = {"base_model": "--base"}
    """Options whose flag is not their name."""

    lora: Path | None = None
    """What turns the base model into a restorer: a HYPIR-style LoRA, `osediff.pkl`, `pisa_sr.pkl`, the folder of OMGSR-S
    or of GDPO-SR; None looks for a HYPIR-style LoRA on this machine, unless the base model has one merged into it."""
    recipe: str | None = None
    """How the file is run, by the name of a recipe (`hypir engines`); None recognises it by what it holds."""
    lora_strength: float = 1.0
    """0 to 2: how much of the LoRA is added to the base model; 1 is as trained."""
    fidelity: float = 1.0
    """0 to 2: weight of what PiSA-SR's adapter for pixels changes: noise and blur go. Other values than 1 need a second
    pass."""
    detail: float = 1.0
    """0 to 2: weight of what PiSA-SR's adapter for semantics changes: invented detail. 0 leaves it out."""
    tagger: str = AUTO
    """What names the things in the picture: RAM's weight file, `auto` to look for it and do without where there is
    none, `off`. Read by restorers that were trained with tags."""
    tagger_lora: Path | None = None
    """DAPE, SeeSR's LoRA for the tagger, which keeps tags right in degraded pictures; None looks for it."""
    degradation: str | None = None
    """What tells S3Diff how blurred and how noisy a picture is: its ``de_net.pth``, or two numbers from 0 to 1,
    ``BLUR,NOISE``; None looks for the file beside the restorer's."""
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
    one or of TAESD's decoder, or a repository id in the Hugging Face cache (``madebyollin/taesd``). Or a light decoder,
    AdcSR's ``halfDecoder.ckpt``: a quarter of the VAE's arithmetic, and closer to it. Never downloaded; reports say
    what decoded."""
    compile: bool = False
    """Let torch.compile make the UNet's transformer blocks quicker: for many tiles on a graphics card. The first tiles
    take a minute longer, the code is kept for the next run; results differ by rounding."""
    random_weights: RandomWeights | None = None
    """For benchmarks and tries on machines without the weights."""
    download: bool = False
    """Fetch what is missing."""
    offline: bool = False
    """Never use the network."""

    def __post_init__(self) -> None:
        problems = []
        problems += [
            f"{name} must be from 0 to 2, got {getattr(self, name):g}"
            for name in ("lora_strength", *SLIDERS)
            if not 0 <= getattr(self, name) <= 2
        ]
        if self.fidelity == self.detail == 0:
            problems.append("fidelity and detail of 0 leave nothing to restore with; give one of them")
        if self.coeff_t is not None and not 0 <= self.coeff_t <= 999:
            problems.append(f"coeff_t must lie in 0 … 999, got {self.coeff_t}")
        for one, other in (
            ("reference_mode", "vae_exact"),
            ("fast_decoder", "reference_mode"),
            ("fast_decoder", "vae_exact"),
            ("compile", "reference_mode"),
            ("download", "offline"),
        ):
            if getattr(self, one) and getattr(self, other):
                problems.append(f"{one} and {other} exclude each other")
        if self.random_weights is RandomWeights.sd_turbo:
            problems.append("random_weights of one-step are sd21 or tiny, got sd-turbo")
        given = [
            name
            for name in ("lora", "base_model", "recipe", "degradation")
            if getattr(self, name) is not None
        ]
        if self.random_weights and given:
            problems.append(f"random_weights needs no {' and no '.join(given)}; leave one of them out")
        if problems:
            raise ConfigError(problems)
