"""Where pictures come from and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from hypir_core.config import strict

from .checks import at_least, raise_all
from .physics import PhysicsConfig
from .source import SourceConfig


class Crop(str, Enum):
    """How a training crop is taken from a picture."""

    none = "none"
    """the picture must already be crop_px × crop_px"""
    center = "center"  # pyright: ignore[reportAssignmentType]  # hides str.center, which nobody calls
    """the middle, pixel for pixel"""
    random = "random"
    """anywhere, pixel for pixel; `shrink` may take a larger window"""
    fit_center = "fit_center"
    """the middle of the picture, shrunk until its short side is crop_px"""
    fit_random = "fit_random"
    """anywhere in the picture, shrunk until its short side is from crop_px to crop_px/0.7"""


class DegradeOn(str, Enum):
    """Where low-quality pictures are made."""

    worker = "worker"
    """in the background processes, on the CPU"""
    device = "device"
    """on the training device, between the steps"""


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
class RootShare:
    """One of several places that pictures come from."""

    __pydantic_config__ = strict

    root: Path
    """Folder, list or shards, as `DataConfig.root`."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """How `root` is read; it may have given pairs where others are degraded."""
    weight: float = 1.0
    """How many samples come from here, relative to the others, however many pictures there are."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pictures come from and what is done to them."""

    __pydantic_config__ = strict

    kind: str | None = None
    """A modality, whose settings these are laid on: a name in ``train/modalities`` (sentinel2, medical_mri …)."""
    root: Path | None = None
    """Folder of pictures (searched with its sub-folders), list of them, or shards; see `SourceConfig`."""
    source: SourceConfig = field(default_factory=SourceConfig)
    roots: tuple[RootShare, ...] = ()
    """Several such places with weights, instead of `root` and `source`."""
    prompt_dropout: float = 0.0
    """How often a prompt is replaced by the empty one."""
    batch_size: int = 16
    """Samples per process and forward pass."""
    crop: Crop = Crop.random
    crop_px: int | tuple[int, ...] = 128
    """Side of the high-quality crop, or one for every axis ([16, 128, 128]); the low-quality one is smaller by the
    generator's scale."""
    margin_px: int = 0
    """Cut so much more on every side, degrade, and cut it off, so that no degradation sees the crop's border."""
    shrink: tuple[float, float] = (1.0, 1.0)
    """Range of a random antialiased shrink of the crop, as far as the picture allows; gives finer detail."""
    shrink_prob: float = 0.5
    """How often that shrink happens."""
    hflip: bool = True
    rot90: bool = False
    """Also flip vertically and, where the crop is square, transpose, with probability ½ each."""
    flip_slices: bool = False
    """Volumes: also flip along the first axis, with probability ½."""
    elastic: float = 0.0
    """Bend pairs smoothly by at most this share of the crop; 0 leaves them. 0.05 is much."""
    noise: float = 0.0
    """Normal noise on the low-quality half, deviation as a share of white (of the deviation of its own values for
    scenes and volumes); 0 adds none."""
    degrade: tuple[RecipeShare, ...] = (RecipeShare(recipe="realesrgan"),)
    physics: PhysicsConfig | None = None
    """A microscope measures the pictures, instead of `degrade`."""
    sharpen_target: bool = False
    """Sharpen the target as the recipe says: crisper results, less faithful."""
    degrade_on: DegradeOn = DegradeOn.worker
    """Each sample is degraded with choices of its own in either place."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    workers: int = 1
    """Background processes that read and degrade; 0 does it between the steps."""
    cache_mb: int = 512
    """Memory per worker for decoded pictures."""

    def __post_init__(self) -> None:
        low, high = self.shrink
        raise_all(self._root_problems())
        for key, share in self.places.items():
            share.source.check_for(share.root, where=key.removeprefix("data.").removesuffix("root"))
        raise_all(
            [
                *self._pair_problems(),
                *self._margin_problems(),
                *at_least(self, 1, "batch_size"),
                *(
                    []
                    if min(_sides(self.crop_px), default=0) >= 1
                    else [f"crop_px must be 1 or more, got {self.crop_px}"]
                ),
                *at_least(self, 0, "workers", "cache_mb", "margin_px", "noise"),
                *([] if 0 <= self.elastic < 0.5 else [f"elastic must lie in [0, 0.5), got {self.elastic}"]),
                *(
                    [f"prompt_dropout must lie in [0, 1], got {self.prompt_dropout}"]
                    if not 0 <= self.prompt_dropout <= 1
                    else []
                ),
                *(
                    [f"shrink must be [1, 1] with crop={self.crop.value}, which shrinks by itself"]
                    if self.crop in {Crop.fit_center, Crop.fit_random} and self.shrink != (1, 1)
                    else []
                ),
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
                *at_least(self.pool, 0, "size", prefix="pool."),
                *at_least(self.pool, 1, "reuse", prefix="pool."),
                *self._reuse_problem(),
            ]
        )

    @property
    def places(self) -> dict[str, RootShare]:
        """Every place that pictures come from, by the key that names it."""
        if self.root is not None:
            return {"data.root": RootShare(root=self.root, source=self.source)}
        return {f"data.roots.{number}.root": share for number, share in enumerate(self.roots)}

    @property
    def bounded(self) -> bool:
        """Whether values lie in [0,1], as those of pictures do and those of scenes and volumes do not."""
        return all(share.source.bounded_at(share.root) for share in self.places.values())

    @property
    def whole_px(self) -> int | tuple[int, ...]:
        """Return the side of the crop with the margin on both sides, or one for every axis."""
        if isinstance(self.crop_px, int):
            return self.crop_px + 2 * self.margin_px
        return tuple(side + 2 * self.margin_px for side in self.crop_px)

    def _root_problems(self) -> list[str]:
        if self.root is None and not self.roots:
            return ["set data.root to a folder, a list or shards, or data.roots to several of them"]
        problems = []
        if self.root is not None and self.roots:
            problems.append("root and roots are both set; set root=null, or leave roots out")
        if self.roots and self.source != SourceConfig():
            problems.append("source belongs to root; give each of roots its own source")
        for number, share in enumerate(self.roots):
            if not 0 < share.weight < float("inf"):
                problems.append(f"roots.{number}.weight must be above 0 and finite, got {share.weight}")
        return problems

    def _pair_problems(self) -> list[str]:
        """Given pairs are cut out as they are: resizing or sharpening would change what is to be learnt.

        Where only some places have pairs, `shrink` and `sharpen_target` are for the others.
        """
        paired = [share.source.paired for share in self.places.values()]
        problems = []
        if any(paired) and self.crop in {Crop.fit_center, Crop.fit_random}:
            problems.append(f"crop must be none, center or random for given pairs, got {self.crop.value}")
        if any(paired) and not all(paired) and self.degrade_on is DegradeOn.device:
            problems.append(
                "degrade_on must be worker where some of roots have given pairs and others do not"
            )
        if all(paired) and self.shrink != (1, 1):
            problems.append(f"shrink must be [1, 1] for given pairs, got {list(self.shrink)}")
        if all(paired) and self.sharpen_target:
            problems.append("sharpen_target must be false for given pairs")
        if all(paired) and self.margin_px:
            problems.append("margin_px must be 0 for given pairs, which are not degraded")
        return problems

    def _margin_problems(self) -> list[str]:
        if self.margin_px and self.crop is Crop.none:
            return ["margin_px must be 0 with crop=none, which has nothing around the crop"]
        return []

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


def _sides(crop_px: int | tuple[int, ...]) -> tuple[int, ...]:
    return (crop_px,) if isinstance(crop_px, int) else crop_px
