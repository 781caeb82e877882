"""Everything a training run is told, as frozen dataclasses. Defaults live here and nowhere else."""

from .data import Crop, DataConfig, PoolConfig, RecipeShare
from .keeping import CheckpointConfig, ExportConfig, TrackingConfig, ValidationConfig
from .players import (
    DiscriminatorConfig,
    EmaConfig,
    GeneratorConfig,
    LossConfig,
    LrShape,
    Optimiser,
    OptimiserConfig,
)
from .run import PRESETS, Precision, TrainConfig, load_config

__all__ = [
    "PRESETS",
    "CheckpointConfig",
    "Crop",
    "DataConfig",
    "DiscriminatorConfig",
    "EmaConfig",
    "ExportConfig",
    "GeneratorConfig",
    "LossConfig",
    "LrShape",
    "Optimiser",
    "OptimiserConfig",
    "PoolConfig",
    "Precision",
    "RecipeShare",
    "TrackingConfig",
    "TrainConfig",
    "ValidationConfig",
    "load_config",
]
