"""One run, and how it is read from a preset and ``key=value``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hypir_core.config import build, strict

from .checks import at_least, raise_all
from .data import DataConfig
from .keeping import CheckpointConfig, ExportConfig, TrackingConfig, ValidationConfig
from .players import DiscriminatorConfig, GeneratorConfig, LossConfig
from .presets import apply_assignments, find_preset, read_preset


class Precision(str, Enum):
    """Number format of the forward pass; weights and losses stay float32."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run."""

    __pydantic_config__ = strict

    base_model: str | None = None
    """What training starts from: a weight file of the same generator, or None for random weights. For sd2_lora the
    frozen base model in any packaging, or None for the one that is found on this machine."""
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
        raise_all(
            [
                *at_least(self, 1, "max_steps", "accumulation"),
                *at_least(self, 0, "threads", "seed"),
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
        UnknownNameError: there is no such preset.
        ConfigError: lists every unknown key, wrong type and failed check.
    """
    path = find_preset(preset)
    return build(TrainConfig, apply_assignments(read_preset(path), assignments), where=path.name)
