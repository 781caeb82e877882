"""Open what data.root, data.roots and validation.root say: the one place that knows every kind of source."""

from __future__ import annotations

from pathlib import Path

from hypir_core.errors import ConfigError

from ..config import Crop, DataConfig, SourceConfig, SourceKind
from .axes import Scale, scales_of
from .custom import open_custom
from .folder import open_folder
from .mixed import Mixed, Part
from .pictures import Fit
from .scene_tiles import open_scenes
from .shards import open_shards
from .source import COLOUR, Channels, Source
from .table import open_list


def open_source(config: DataConfig, *, scale: Scale, channels: Channels = COLOUR, dims: int = 2) -> Source:
    """Open the pictures to train on; `scale` is high-quality pixels per low-quality pixel.

    Raises:
        ConfigError: nothing is there, nothing usable is there, a column is missing, or crop_px or margin_px does
            not divide by `scale`; names the key.
    """
    for name in ("crop_px", "margin_px"):
        value = getattr(config, name)
        axes = max(len(each) for each in (value, scale, (0,)) if not isinstance(each, int))
        if any(side % k for side, k in zip(scales_of(value, axes), scales_of(scale, axes), strict=True)):
            raise ConfigError(f"data.{name}: {value} must divide by the generator's scale {scale}")
    parts = []
    for key, share in config.places.items():
        fit = fit_of(config, paired=share.source.paired, scale=scale)
        source = open_place(
            share.root,
            share.source,
            key=key,
            fit=fit,
            channels=channels,
            dims=dims,
            crop_px=config.crop_px if share.source.paired else config.whole_px,
        )
        parts.append(Part(source, share.weight))
    return parts[0].source if config.root is not None else Mixed.of(parts)


def fit_of(config: DataConfig, *, paired: bool, scale: Scale) -> Fit:
    """Return which sizes can be trained on; the margin is for pictures that are degraded here."""
    margin = bool(config.margin_px) and not paired
    sides = config.whole_px if margin else config.crop_px
    return Fit(
        least_px=sides if isinstance(sides, int) else max(sides),
        least_key="data.crop_px and 2 × data.margin_px" if margin else "data.crop_px",
        exact=config.crop is Crop.none,
        scale=scale,
    )


def open_place(
    root: Path,
    config: SourceConfig,
    *,
    key: str,
    fit: Fit,
    channels: Channels = COLOUR,
    dims: int = 2,
    crop_px: int | tuple[int, ...] | None = None,
    at_most: bool = False,
) -> Source:
    """Open a folder, a list, shards, scenes or a data set of one's own; `key` is the setting that says `root`.

    Raises:
        ConfigError: nothing is there, nothing usable is there, or a column is missing; names the key.
    """
    kind = config.kind_of(root)
    if kind is SourceKind.custom:
        return open_custom(root, config, key=key, scale=fit.scale, channels=channels, dims=dims)
    if kind is SourceKind.scenes:
        sides = fit.least_px if crop_px is None else crop_px
        return open_scenes(
            root,
            config,
            key=key,
            crop_px=sides,
            scale=fit.scale,
            channels=channels,
            dims=dims,
            at_most=at_most,
        )
    if dims != 2:
        raise ConfigError(
            f"{key}: {root} is a {kind.value} of pictures, and the generator takes {dims} axes; set "
            f"{key.removesuffix('root')}source.kind to scenes"
        )
    if kind is SourceKind.list:
        return open_list(root, config, key=key, fit=fit, channels=channels)
    prompt_key, check = config.prompt_column, config.check
    if kind is SourceKind.shards:
        return open_shards(root, key=key, fit=fit, prompt_key=prompt_key, check=check, channels=channels)
    return open_folder(root, key=key, fit=fit, lq_root=config.lq_root, check=check, channels=channels)
