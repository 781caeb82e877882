"""Open what data.root and validation.root say: the one place that knows every kind of source."""

from __future__ import annotations

from pathlib import Path

from hypir_core.errors import ConfigError

from ..config import Crop, DataConfig, SourceConfig, SourceKind
from .folder import open_folder
from .pictures import Fit
from .shards import open_shards
from .source import Source
from .table import open_list


def open_source(config: DataConfig, *, scale: int) -> Source:
    """Open the pictures to train on; `scale` is high-quality pixels per low-quality pixel.

    Raises:
        ConfigError: nothing is there, nothing usable is there, a column is missing, or crop_px does not divide
            by `scale`; names the key.
    """
    if config.crop_px % scale:
        raise ConfigError(f"data.crop_px: {config.crop_px} must divide by the generator's scale {scale}")
    exact = config.crop is Crop.none
    fit = Fit(least_px=config.crop_px, least_key="data.crop_px", exact=exact, scale=scale)
    return open_place(config.root, config.source, key="data.root", fit=fit)


def open_place(root: Path, config: SourceConfig, *, key: str, fit: Fit) -> Source:
    """Open a folder, a list or shards; `key` is the setting that says `root`.

    Raises:
        ConfigError: nothing is there, nothing usable is there, or a column is missing; names the key.
    """
    kind = config.kind_of(root)
    if kind is SourceKind.list:
        return open_list(root, config, key=key, fit=fit)
    if kind is SourceKind.shards:
        return open_shards(root, key=key, fit=fit, prompt_key=config.prompt_column, check=config.check)
    return open_folder(root, key=key, fit=fit, lq_root=config.lq_root, check=config.check)
