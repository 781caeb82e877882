"""Everything a training run is told, as frozen dataclasses. Defaults live here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hypir_core.config import build, load_yaml, merge, parse_assignments, strict
from hypir_core.errors import ConfigError

from .ramps import Ramp

PRESETS = Path(__file__).parent / "presets"


class Precision(str, Enum):
    """Number format of the forward pass; weights and losses stay float32."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Optimiser(str, Enum):
    """Which rule moves the weights."""

    adamw = "adamw"
    adam = "adam"


class LrShape(str, Enum):
    """How the learning rate goes after the warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


class Crop(str, Enum):
    """How a training crop is taken from a picture."""

    none = "none"
    """the picture must already be crop_px × crop_px"""
    center = "center"  # pyright: ignore[reportAssignmentType]  # hides str.center, which nobody calls
    random = "random"


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """Moving average of a player's weights; see `train.ema.Ema` for the formula."""

    __pydantic_config__ = strict

    decay: float = 0.999
    warmup: bool = False
    """Start with a smaller decay, so that the first weights are soon forgotten."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay must lie in [0, 1), got {self.decay}")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How a player moves its weights."""

    __pydantic_config__ = strict

    kind: Optimiser = Optimiser.adamw
    lr: float = 1e-5
    lr_schedule: LrShape = LrShape.constant
    lr_end: float = 0.0
    """Learning rate at the last step of linear and cosine."""
    warmup_steps: int = 0
    """The player's own optimiser steps over which the learning rate rises linearly to `lr`."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    """Acts on tensors of two or more axes only: not on biases, norms and PReLU slopes."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0 leaves it as it is."""
    every: int = 1
    """The player moves at every n-th step of the loop."""

    def __post_init__(self) -> None:
        _raise(
            [
                *_at_least(self, 0, "lr", "lr_end", "warmup_steps", "weight_decay", "clip_norm"),
                *_at_least(self, 1, "every"),
                *(["betas must lie in [0, 1)"] if not all(0 <= beta < 1 for beta in self.betas) else []),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """What is trained to restore."""

    __pydantic_config__ = strict

    name: str
    """A name in `train.generators.GENERATORS`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Sizes of the architecture, for instance features, blocks and scale."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    ema: EmaConfig | None = field(default_factory=EmaConfig)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """One discriminator that the generator plays against."""

    __pydantic_config__ = strict

    name: str
    """A name in `train.discriminators.DISCRIMINATORS`."""
    options: dict[str, Any] = field(default_factory=dict)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: str = "hinge"
    """A name in `train.discriminators.ADVERSARIAL`."""
    weight: float = 0.5
    """Weight of the adversarial term in the generator's loss."""
    ramp: Ramp = field(default_factory=Ramp)
    """When that term comes in; the discriminator itself starts to learn at `ramp.start`."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """One term of the generator's loss."""

    __pydantic_config__ = strict

    weight: float = 1.0
    ramp: Ramp = field(default_factory=Ramp)
    options: dict[str, float] = field(default_factory=dict)
    """Keyword options of the loss, for instance eps for charbonnier."""


@dataclass(frozen=True, kw_only=True)
class RecipeShare:
    """One degradation of the mixture."""

    __pydantic_config__ = strict

    recipe: str
    """A preset of `hypir_core.degrade`, a YAML file, or `bicubic`: only the antialiased bicubic shrink."""
    weight: float = 1.0
    """How often it is chosen, relative to the others."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Samples kept for later steps: decorrelates batches, and saves degradation work on slow machines."""

    __pydantic_config__ = strict

    size: int = 0
    """Samples kept per process (rounded up to whole batches); 0 = no pool, every sample is fresh."""
    reuse: int = 1
    """How often a sample is used on average; batch_size must divide by it."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pictures come from and what is done to them."""

    __pydantic_config__ = strict

    root: Path
    """Folder of pictures, searched with its sub-folders."""
    batch_size: int = 16
    """Samples per process and forward pass."""
    crop: Crop = Crop.random
    crop_px: int = 128
    """Side of the high-quality crop; the low-quality one is smaller by the generator's scale."""
    shrink: tuple[float, float] = (1.0, 1.0)
    """Range of a random antialiased shrink of the crop, as far as the picture allows; gives finer detail."""
    shrink_prob: float = 0.5
    """How often that shrink happens."""
    hflip: bool = True
    rot90: bool = False
    """Also flip vertically and transpose, with probability ½ each."""
    degrade: tuple[RecipeShare, ...] = (RecipeShare(recipe="realesrgan"),)
    sharpen_target: bool = False
    """Sharpen the target as the recipe says: crisper results, less faithful."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    workers: int = 1
    """Background processes that read and degrade; 0 does it between the steps."""
    cache_mb: int = 512
    """Memory per worker for decoded pictures."""

    def __post_init__(self) -> None:
        low, high = self.shrink
        _raise(
            [
                *_at_least(self, 1, "batch_size", "crop_px"),
                *_at_least(self, 0, "workers", "cache_mb"),
                *(
                    [f"shrink must be 0 < low ≤ high ≤ 1, got {self.shrink}"]
                    if not 0 < low <= high <= 1
                    else []
                ),
                *(
                    ["degrade must list at least one recipe with a weight above 0"]
                    if not self._weights_ok()
                    else []
                ),
                *_at_least(self.pool, 0, "size", prefix="pool."),
                *_at_least(self.pool, 1, "reuse", prefix="pool."),
                *self._reuse_problem(),
            ]
        )

    def _weights_ok(self) -> bool:
        return (
            all(share.weight >= 0 for share in self.degrade)
            and sum(share.weight for share in self.degrade) > 0
        )

    def _reuse_problem(self) -> list[str]:
        reuse = self.pool.reuse
        if reuse > 1 and not self.pool.size:
            return [f"pool.reuse is {reuse} but pool.size is 0; give the pool a size, for instance 512"]
        if reuse > 1 and self.batch_size % reuse:
            return [f"batch_size must divide by pool.reuse, got {self.batch_size} and {reuse}"]
        return []


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Fixed pairs on which the moving average is measured."""

    __pydantic_config__ = strict

    root: Path
    every: int = 1000
    count: int = 16
    """Pictures used, the first ones by name."""
    recipes: tuple[str, ...] = ("realesrgan", "bicubic")
    seed: int = 0
    images: int = 4
    """How many of them are shown as pictures."""
    best: str = "psnr_y"
    """Mean over the recipes of this metric decides which checkpoint is the best: psnr_y or ssim."""

    def __post_init__(self) -> None:
        _raise(
            [
                *_at_least(self, 1, "every", "count"),
                *_at_least(self, 0, "images"),
                *(
                    [f"best must be psnr_y or ssim, got {self.best!r}"]
                    if self.best not in {"psnr_y", "ssim"}
                    else []
                ),
                *(["recipes must name at least one recipe"] if not self.recipes else []),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to write checkpoints and how many to keep."""

    __pydantic_config__ = strict

    every: int = 1000
    keep_last: int = 2
    keep_best: bool = True
    """Also keep the checkpoint with the best validation."""
    resume: bool = True
    """Go on from the newest checkpoint in output_dir; false refuses a folder that has one."""

    def __post_init__(self) -> None:
        _raise(_at_least(self, 1, "every", "keep_last"))


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """What is written down on the way."""

    __pydantic_config__ = strict

    every: int = 50
    """Steps between two lines of scalars."""
    images_every: int = 1000
    """Steps between two grids of training pairs; 0 writes none."""
    loss_gradients_every: int = 0
    """Steps between two measurements of each loss's own gradient (one more backward pass each); 0 = never."""
    tensorboard: bool = True
    csv: bool = False
    wandb: str = ""
    """Name of a Weights & Biases project; empty = not used."""

    def __post_init__(self) -> None:
        _raise([*_at_least(self, 1, "every"), *_at_least(self, 0, "images_every", "loss_gradients_every")])


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is written into the metadata of the exported weights."""

    __pydantic_config__ = strict

    name: str = "own"
    """What a person calls the weights."""
    trained_on: str = "unstated"
    """The data, as a person would cite it."""
    licence: str = "unstated"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run."""

    __pydantic_config__ = strict

    base_model: str | None = None
    """What training starts from: a weight file of the same generator, or None for random weights."""
    output_dir: Path
    max_steps: int
    """Steps of the loop; one step moves every player that is due."""
    seed: int = 231
    precision: Precision = Precision.bf16
    cpu: bool = False
    """Train on the CPU even where there is a GPU."""
    threads: int = 0
    """CPU threads of the training process; 0 leaves torch's choice."""
    channels_last: bool = False
    """Memory layout for convolutional generators; quicker on most CPUs and tensor cores."""
    accumulation: int = 1
    """Forward passes per optimiser step."""
    generator: GeneratorConfig
    discriminators: dict[str, DiscriminatorConfig] = field(default_factory=dict)
    share_batch: bool = True
    """Discriminators learn from the generator's own batch and images; false draws new ones for each."""
    losses: dict[str, LossConfig]
    data: DataConfig
    validation: ValidationConfig | None = None
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        _raise(
            [
                *_at_least(self, 1, "max_steps", "accumulation"),
                *_at_least(self, 0, "threads", "seed"),
                *(
                    []
                    if any(loss.weight for loss in self.losses.values())
                    else ["losses must have a weight above 0"]
                ),
            ]
        )


def load_config(preset: str, assignments: list[str]) -> TrainConfig:
    """Read a preset (a path, or the name of one in ``train/presets``) with ``key=value`` on top.

    Raises:
        ConfigError: lists every unknown key, wrong type and failed check.
    """
    path = Path(preset)
    named = PRESETS / f"{preset.removesuffix('.yaml')}.yaml"
    if not path.exists() and named.exists():
        path = named
    return build(TrainConfig, merge(load_yaml(path), parse_assignments(assignments)), where=path.name)


def _at_least(config: Any, least: int, *names: str, prefix: str = "") -> list[str]:
    return [
        f"{prefix}{name} must be {least} or more, got {getattr(config, name)}"
        for name in names
        if not getattr(config, name) >= least
    ]


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError(problems)
