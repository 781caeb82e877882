"""The colour fix of a finished picture: on a whole tensor, or in place on one too large to copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce

import torch
from torch import Tensor

from ..errors import Cancelled, RangeError, UnknownNameError
from ..progress import Progress, ShouldStop, Tick, never, silent
from ..tiling.geometry import Box
from .adain import adain_color_fix, adain_gain_offset
from .blocks import block_boxes, rewrite_blocks_, under
from .lab import lab_color_fix
from .matching import counts_of, histogram_color_fix, remapped, remapping
from .mode import ColorFix
from .statistics import channel_statistics
from .wavelet import reach_px, require_same_shape, wavelet_color_fix

__all__ = ["ColorFix", "Reference", "apply_color_fix_", "color_fix"]

STAGE = "color fix"
"""Name of this stage in progress reports."""

Reference = Tensor | Callable[[int, int, int, int], Tensor]
"""A reference [b c h w], or a function that makes rows [y0, y1) and columns [x0, x1) of it on demand.

The function is called as ``reference(y0, y1, x0, x1)`` with neighbouring parts that overlap, so it must
always give a pixel the same value. With `image.resize.resize_part` a resized reference never exists whole.
"""

_FIXES = {
    ColorFix.wavelet: wavelet_color_fix,
    ColorFix.adain: adain_color_fix,
    ColorFix.lab: lab_color_fix,
    ColorFix.histogram: histogram_color_fix,
}
_OF_THE_WHOLE = (ColorFix.adain, ColorFix.histogram)
"""These need a pass over the whole picture first."""


def color_fix(content_01: Tensor, reference_01: Tensor, *, mode: ColorFix, strength: float) -> Tensor:
    """Give a picture the colour of its reference.

    Args:
        content_01: the restored picture, [b c h w]; 1 or 3 channels for `lab`, any number otherwise.
        reference_01: the resized input, same shape.
        mode: what is taken over; see `ColorFix`.
        strength: 0 leaves the content as it is, 1 is the full fix, between them the two are mixed linearly.

    Returns:
        [b c h w], float32, not clamped, on the inputs' device; `content_01` itself if nothing is to be done.

    Raises:
        ShapeError: the two sizes differ, or the channels do not suit `lab`.
        RangeError: `strength` lies outside 0 to 1.
        UnknownNameError: there is no such mode.
    """
    mode = _checked(mode, strength)
    require_same_shape(content_01, reference_01)
    content = content_01.float()
    if mode is ColorFix.none or strength == 0:
        return content
    fixed = _FIXES[mode](content, reference_01)
    return fixed if strength == 1 else content.lerp(fixed, strength)


@torch.no_grad()
def apply_color_fix_(
    content_01: Tensor,
    reference_01: Reference,
    *,
    mode: ColorFix,
    strength: float,
    block_px: int = 512,
    device: torch.device | None = None,
    progress: Progress = silent,
    should_stop: ShouldStop = never,
) -> Tensor:
    """Do what `color_fix` does, in place and block by block, in memory that does not grow with the area.

    The result does not depend on `block_px` (float32 rounding apart): blocks see 31 px of their original
    neighbours, and statistics are gathered in a first pass over the whole picture.

    Args:
        content_01: [b c h w], float32 (another floating format is computed in float32 and rounded back);
            overwritten.
        reference_01: a tensor of the same shape, or a function that makes parts of it; see `Reference`.
        mode: what is taken over; see `ColorFix`.
        strength: 0 to 1, as in `color_fix`.
        block_px: side of a block, at least 31; 512² RGB pixels take about 60 MB (lab 90).
        device: where the blocks are computed; None means where `content_01` lies.
        progress: called after every block of every pass.
        should_stop: asked before every block; the picture is left half fixed.

    Returns:
        `content_01`.

    Raises:
        ShapeError, RangeError, UnknownNameError: as `color_fix`.
        ConfigError: `block_px` is too small.
        Cancelled: `should_stop` answered yes.
    """
    mode = _checked(mode, strength)
    if isinstance(reference_01, Tensor):
        require_same_shape(content_01, reference_01)
    if mode is ColorFix.none or strength == 0:
        return content_01
    read = _reader(reference_01)
    device = content_01.device if device is None else device
    blocks = block_boxes(content_01.shape[-2], content_01.shape[-1], block_px)
    total, done = len(blocks) * (2 if mode in _OF_THE_WHOLE else 1), 0

    def finish_block() -> None:
        nonlocal done
        done += 1
        progress(Tick(STAGE, done, total, content_01))
        if done < total and should_stop():
            raise Cancelled("stopped during the colour fix")

    def fix_locally(clip: Tensor, box: Box) -> Tensor:
        return color_fix(clip.to(device), read(box).to(device), mode=mode, strength=strength)

    rewrite: Callable[[Tensor, Box], Tensor] = fix_locally
    halo_px = reach_px()
    measured = _measured(content_01, read, blocks, device, finish_block)
    if mode is ColorFix.histogram:
        ours, theirs = reduce(_added, ((counts_of(x), counts_of(y)) for x, y in measured))
        table = remapping(ours, theirs)

        def remap(clip: Tensor, _box: Box) -> Tensor:
            content = clip.to(device).float()
            return content.lerp(remapped(content, table), strength)

        rewrite, halo_px = remap, 0
    if mode is ColorFix.adain:
        gain, offset = _whole_picture_adain(measured, device)
        gain, offset = 1 + strength * (gain - 1), strength * offset
        rewrite, halo_px = (lambda clip, _: clip.to(device).float() * gain + offset), 0
    for _ in rewrite_blocks_(content_01, rewrite, block_px=block_px, halo_px=halo_px):
        finish_block()
    return content_01


def _measured(
    content_01: Tensor,
    read: Callable[[Box], Tensor],
    blocks: tuple[Box, ...],
    device: torch.device,
    finish_block: Callable[[], None],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the blocks of both pictures, to be measured."""
    for block in blocks:
        ours, theirs = under(content_01, block).to(device), read(block).to(device)
        require_same_shape(ours, theirs)
        yield ours, theirs
        finish_block()


def _added(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return a[0] + b[0], a[1] + b[1]


def _whole_picture_adain(
    measured: Iterator[tuple[Tensor, Tensor]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Gather the statistics of both pictures block by block; returns gain and offset, float32 on `device`."""
    statistics = ((channel_statistics(ours), channel_statistics(theirs)) for ours, theirs in measured)
    content, reference = reduce(lambda a, b: (a[0].merge(b[0]), a[1].merge(b[1])), statistics)
    gain, offset = adain_gain_offset(content, reference)
    return gain.float().to(device), offset.float().to(device)


def _reader(reference_01: Reference) -> Callable[[Box], Tensor]:
    if isinstance(reference_01, Tensor):
        return lambda box: under(reference_01, box)
    return lambda box: reference_01(box.starts[0], box.ends[0], box.starts[1], box.ends[1])


def _checked(mode: ColorFix, strength: float) -> ColorFix:
    if not 0 <= strength <= 1:
        raise RangeError(f"colour fix strength must be from 0 (off) to 1 (full), got {strength:g}")
    names = [known.value for known in ColorFix]
    if mode not in names:
        raise UnknownNameError("colour fix", str(mode), names)
    return ColorFix(mode)
