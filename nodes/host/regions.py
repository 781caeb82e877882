"""A CONDITIONING laid over a canvas, and cut with the tiles.

Its entries may hold for a part of the picture only (mask, area) and look at pictures (ControlNet). ComfyUI would squeeze
all of that into every tile. Here the parts become planes of the canvas, which the tiler cuts; every entry is one pass of
the network over the whole tile, and the passes are mixed by their weights, as ComfyUI mixes them. An area is a mask
with soft edges: the network sees what is around it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...hypir_core.engines.diffusion.sizing import mirror_to
from ...hypir_core.errors import ConfigError
from ...hypir_core.tiling.geometry import Plane
from .control import control_planes, cropped_control, on_canvas

PLACE = ("area", "mask", "mask_strength", "set_area_to_bounds", "strength", "default")
"""Options of an entry that say where and how much it holds; ComfyUI is not told of them again."""

MAPS = ("concat_latent_image", "concat_mask", "concat_image")
"""Options that are maps over the picture, [b c h w]."""

SOFT_CELLS = 8
"""Width of the soft edge of an area, as in ComfyUI, at most a quarter of its side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One entry of a CONDITIONING."""

    number: int
    text: Tensor
    """[1 tokens width]."""
    options: Mapping[str, Any]
    """Without those of `PLACE`."""
    strength: float = 1.0
    """Its weight where it has no plane of weights."""
    placed: bool = False
    """Whether it has one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """A CONDITIONING laid over a canvas."""

    entries: tuple[Entry, ...]
    planes: Mapping[str, Plane] = field(default_factory=dict)
    """To be cropped with the tile: weights, control pictures, maps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cropped:
    """One entry for tiles [tiles · images …]."""

    number: int
    conditioning: list[Any]
    """A CONDITIONING of this entry alone, without a place."""
    weight: Tensor | float
    """[tiles · images 1 h w] in cells, or one number."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether it has no weight in any of the tiles."""
        return isinstance(self.weight, Tensor) and not bool(self.weight.any())


def laid_over(
    conditioning: Sequence[Any],
    content_cells: tuple[int, int],
    canvas_cells: tuple[int, int],
    *,
    cell_px: int,
) -> Regions:
    """Lay a CONDITIONING over a canvas.

    Args:
        conditioning: ComfyUI's; the entries that do not hold at this step are left out already (`at_step`).
        content_cells: height and width of the picture's latent on the canvas, from its first corner on.
        canvas_cells: of the canvas.
        cell_px: pixels of a cell's side.

    Raises:
        ConfigError: something in it cannot be cut into tiles, or a part of the picture is left without any entry.
    """
    entries, planes, weights = [], {}, {}
    content_px, canvas_px = (
        tuple(side * cell_px for side in cells) for cells in (content_cells, canvas_cells)
    )
    for number, (text, options) in enumerate(conditioning):
        _refuse_what_cannot_be_cut(options)
        strength = float(options.get("strength", 1.0))
        weight = _weight(options, content_cells)
        if weight is not None:
            weights[number] = weight * strength
        if options.get("control") is not None:
            name = f"{number} control"
            planes |= control_planes(options["control"], name, content_px, canvas_px)
        for key in MAPS:
            if isinstance(options.get(key), Tensor):
                fitted = on_canvas(options[key].float(), content_cells, canvas_cells, "bilinear", "center")
                planes[f"{number} {key}"] = Plane(fitted, cell_px)
        plain = {key: value for key, value in options.items() if key not in PLACE}
        entries.append(Entry(number=number, text=text, options=plain, strength=strength))
    fallbacks = [i for i, (_, options) in enumerate(conditioning) if "default" in options]
    sums = [weights.get(e.number, e.strength) for e in entries if e.number not in fallbacks]
    if fallbacks:
        left = 1 - sum(sums, start=torch.zeros(1, 1, *content_cells))
        weights |= dict.fromkeys(fallbacks, left.clamp_min(0))
    total = sum((weights.get(e.number, e.strength) for e in entries), start=torch.zeros(1, 1, *content_cells))
    if not bool((total > 0).all()):
        raise ConfigError(
            "the CONDITIONING leaves a part of the picture without any text: its masks and areas do not cover it; add "
            "an entry without a mask (Conditioning (Combine)), or use the mask of the node for what shall stay as it is"
        )
    for number, weight in weights.items():
        planes[f"{number} weight"] = Plane(mirror_to(weight, canvas_cells), cell_px)
    placed = tuple(
        Entry(
            number=e.number, text=e.text, options=e.options, strength=e.strength, placed=e.number in weights
        )
        for e in entries
    )
    return Regions(entries=placed, planes=planes)


