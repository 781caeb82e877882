"""What can be known of the data before anything is loaded: places that are not there, recipes, channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hypir_core.degrade import load_recipe
from hypir_core.errors import ConfigError, UnknownNameError

from ..config import SourceConfig, SourceKind, TrainConfig
from ..config.checks import raise_all
from .degrading import PLAIN, colour_problem
from .shards import expand_shards
from .usable import sibling
from .wanted import channels_of, dims_of, scale_of


def check_data(config: TrainConfig) -> None:
    """Refuse places that are not there, unknown recipes, and channels that do not go together.

    Raises:
        ConfigError: lists every one of them by its key.
    """
    raise_all(
        [
            *_place_problems(config),
            *_recipe_problems(config),
            *_channel_problems(config),
            *_physics_problems(config),
        ]
    )


def _place_problems(config: TrainConfig) -> Iterator[str]:
    for key, share in config.data.places.items():
        yield from _missing(share.root, share.source, key)
    if config.validation:
        yield from _missing(config.validation.root, config.validation.source, "validation.root")


def _missing(root: Path, source: SourceConfig, key: str) -> Iterator[str]:
    kind = source.kind_of(root)
    if kind is SourceKind.folder and not root.is_dir():
        yield f"{key}: {root} is not a folder; set {key}=FOLDER to one with pictures"
    if kind is SourceKind.scenes and not root.exists():
        yield f"{key}: {root} is not there; set it to a raster, a volume, or a folder of such"
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
                if name not in PLAIN:
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


def _physics_problems(config: TrainConfig) -> Iterator[str]:
    """Say where a microscope cannot measure what the generator learns from."""
    physics, data = config.data.physics, config.data
    if physics is None:
        return
    if physics.psf is not None and not physics.psf.is_file():
        yield f"data.physics.psf: there is no file {physics.psf}; check the path"
    if scale_of(config.generator) != 1 or dims_of(config.generator) != 2:
        yield (
            "data.physics: a measurement has the size of its target, in 2 axes; use a generator of scale 1, or degrade"
        )
    if any(share.source.paired for share in data.places.values()):
        yield "data.physics: some of the pictures have partners already; leave physics out, or the partners"


def _recipes(config: TrainConfig) -> list[tuple[str, list[str]]]:
    """Return the recipes that will be used, by key."""
    used = []
    if not (config.data.physics or all(s.source.may_be_paired for s in config.data.places.values())):
        used.append(("data.degrade", [share.recipe for share in config.data.degrade if share.weight > 0]))
    if config.validation and not (config.validation.photons or config.validation.source.may_be_paired):
        used.append(("validation.recipes", list(config.validation.recipes or ())))
    return used
