"""One run, and how it is read from a preset and ``key=value``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from hypir_core.config import build, strict
from hypir_core.errors import ConfigError
from hypir_core.image.ranges import RangesConfig

from .checks import at_least, raise_all
from .data import DataConfig
from .denoising import DenoisingConfig, StrategyConfig
from .keeping import CheckpointConfig, ExportConfig, TrackingConfig, ValidationConfig
from .losses import LossConfig
from .players import DiscriminatorConfig, GeneratorConfig
from .presets import apply_assignments, find_preset, read_preset, with_modality


class Precision(str, Enum):
    """Number format of the forward pass; weights and losses stay float32."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Turn(str, Enum):
    """Who moves first in a step."""

    generator_first = "generator_first"
    """the generator, then the discriminators, on the images it had made"""
    discriminators_first = "discriminators_first"
    """the discriminators, on what the generator has just made, then the generator through the moved ones: OpenSR's
    order"""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What changes in the data from some step on."""

    __pydantic_config__ = strict

    start: int
    """The first step of the phase."""
    crop_px: int | tuple[int, ...] | None = None
    """As `DataConfig.crop_px`; None leaves it."""
    batch_size: int | None = None
    """As `DataConfig.batch_size`; None leaves it."""
    lr_factor: float = 1.0
    """On the generator's learning rate."""
    fade_steps: int = 0
    """Over so many steps the finest detail of the pictures is faded in."""

    def __post_init__(self) -> None:
        raise_all(
            [
                *at_least(self, 0, "fade_steps"),
                *([] if self.lr_factor > 0 else [f"lr_factor must be above 0, got {self.lr_factor}"]),
            ]
        )

    def on(self, data: DataConfig) -> DataConfig:
        """Return the settings of the data in this phase."""
        changed = {"crop_px": self.crop_px, "batch_size": self.batch_size}
        return replace(data, **{key: value for key, value in changed.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run."""

    __pydantic_config__ = strict

    base_model: str | None = None
    """What training starts from: a weight file of the same generator, or None for random weights. For sd2_lora and
    seesr the frozen base model in any packaging, or None for the one that is found on this machine."""
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
    compile: bool = False
    """Let torch.compile make the generator quicker; the first steps take minutes, and results differ by rounding."""
    accumulation: int = 1
    """Forward passes per optimiser step."""
    task: str = "gan"
    """What is learned from a batch: a name in `train.tasks.TASKS`."""
    denoising: DenoisingConfig = field(default_factory=DenoisingConfig)
    """What a diffusion model learns; used by task=denoising, and by the generator pixel."""
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    """Phases, losses and noise schedules that belong together, on top of what is stated here."""
    ranges: RangesConfig = field(default_factory=RangesConfig)
    """What the network takes and gives, made out of the values of the files; saved with the weights."""
    generator: GeneratorConfig
    discriminators: dict[str, DiscriminatorConfig] = field(default_factory=dict)
    turn: Turn = Turn.generator_first
    share_batch: bool = True
    """Discriminators learn from the generator's own batch and images; false draws new ones for each."""
    losses: dict[str, LossConfig] = field(default_factory=dict)
    """Between the generator's images and their targets; task=gan needs one."""
    data: DataConfig
    curriculum: tuple[Phase, ...] = ()
    """Other crops and batches from some step on; the first phase may begin later than the training."""
    validation: ValidationConfig | None = None
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        raise_all(
            [
                *at_least(self, 1, "max_steps", "accumulation"),
                *at_least(self, 0, "threads", "seed"),
                *self._curriculum_problems(),
                *(
                    ["accumulation must be 1 with turn=discriminators_first; make data.batch_size larger"]
                    if self.turn is Turn.discriminators_first and self.accumulation > 1
                    else []
                ),
                *(
                    []
                    if self.task != "gan" or any(loss.weight for loss in self.losses.values())
                    else ["losses must have a weight above 0"]
                ),
            ]
        )

    @property
    def widest_data(self) -> DataConfig:
        """The settings of the data with the largest crop of all phases: what every picture must have room for."""
        crops = [phase.on(self.data).crop_px for phase in (Phase(start=0), *self.curriculum)]
        axes = max(1 if isinstance(crop, int) else len(crop) for crop in crops)
        sides = [(crop,) * axes if isinstance(crop, int) else crop for crop in crops]
        widest = tuple(max(each) for each in zip(*sides, strict=True))
        return replace(self.data, crop_px=widest[0] if len(set(widest)) == 1 else widest)

    def data_at(self, step: int) -> DataConfig:
        """Return the settings of the data at `step`."""
        data = self.data
        for phase in self.curriculum:
            if phase.start <= step:
                data = phase.on(data)
        return data

    def phase_at(self, step: int) -> Phase:
        """Return the phase of `step`; one that changes nothing before the first."""
        return next((each for each in reversed(self.curriculum) if each.start <= step), Phase(start=0))

    def fade_at(self, step: int) -> float:
        """Return how far the finest detail is let through at `step`: 0 to 1."""
        phase = self.phase_at(step)
        return min(1.0, (step - phase.start) / phase.fade_steps) if phase.fade_steps else 1.0

    def _curriculum_problems(self) -> list[str]:
        starts = [phase.start for phase in self.curriculum]
        problems = []
        if starts != sorted(set(starts)) or min(starts, default=0) < 0:
            problems.append(f"curriculum: expected starts that rise from 0 on, got {starts}")
        if self.curriculum and self.data.pool.size:
            problems.append("data.pool.size must be 0 with a curriculum: a pool keeps crops of one size")
        for number, phase in enumerate(self.curriculum):
            try:
                phase.on(self.data)
            except ConfigError as err:
                problems += [f"curriculum.{number}: {line}" for line in err.problems]
        return problems


def load_config(preset: str, assignments: list[str]) -> TrainConfig:
    """Read a preset (a path, or the name of one in ``train/presets``) with ``key=value`` on top.

    Raises:
        UnknownNameError: there is no such preset.
        ConfigError: lists every unknown key, wrong type and failed check.
    """
    path = find_preset(preset)
    settings = with_modality(apply_assignments(read_preset(path), assignments))
    return build(TrainConfig, settings, where=path.name)
