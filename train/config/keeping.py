"""What a run measures, writes down and keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hypir_core.config import strict

from .checks import at_least, raise_all
from .losses import LpipsConfig
from .source import SourceConfig


class Measure(str, Enum):
    """What else validation measures, for any bands and axes; less is better in all of them."""

    sam = "sam"
    """mean angle between the bands of a pixel, in radians"""
    ergas = "ergas"
    """relative error over the bands, per cent over the scale"""
    l1 = "l1"
    """mean absolute error"""
    consistency = "consistency"
    """mean absolute difference between the result, shrunk by averaging, and its input"""
    frc = "frc"
    """finest period in pixels on which result and truth agree, by ring correlation; 2 is the finest there is"""


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
    photons: tuple[float, ...] = ()
    """Expected electrons at white that are measured, each, with the microscope of data.physics; instead of recipes."""
    seed: int = 0
    images: int = 4
    """How many of them per recipe are written as pictures, to ``validation/`` and the trackers."""
    best: str = "psnr_y"
    """Mean over the recipes of this metric decides which checkpoint is the best: psnr_y, ssim, lpips or one of
    `metrics`."""
    metrics: tuple[Measure, ...] = ()
    """Further ones: sam, ergas, l1, consistency, frc."""
    stop_after: int = 0
    """Stop the training after so many validations without a new best; 0 goes on to max_steps."""
    lpips: LpipsConfig | None = None
    """Also measure this LPIPS, which is less the better; {net: alex} is what papers report."""

    def __post_init__(self) -> None:
        self.source.check_for(self.root)
        further = [Measure(each).value for each in self.metrics]
        metrics = ("psnr_y", "ssim", *further, *(("lpips",) if self.lpips else ()))
        raise_all(
            [
                *at_least(self, 1, "every", "count"),
                *at_least(self, 0, "images", "stop_after"),
                *(at_least(self, 1, "most_px") if self.most_px is not None else []),
                *(
                    [
                        f"best must be one of {', '.join(metrics)}, got {self.best!r}"
                        + ("; set lpips as well" if self.best == "lpips" else "")
                        + (
                            "; name it in metrics as well"
                            if self.best in {each.value for each in Measure}
                            else ""
                        )
                    ]
                    if self.best not in metrics
                    else []
                ),
                *(["recipes must name at least one recipe, or be null"] if self.recipes == () else []),
                *(
                    [f"photons must be above 0, got {list(self.photons)}"]
                    if any(not each > 0 for each in self.photons)
                    else []
                ),
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
    keep_best: int = 1
    """Also keep so many checkpoints with the best validations; true is 1, false is 0."""
    resume: Resume = Resume.exact
    """What is taken over from the checkpoint: exact, all, weights or never."""
    resume_from: Path | None = None
    """Which checkpoint: the name of one in output_dir (step-00001000), or the folder of any; None: the newest."""

    def __post_init__(self) -> None:
        never = self.resume is Resume.never and self.resume_from is not None
        raise_all(
            [
                *at_least(self, 1, "every", "keep_last"),
                *at_least(self, 0, "keep_best"),
                *(["resume_from is not used with resume=never"] if never else []),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """What is written down on the way."""

    __pydantic_config__ = strict

    every: int = 50
    """Steps between two lines of scalars."""
    bands: tuple[int, ...] | None = None
    """Which channels pictures show as red, green and blue, or one for grey, counted from 0; None: the first three."""
    histograms_every: int = 0
    """Steps between two histograms of what the network gives and should give, band by band, and of the discriminators'
    logits; 0 writes none."""
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
        raise_all(
            [
                *at_least(self, 1, "every"),
                *at_least(self, 0, "images_every", "loss_gradients_every", "histograms_every"),
                *(
                    []
                    if self.bands is None or (len(self.bands) in {1, 3} and min(self.bands) >= 0)
                    else [f"bands must be one or three numbers from 0 on, got {list(self.bands)}"]
                ),
            ]
        )


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is written into the metadata of the exported weights."""

    __pydantic_config__ = strict

    name: str = "own"
    """What a person calls the weights."""
    trained_on: str = "unstated"
    """The data, as a person would cite it."""
    bands: tuple[str, ...] = ()
    """Names of the bands that the network takes, in their order; without, those of the scenes it learnt from, where all
    name theirs alike."""
    licence: str = "unstated"
    original_pth: bool = False
    """Also write LoRAs in the layout of the published file (``.pth``, PEFT's names, no spec)."""
