"""Open what data.root, data.roots and validation.root say: the one place that knows every kind of source."""

from __future__ import annotations

from pathlib import Path

from hypir_core.errors import ConfigError

from ..config import Crop, DataConfig, SourceConfig, SourceKind
from .folder import open_folder
from .mixed import Mixed, Part
from .pictures import Fit
from .shards import open_shards
from .source import COLOUR, Channels, Source
from .table import open_list


def open_source(config: DataConfig, *, scale: int, channels: Channels = COLOUR) -> Source:
    """Open the pictures to train on; `scale` is high-quality pixels per low-quality pixel.

    Raises:
        ConfigError: nothing is there, nothing usable is there, a column is missing, or crop_px or margin_px does
            not divide by `scale`; names the key.
    """
    for name in ("crop_px", "margin_px"):
        if getattr(config, name) % scale:
            raise ConfigError(
                f"data.{name}: {getattr(config, name)} must divide by the generator's scale {scale}"
            )
    parts = []
    for key, share in config.places.items():
        fit = fit_of(config, paired=share.source.paired, scale=scale)
        source = open_place(share.root, share.source, key=key, fit=fit, channels=channels)
        parts.append(Part(source, share.weight))
    return parts[0].source if config.root is not None else Mixed.of(parts)


def fit_of(config: DataConfig, *, paired: bool, scale: int) -> Fit:
    """Return which sizes can be trained on; the margin is for pictures that are degraded here."""
    margin = bool(config.margin_px) and not paired
    return Fit(
        least_px=config.whole_px if margin else config.crop_px,
        least_key="data.crop_px and 2 × data.margin_px" if margin else "data.crop_px",
        exact=config.crop is Crop.none,
        scale=scale,
    )


def open_place(
    root: Path, config: SourceConfig, *, key: str, fit: Fit, channels: Channels = COLOUR
) -> Source:
    """Open a folder, a list or shards; `key` is the setting that says `root`.

    Raises:
        ConfigError: nothing is there, nothing usable is there, or a column is missing; names the key.
    """
    kind = config.kind_of(root)
    if kind is SourceKind.list:
        return open_list(root, config, key=key, fit=fit, channels=channels)
    prompt_key, check = config.prompt_column, config.check
    if kind is SourceKind.shards:
        return open_shards(root, key=key, fit=fit, prompt_key=prompt_key, check=check, channels=channels)
    return open_folder(root, key=key, fit=fit, lq_root=config.lq_root, check=check, channels=channels)
