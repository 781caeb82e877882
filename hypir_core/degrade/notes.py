"""Say in one line what was done to a picture."""

from __future__ import annotations

import math

from .choices import Draw, KernelDraw, NoiseDraw, Size, Sizes, StageDraw
from .parts import KernelKind, ResizeMode


def describe(choices: Draw, sizes: Sizes) -> str:
    """Return for instance ``blur aniso σ 2.1/0.8, area to 55×55, noise σ 12.0 grey, jpeg q43``."""
    parts: list[str] = []
    if choices.halftone:
        parts.append(f"halftone {choices.halftone.period_px:.1f} px at {choices.halftone.strength:.0%}")
    parts += _stage(choices.stage1, sizes.full_hw, sizes.stage1_hw)
    parts += _jpeg(choices.stage1.jpeg_quality)
    if choices.fade:
        fade = choices.fade
        parts.append(f"fade {fade.black:.2f}–{fade.white:.2f} grey {fade.grey:.0%} warmth {fade.warmth:.0%}")
    if choices.scratches:
        parts.append(f"scratches {choices.scratches.lines}, specks {choices.scratches.specks}")
    parts += _stage(choices.stage2, sizes.stage1_hw, sizes.stage2_hw)
    ending = _resize(choices.final_mode, sizes.stage2_hw, sizes.low_hw)
    if choices.final_sinc:
        ending.append(_kernel(choices.final_sinc))
    jpeg = _jpeg(choices.stage2.jpeg_quality)
    parts += ending + jpeg if choices.resize_before_jpeg else jpeg + ending
    parts += _resize(ResizeMode.bicubic, sizes.low_hw, sizes.out_hw)
    return ", ".join(parts) or "nothing"


def _stage(stage: StageDraw, from_hw: Size, to_hw: Size) -> list[str]:
    parts = [_kernel(stage.kernel)] if stage.kernel else []
    if stage.resize:
        parts += _resize(stage.resize.mode, from_hw, to_hw)
    if stage.noise:
        parts.append(_noise(stage.noise))
    return parts


def _resize(mode: ResizeMode, from_hw: Size, to_hw: Size) -> list[str]:
    return [] if from_hw == to_hw else [f"{mode.value.replace('_', ' ')} to {to_hw[1]}×{to_hw[0]}"]


def _jpeg(quality: int | None) -> list[str]:
    return [] if quality is None else [f"jpeg q{quality}"]


def _kernel(kernel: KernelDraw) -> str:
    if kernel.kind is KernelKind.sinc:
        return f"sinc ω {kernel.cutoff / math.pi:.2f}π"
    sigma = f"{kernel.sigma_x:.1f}"
    if kernel.sigma_y != kernel.sigma_x:
        sigma += f"/{kernel.sigma_y:.1f}"
    beta = f" β {kernel.beta:.1f}" if kernel.beta else ""
    return f"blur {kernel.kind.value.replace('_', ' ')} σ {sigma}{beta}"


def _noise(noise: NoiseDraw) -> str:
    kind = f"noise σ {noise.amount:.1f}" if noise.gaussian else f"poisson ×{noise.amount:.2f}"
    return f"{kind} grey" if noise.grey else kind
