"""Everything a training run is told, as frozen dataclasses. Defaults live here and nowhere else."""

from .data import Crop, DataConfig, DegradeOn, PoolConfig, RecipeShare, RootShare
from .keeping import CheckpointConfig, ExportConfig, Resume, TrackingConfig, ValidationConfig
from .players import (
    DiscriminatorConfig,
    EmaConfig,
    FeatureMatchingConfig,
    GeneratorConfig,
    LossConfig,
    LpipsConfig,
    LpipsNet,
    LrShape,
    Optimiser,
    OptimiserConfig,
    R1Config,
)
from .presets import PRESETS
from .run import Precision, TrainConfig, load_config
from .source import SourceConfig, SourceKind

__all__ = [
    "PRESETS",
    "CheckpointConfig",
    "Crop",
    "DataConfig",
    "DegradeOn",
    "DiscriminatorConfig",
    "EmaConfig",
    "ExportConfig",
    "FeatureMatchingConfig",
    "GeneratorConfig",
    "LossConfig",
    "LpipsConfig",
    "LpipsNet",
    "LrShape",
    "Optimiser",
    "OptimiserConfig",
    "PoolConfig",
    "Precision",
    "R1Config",
    "RecipeShare",
    "Resume",
    "RootShare",
    "SourceConfig",
    "SourceKind",
    "TrackingConfig",
    "TrainConfig",
    "ValidationConfig",
    "load_config",
]