def cropped(regions: Regions, guides: Mapping[str, Tensor]) -> list[Cropped]:
    """Return the entries for tiles whose crops of `Regions.planes` are `guides`, each [tiles · images …]."""
    found = []
    for entry in regions.entries:
        options = dict(entry.options)
        if options.get("control") is not None:
            options["control"] = cropped_control(options["control"], f"{entry.number} control", guides)
        options |= {
            key: guides[f"{entry.number} {key}"] for key in MAPS if isinstance(options.get(key), Tensor)
        }
        weight = guides[f"{entry.number} weight"] if entry.placed else entry.strength
        found.append(Cropped(number=entry.number, conditioning=[[entry.text, options]], weight=weight))
    return found


def at_step(conditioning: Sequence[Any], sampling: Any, sigma: float) -> list[Any]:
    """Return the entries of a CONDITIONING that hold at one noise level.

    Raises:
        ConfigError: none does.
    """
    kept = [entry for entry in conditioning if holds(entry[1], sampling, sigma)]
    if not kept:
        raise ConfigError(
            "no entry of the CONDITIONING holds at one of the steps that are taken: its time ranges (Conditioning Set "
            "Timestep Range) leave it out; remove them"
        )
    return kept


def mixed(parts: Sequence[tuple[Tensor, Tensor | float]]) -> Tensor:
    """Return the weighted mean of (value, weight)."""
    if len(parts) == 1:
        return parts[0][0]
    weights = [weight.to(value) if isinstance(weight, Tensor) else weight for value, weight in parts]
    total = sum(weights)
    return sum(
        (value * (weight / total) for (value, _), weight in zip(parts, weights, strict=True)),
        start=torch.zeros_like(parts[0][0]),
    )


def holds(options: Mapping[str, Any], sampling: Any, sigma: float) -> bool:
    """Say whether an entry's time range holds a noise level; percents run from noise to clean."""
    first = max(options.get("start_percent", 0.0), options.get("clip_start_percent", 0.0))
    last = min(options.get("end_percent", 1.0), options.get("clip_end_percent", 1.0))
    return sampling.percent_to_sigma(last) <= sigma <= sampling.percent_to_sigma(first)


def _weight(options: Mapping[str, Any], cells: tuple[int, int]) -> Tensor | None:
    """Return where an entry holds, [b 1 *cells], without its strength; None stands for everywhere."""
    mask, area = options.get("mask"), options.get("area")
    if mask is None and area is None:
        return None
    box = None if area is None else _box(area, cells)
    if mask is None:
        assert box is not None
        return _soft_box(box, cells)
    masks = mask.float().cpu().reshape(-1, 1, *mask.shape[-2:])
    fitted = on_canvas(masks, cells, cells, "bilinear", "none") * float(options.get("mask_strength", 1.0))
    if box is None:
        return fitted
    inside = torch.zeros_like(fitted)
    inside[(..., *box)] = fitted[(..., *box)]
    return inside


def _box(area: Sequence[Any], cells: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of an area: height, width, y, x in cells, or in parts of the picture."""
    if area[0] == "percentage":
        parts = [float(part) for part in area[1:]]
        sizes = [max(1, round(part * side)) for part, side in zip(parts[:2], cells, strict=True)]
        starts = [round(part * side) for part, side in zip(parts[2:], cells, strict=True)]
    else:
        sizes, starts = list(area[:2]), list(area[2:])
    rows, columns = (
        slice(min(start, side), min(start + size, side))
        for start, size, side in zip(starts, sizes, cells, strict=True)
    )
    return rows, columns


def _soft_box(box: tuple[slice, slice], cells: tuple[int, int]) -> Tensor:
    """Return 1 inside a box, with soft edges where it does not end at the picture's, [1 1 *cells]."""
    along = []
    for span, side in zip(box, cells, strict=True):
        length = span.stop - span.start
        soft = min(SOFT_CELLS, length // 4)
        ramp = torch.ones(length)
        rising = (torch.arange(soft) + 1) / max(soft, 1)
        if span.start > 0:
            ramp[:soft] *= rising
        if span.stop < side:
            ramp[length - soft :] *= rising.flip(0)
        along.append(F.pad(ramp, (span.start, side - span.stop)))
    return (along[0][:, None] * along[1])[None, None]


def _refuse_what_cannot_be_cut(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for boxes of GLIGEN, and for maps that nothing here knows how to cut."""
    if options.get("gligen") is not None:
        raise ConfigError(
            "the CONDITIONING has boxes of GLIGEN, whose models are made for Stable Diffusion 1; "
            "use masks or areas (Conditioning (Set Mask), Conditioning (Set Area))"
        )
    for key, value in options.items():
        if key in (*MAPS, *PLACE):
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(one, Tensor) and one.ndim >= 4 for one in values):
            raise ConfigError(
                f"the CONDITIONING carries pictures ({key}) that cannot be cut into tiles and that this model does not "
                "look at; connect a CONDITIONING without them"
            )
