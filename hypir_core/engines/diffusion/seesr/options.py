"""Settings of `seesr`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ....config import strict
from ....diffusion.spacing import Spacing
from ....errors import ConfigError
from ..options import AUTO, OFF, RandomWeights

if TYPE_CHECKING:
    from ....diffusion.edits.steering import Steering

MOST_STEPS, MOST_PARTICLES = 200, 16


class SamplerName(str, Enum):
    """Rules that SeeSR was made with."""

    ddim = "ddim"
    """Deterministic (Song, Meng and Ermon, arXiv 2010.02502)."""
    ddpm = "ddpm"
    """Ancestral: new noise in every step (Ho et al., arXiv 2006.11239)."""


class StartFrom(str, Enum):
    """What the first step begins with."""

    lq = "lq"
    """The degraded picture and noise: what is seen in it leads from the first step on."""
    noise = "noise"
    """Noise alone: the ControlNet and the words lead."""
    as_is = "as_is"
    """The degraded picture, nothing added."""


class Residency(str, Enum):
    """Where networks lie that do not work right now."""

    keep = "keep"
    """All stay on the device."""
    one_at_a_time = "one_at_a_time"
    """Only what a stage needs is on the device: slower, and a card of 6 GB is enough."""


@dataclass(frozen=True, kw_only=True)
class SeesrOptions:
    """Settings of `seesr`."""

    __pydantic_config__ = strict

    FLAGS: ClassVar[Mapping[str, str]] = {"base_model": "--base", "guides": "--guide"}
    """Options whose flag is not their name."""

    base_model: str | None = None
    """SD-Turbo for 1 to 8 steps, Stable Diffusion 2-base or 2.1-base for 20 and more: a diffusers folder, a
    checkpoint file, or a repository id in the Hugging Face cache; None looks for SD-Turbo on this machine."""
    seesr: Path | None = None
    """SeeSR's folder with `unet` and `controlnet`; None looks for it on this machine."""
    tagger: str = AUTO
    """What names the things in the picture: RAM's weight file, `auto` to look for it and do without where there is
    none, `off`."""
    tagger_lora: Path | None = None
    """DAPE, SeeSR's LoRA for the tagger, which keeps tags right in degraded pictures; None looks for it."""
    tag_list: Path | None = None
    """A folder with `tag_list.txt` and `thresholds.txt` of another tagger; None takes RAM's 4585 tags."""
    threshold: float | None = None
    """0 to 1: a tag is kept above this probability; None takes each tag's own threshold."""
    tags: str | None = None
    """What is in the picture, separated by commas, instead of what the tagger names; its tokens are read all
    the same."""
    max_tags: int = 20
    """The surest tags that are kept."""
    words: str | None = None
    """Words about quality, after the tags and the prompt; None takes SeeSR's."""
    negative: str | None = None
    """What the picture shall not be; only read with cfg above 1. None takes SeeSR's words."""
    steps: int = 2
    """1 to 8 with SD-Turbo; 20 to 50 with other bases."""
    sampler: SamplerName = SamplerName.ddim
    """`ddim` adds no noise between steps, `ddpm` does; SeeSR's results were made with `ddpm`."""
    cfg: float = 1.0
    """How strongly the words lead: 1 reads no negative words and runs the networks once, above 1 twice. SD-Turbo
    wants 1, other bases about 5.5."""
    start: StartFrom = StartFrom.lq
    """`lq` begins with the noised picture, `noise` with noise alone, `as_is` with the picture."""
    start_t: int = 999
    """1 to 999: the timestep of the first step. Lower keeps more of the input."""
    spacing: Spacing | None = None
    """Where the steps lie among the training's timesteps; None takes what the base model says."""
    control_strength: float = 1.0
    """0 to 2: how much SeeSR's ControlNet holds the structure of the input; 0 runs without it."""
    guides: tuple[str, ...] = ()
    """More ControlNets, `KIND[=FILE][:STRENGTH]`: `edge`, `depth:0.5`, `given=lines.png:0.8`. Their residuals are
    added."""
    guide_weights: tuple[str, ...] = ()
    """ControlNet files of the guides, `KIND=FILE`; without one, a file is looked for on this machine."""
    edge_low: float = 0.4
    """0 to 1: for the guide `edge`, a line that touches a strong edge goes on down to this steepness."""
    edge_high: float = 0.8
    """0 to 1: for the guide `edge`, edges steeper than this are lines."""
    depth_model: str | None = None
    """For the guide `depth`, a depth-estimation model of transformers: a folder, or a repository id in the Hugging Face
    cache; None looks for Depth Anything V2 Small there."""
    particles: int = 1
    """1 to 16 tries at once; kernel density steering draws them to where most agree. Time and memory grow alike."""
    steering_strength: float = 0.3
    """0 to 1: how far a step moves the particles together."""
    steering_begins: float = 0.3
    """0 to 1: the part of the steps that passes before."""
    steering_bandwidth: float | None = None
    """Width of the kernel, in units of the latent; None takes the median heuristic."""
    steering_patch: int = 2
    """Side of the patches that are compared, in latent cells of 8 px."""
    process_px: int = 512
    """The short side is processed at this size at least; more keeps more of the input."""
    residency: Residency = Residency.keep
    """`one_at_a_time` keeps only the network that works on the device."""
    vae_exact: bool = False
    """Encode and decode the whole picture as if it were one tile, layer by layer; slower."""
    fast_decoder: str | None = None
    """A tiny decoder instead of the VAE's, for previews; as in `one-step`."""
    reference_mode: bool = False
    """Sizes, tiles, prompt, noise and rounding of the original implementation, for comparisons; slower."""
    compile: bool = False
    """Let torch.compile make the transformer blocks quicker, as in `one-step`."""
    random_weights: RandomWeights | None = None
    """For benchmarks and tries on machines without the weights."""
    download: bool = False
    """Fetch what is missing."""
    offline: bool = False
    """Never use the network."""

    def __post_init__(self) -> None:
        enums = {
            "sampler": SamplerName,
            "random_weights": RandomWeights,
            "start": StartFrom,
            "spacing": Spacing,
            "residency": Residency,
        }
        for name, enum in enums.items():  # a word says it as well
            if getattr(self, name) is not None:
                object.__setattr__(self, name, enum(getattr(self, name)))
        problems = [
            f"{name} must be from {low:g} to {high:g}, got {value:g}"
            for name, value, low, high in (
                ("max_tags", self.max_tags, 0, 1000),
                ("steps", self.steps, 1, MOST_STEPS),
                ("cfg", self.cfg, 0, 30),
                ("start_t", self.start_t, 1, 999),
                ("control_strength", self.control_strength, 0, 2),
                ("particles", self.particles, 1, MOST_PARTICLES),
                ("process_px", self.process_px, 64, 4096),
                ("threshold", self.threshold or 0, 0, 1),
            )
            if not low <= value <= high
        ]
        for one, other in (
            ("reference_mode", "vae_exact"),
            ("fast_decoder", "reference_mode"),
            ("fast_decoder", "vae_exact"),
            ("compile", "reference_mode"),
            ("download", "offline"),
        ):
            if getattr(self, one) and getattr(self, other):
                problems.append(f"{one} and {other} exclude each other")
        problems += self._not_used()
        try:
            self.steering()
        except ConfigError as err:
            problems += err.problems
        if problems:
            raise ConfigError(problems)

    def steering(self) -> Steering:
        """Return the rule that draws particles together."""
        from ....diffusion.edits.steering import Steering

        return Steering(
            strength=self.steering_strength,
            begins=self.steering_begins,
            bandwidth=self.steering_bandwidth,
            patch=self.steering_patch,
        )

    def _not_used(self) -> list[str]:
        """Name what was given and would not be read."""
        plain = type(self).__dataclass_fields__
        changed = {name for name, field in plain.items() if getattr(self, name) != field.default}
        problems = []
        if "negative" in changed and self.cfg <= 1:
            problems.append(
                f"negative is not read with cfg {self.cfg:g}; give a cfg above 1, or leave it out"
            )
        if self.particles == 1 and (given := sorted(n for n in changed if n.startswith("steering_"))):
            problems.append(f"{', '.join(given)} is not read with one particle; give particles from 2 on")
        if self.tagger == OFF:
            of_tagger = ("max_tags", "tag_list", "tagger_lora", "threshold")
            if given := [name for name in of_tagger if name in changed]:
                problems.append(f"{', '.join(given)} is not read with tagger=off; leave it out")
        given = [name for name in ("base_model", "seesr") if name in changed]
        if self.random_weights and given:
            problems.append(f"random_weights needs no {' and no '.join(given)}; leave one of them out")
        if self.random_weights is RandomWeights.sd21:
            problems.append("random_weights of seesr are sd-turbo or tiny, got sd21")
        kinds = {guide.partition("=")[0].partition(":")[0] for guide in self.guides}
        for kind, names in {"edge": ("edge_low", "edge_high"), "depth": ("depth_model",)}.items():
            if kind not in kinds and (given := [name for name in names if name in changed]):
                problems.append(f"{', '.join(given)} is not read without the guide {kind}; leave it out")
        if self.guide_weights and not self.guides:
            problems.append("guide_weights is not read without guides; leave it out")
        return problems
