"""What can be known of the data before anything is loaded: places that are not there, recipes, channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hypir_core.degrade import load_recipe
from hypir_core.errors import ConfigError, UnknownNameError

from ..config import SourceConfig, SourceKind, TrainConfig
from ..config.checks import raise_all
from .degrading import CLEAN, colour_problem
from .shards import expand_shards
from .usable import sibling
from .wanted import channels_of


def check_data(config: TrainConfig) -> None:
    """Refuse places that are not there, unknown recipes, and channels that do not go together.

    Raises:
        ConfigError: lists every one of them by its key.
    """
    raise_all([*_place_problems(config), *_recipe_problems(config), *_channel_problems(config)])


def _place_problems(config: TrainConfig) -> Iterator[str]:
    for key, share in config.data.places.items():
        yield from _missing(share.root, share.source, key)
    if config.validation:
        yield from _missing(config.validation.root, config.validation.source, "validation.root")


def _missing(root: Path, source: SourceConfig, key: str) -> Iterator[str]:
    kind = source.kind_of(root)
    if kind is SourceKind.folder and not root.is_dir():
        yield f"{key}: {root} is not a folder; set {key}=FOLDER to one with pictures"
    if kind is SourceKind.list and not root.is_file():
        yield f"{key}: {root} cannot be read (there is no such file)"
    if kind is SourceKind.shards:
        try:
            expand_shards(root, key)
        except ConfigError as err:
            yield from err.problems
    if source.lq_root and not source.lq_root.is_dir():
        lq_key = sibling(key, "lq_root")
        yield f"{lq_key}: {source.lq_root} is not a folder; set {lq_key}=FOLDER to one with the partners"


def _recipe_problems(config: TrainConfig) -> Iterator[str]:
    for key, names in _recipes(config):
        for name in names:
            try:
                if name != CLEAN:
                    load_recipe(name)
            except ConfigError as err:
                yield from (f"{key}: {line}" for line in err.problems)
            except UnknownNameError as err:
                yield f"{key}: {err}"


def _channel_problems(config: TrainConfig) -> Iterator[str]:
    """Say where the generator's channels meet something that is made for others."""
    channels = channels_of(config.generator)
    recipes = _recipes(config)
    if recipes and channels.hq != channels.lq:
        yield (
            f"generator.options: it takes {channels.lq} channels and makes {channels.hq}, and a picture that is "
            "degraded keeps its channels; give pairs, or make in_channels and out_channels equal"
        )
    for key, names in recipes:
        for name in names:
            yield from (f"{key}: {line}" for line in colour_problem(name, channels.lq))


def _recipes(config: TrainConfig) -> list[tuple[str, list[str]]]:
    """Return the recipes that will be used, by key."""
    used = []
    if not all(share.source.paired for share in config.data.places.values()):
        used.append(("data.degrade", [share.recipe for share in config.data.degrade if share.weight > 0]))
    if config.validation and not config.validation.source.paired:
        used.append(("validation.recipes", list(config.validation.recipes or ())))
    return used
