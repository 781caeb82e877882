"""What a run measures, writes down and keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hypir_core.config import strict

from .checks import at_least, raise_all
from .players import LpipsConfig
from .source import SourceConfig


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Fixed pairs on which the moving average is measured."""

    __pydantic_config__ = strict

    root: Path
    """Folder of pictures, list of them, or shards, as `DataConfig.root`."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """How `root` is read; with given pairs the recipes are not used."""
    every: int = 1000
    count: int = 16
    """Pictures used, the first ones by name, or as listed."""
    most_px: int | None = None
    """Longest side that is used, from the middle of the picture; for generators that need much memory."""
    recipes: tuple[str, ...] | None = None
    """Degradations that are measured; None: realesrgan, and bicubic where the generator enlarges."""
    seed: int = 0
    images: int = 4
    """How many of them per recipe are written as pictures, to ``validation/`` and the trackers."""
    best: str = "psnr_y"
    """Mean over the recipes of this metric decides which checkpoint is the best: psnr_y, ssim or lpips."""
    lpips: LpipsConfig | None = None
    """Also measure this LPIPS, which is less the better; {net: alex} is what papers report."""

    def __post_init__(self) -> None:
        self.source.check_for(self.root)
        metrics = ("psnr_y", "ssim", *(("lpips",) if self.lpips else ()))
        raise_all(
            [
                *at_least(self, 1, "every", "count"),
                *at_least(self, 0, "images"),
                *(at_least(self, 1, "most_px") if self.most_px is not None else []),
                *(
                    [
                        f"best must be one of {', '.join(metrics)}, got {self.best!r}"
                        + ("; set lpips as well" if self.best == "lpips" else "")
                    ]
                    if self.best not in metrics
                    else []
                ),
                *(["recipes must name at least one recipe, or be null"] if self.recipes == () else []),
            ]
        )


class Resume(str, Enum):
    """What a run takes over from a checkpoint in its folder."""

    exact = "exact"
    """everything; the settings must be the same, and the run goes on as if it had never stopped"""
    all = "all"
    """everything that still fits the present settings, pictures and processes; what changes is listed"""
    weights = "weights"
    """weights and averages only; step, optimisers and data start anew"""
    never = "never"
    """nothing; a folder that holds a checkpoint is refused"""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to write checkpoints and how many to keep."""

    __pydantic_config__ = strict

    every: int = 1000
    keep_last: int = 2
    keep_best: bool = True
    """Also keep the checkpoint with the best validation."""
    resume: Resume = Resume.exact
    """What is taken over from the checkpoint: exact, all, weights or never."""
    resume_from: Path | None = None
    """Which checkpoint: the name of one in output_dir (step-00001000), or the folder of any; None: the newest."""

    def __post_init__(self) -> None:
        never = self.resume is Resume.never and self.resume_from is not None
        raise_all(
            [
                *at_least(self, 1, "every", "keep_last"),
                *(["resume_from is not used with resume=never"] if never else []),
            ]
        )


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
    loss_gradients_of: tuple[str, ...] = ()
    """Modules whose gradient is measured for that, by the last parts of their names; empty = all of them."""
    tensorboard: bool = True
    csv: bool = False
    wandb: str = ""
    """Name of a Weights & Biases project; empty = not used."""

    def __post_init__(self) -> None:
        raise_all([*at_least(self, 1, "every"), *at_least(self, 0, "images_every", "loss_gradients_every")])


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is written into the metadata of the exported weights."""

    __pydantic_config__ = strict

    name: str = "own"
    """What a person calls the weights."""
    trained_on: str = "unstated"
    """The data, as a person would cite it."""
    licence: str = "unstated"
    original_pth: bool = False
    """Also write LoRAs in the layout of the published file (``.pth``, PEFT's names, no spec)."""
