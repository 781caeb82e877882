"""Names, options and files that a config leaves to the things it names: all checked before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hypir_core.config import build
from hypir_core.errors import ConfigError, UnknownNameError
from hypir_core.image.ranges import RangesConfig
from hypir_core.models.architectures import ARCHITECTURES

from .config import PIXEL, TrainConfig
from .config.checks import raise_all
from .data.wanted import channels_of, dims_of, scale_of
from .discriminators import ADVERSARIAL, DISCRIMINATORS
from .discriminators.rival import discriminator_options
from .generators import generator_kind
from .losses import LOSSES, check_loss
from .run.validation import recipes_for
from .three_bands import three_bands_problem


def check_options(config: TrainConfig) -> None:
    """Refuse unknown generators, discriminators, losses and options, and networks for colour before other channels.

    Nothing is loaded or read, but the code that a Python path names.

    Raises:
        ConfigError: lists every one of them, each with the nearest name.
    """
    _check_all(_paths(config))
    _check_all(_checks(config))
    _check_all(_checks_with_scale(config))


def check_files(config: TrainConfig) -> None:
    """Refuse weights to start from that are not there; they are looked for, not read.

    Raises:
        ConfigError: lists every setting whose file is absent.
        WeightsNotFoundError: the generator's base is nowhere to be found.
    """
    named: dict[str, object] = {
        f"discriminators.{name}.weights": entry.weights for name, entry in config.discriminators.items()
    }
    named |= {
        f"losses.{name}.options.{key}": loss.options.get(key)
        for name, loss in config.losses.items()
        for key in ("backbone", "weights")
    }
    if config.validation and config.validation.lpips:
        named["validation.lpips.backbone"] = config.validation.lpips.backbone
    raise_all(
        [
            f"{key}: there is no file {path}; check the path"
            for key, path in named.items()
            if path and not Path(str(path)).is_file()
        ]
    )
    generator_kind(config.generator.name).find(config)


def _check_all(checks: Iterator[tuple[str, Callable[[], object]]]) -> None:
    problems: list[str] = []
    for key, check in checks:
        try:
            check()
        except ConfigError as err:
            problems += err.problems
        except UnknownNameError as err:
            problems.append(f"{key}: {err}")
    raise_all(problems)


def _paths(config: TrainConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    """Import what the settings name by Python path, so that it has a name from here on."""
    named = [("generator.name", ARCHITECTURES, config.generator.name)]
    named += [
        (f"discriminators.{key}.name", DISCRIMINATORS, d.name) for key, d in config.discriminators.items()
    ]
    named += [(f"losses.{key}.kind", LOSSES, loss.kind or "") for key, loss in config.losses.items()]
    for key, registry, name in named:
        yield key, lambda registry=registry, name=name, key=key: registry.allow(name, key=key)


def _checks(config: TrainConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    channels, dims = channels_of(config.generator).hq, dims_of(config.generator)
    yield "generator.name", lambda: generator_kind(config.generator.name).check(config.generator.options)
    if config.validation and (lpips := config.validation.lpips):
        key = "validation.lpips.channels"
        yield key, lambda: raise_all(three_bands_problem(lpips.channels, channels, key=key))
    yield "ranges", lambda: _check_ranges(config)
    for name, loss in config.losses.items():
        yield "losses", lambda name=name, loss=loss: check_loss(name, loss, channels, dims)
    for name, entry in config.discriminators.items():
        where = f"discriminators.{name}"
        yield (
            f"{where}.name",
            lambda entry=entry, where=where: discriminator_options(entry, where=where, channels=channels),
        )
        yield (
            f"{where}.loss",
            lambda entry=entry, where=where: build(
                ADVERSARIAL.get(entry.loss), entry.loss_options, where=f"{where}.loss_options"
            ),
        )


def _check_ranges(config: TrainConfig) -> None:
    """Refuse ranges where the generator has those of its own base model."""
    own = config.generator.name not in {*ARCHITECTURES.names(), PIXEL}
    if config.generator.name == PIXEL and config.data.physics and config.ranges != RangesConfig():
        raise ConfigError("ranges: with data.physics the range is that of each measurement; leave ranges out")
    if own and config.ranges != RangesConfig():
        raise ConfigError(
            f"ranges: {config.generator.name} takes pictures in [0,1] as they are; leave ranges out"
        )


def _checks_with_scale(config: TrainConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what can only be asked when the generator's options are known to be right."""
    if validation := config.validation:
        scale, channels = scale_of(config.generator), channels_of(config.generator).hq
        dims = dims_of(config.generator)
        yield "validation.recipes", lambda: recipes_for(validation, scale=scale, channels=channels, dims=dims)
