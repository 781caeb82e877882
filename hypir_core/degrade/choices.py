"""The concrete choices for one picture, as `draw` makes them and `apply_draw` follows them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .kernels import gaussian_kernel, generalized_gaussian_kernel, plateau_kernel, sinc_kernel
from .parts import KernelKind, ResizeMode
from .resize import scaled_hw

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class KernelDraw:
    """One blur kernel; fields that its kind does not use are 0."""

    kind: KernelKind
    size: int
    sigma_x: float = 0.0
    sigma_y: float = 0.0
    angle: float = 0.0
    """Radians."""
    beta: float = 0.0
    cutoff: float = 0.0
    """Radians per pixel; sinc only."""


@dataclass(frozen=True, kw_only=True)
class ResizeDraw:
    """One change of size."""

    factor: float
    mode: ResizeMode


@dataclass(frozen=True, kw_only=True)
class NoiseDraw:
    """One layer of noise."""

    gaussian: bool
    amount: float
    """Gaussian: standard deviation in levels of 255; Poisson: the scale."""
    grey: bool
    seed: int


@dataclass(frozen=True, kw_only=True)
class StageDraw:
    """One stage; `None` where nothing happens."""

    kernel: KernelDraw | None
    resize: ResizeDraw | None
    noise: NoiseDraw | None
    jpeg_quality: int | None


@dataclass(frozen=True, kw_only=True)
class HalftoneDraw:
    """One dot screen."""

    period_px: float
    strength: float
    angle: float
    """Radians, added to the angles of all inks."""


@dataclass(frozen=True, kw_only=True)
class FadeDraw:
    """One aged print; the fields of `Fade`."""

    black: float
    white: float
    grey: float
    warmth: float


@dataclass(frozen=True, kw_only=True)
class ScratchesDraw:
    """One worn surface."""

    lines: int
    specks: int
    opacity: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Draw:
    """All choices for one picture, in the order in which they are applied."""

    halftone: HalftoneDraw | None
    stage1: StageDraw
    fade: FadeDraw | None
    scratches: ScratchesDraw | None
    stage2: StageDraw
    stage2_scale: float
    final_mode: ResizeMode
    final_sinc: KernelDraw | None
    resize_before_jpeg: bool
    resize_back: bool


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Height and width of one picture along the way."""

    full_hw: Size
    stage1_hw: Size
    stage2_hw: Size
    low_hw: Size
    """The low resolution: the original over `stage2_scale`, or the size asked for where that is smaller."""
    out_hw: Size


def sizes_of(choices: Draw, full_hw: Size, out_hw: Size | None = None) -> Sizes:
    """Return the sizes that a picture of `full_hw` takes on its way to `out_hw`.

    Without `out_hw` the recipe decides: the original size with `resize_back`, else the low resolution.
    """
    low_hw = scaled_hw(full_hw, 1 / choices.stage2_scale)
    if out_hw is not None:
        low_hw = (min(low_hw[0], out_hw[0]), min(low_hw[1], out_hw[1]))
    stage1_hw = scaled_hw(full_hw, choices.stage1.resize.factor) if choices.stage1.resize else full_hw
    stage2_hw = scaled_hw(low_hw, choices.stage2.resize.factor) if choices.stage2.resize else stage1_hw
    out_hw = out_hw or (full_hw if choices.resize_back else low_hw)
    return Sizes(full_hw=full_hw, stage1_hw=stage1_hw, stage2_hw=stage2_hw, low_hw=low_hw, out_hw=out_hw)


def kernel_of(choice: KernelDraw) -> Tensor:
    """Return the drawn kernel, [size size], float32, summing to 1."""
    if choice.kind is KernelKind.sinc:
        return sinc_kernel(choice.size, choice.cutoff)[0]
    shape = (choice.size, choice.sigma_x, choice.sigma_y, choice.angle)
    if choice.kind in {KernelKind.iso, KernelKind.aniso}:
        return gaussian_kernel(*shape)[0]
    if choice.kind in {KernelKind.generalized_iso, KernelKind.generalized_aniso}:
        return generalized_gaussian_kernel(*shape, beta=choice.beta)[0]
    return plateau_kernel(*shape, beta=choice.beta)[0]
