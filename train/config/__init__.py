"""Everything a training run is told, as frozen dataclasses. Defaults live here and nowhere else."""

from .data import Crop, DataConfig, DegradeOn, PoolConfig, RecipeShare, RootShare
from .denoising import PIXEL, DenoisingConfig, StrategyConfig
from .keeping import CheckpointConfig, ExportConfig, Measure, Resume, TrackingConfig, ValidationConfig
from .losses import (
    VGG_CONVOLUTIONS,
    Distance,
    Domain,
    ExtractorConfig,
    LossConfig,
    LpipsConfig,
    LpipsNet,
    Vgg19Config,
)
from .physics import PhysicsConfig
from .players import (
    DiscriminatorConfig,
    EmaConfig,
    FeatureMatchingConfig,
    GeneratorConfig,
    Judging,
    Least,
    LrShape,
    Optimiser,
    OptimiserConfig,
    PlateauConfig,
    R1Config,
    R1Over,
    Warmup,
)
from .presets import PRESETS
from .run import Phase, Precision, TrainConfig, Turn, load_config
from .source import SourceConfig, SourceKind

__all__ = [
    "PIXEL",
    "PRESETS",
    "VGG_CONVOLUTIONS",
    "CheckpointConfig",
    "Crop",
    "DataConfig",
    "DegradeOn",
    "DenoisingConfig",
    "DiscriminatorConfig",
    "Distance",
    "Domain",
    "EmaConfig",
    "ExportConfig",
    "ExtractorConfig",
    "FeatureMatchingConfig",
    "GeneratorConfig",
    "Judging",
    "Least",
    "LossConfig",
    "LpipsConfig",
    "LpipsNet",
    "LrShape",
    "Measure",
    "Optimiser",
    "OptimiserConfig",
    "Phase",
    "PhysicsConfig",
    "PlateauConfig",
    "PoolConfig",
    "Precision",
    "R1Config",
    "R1Over",
    "RecipeShare",
    "Resume",
    "RootShare",
    "SourceConfig",
    "SourceKind",
    "StrategyConfig",
    "TrackingConfig",
    "TrainConfig",
    "Turn",
    "ValidationConfig",
    "Vgg19Config",
    "Warmup",
    "load_config",
]
