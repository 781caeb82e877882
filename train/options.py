"""Names and options that a config leaves to the things it names: all of them checked before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hypir_core.config import build
from hypir_core.errors import ConfigError, UnknownNameError

from .config import TrainConfig
from .config.checks import raise_all
from .data.wanted import channels_of
from .discriminators import ADVERSARIAL
from .discriminators.rival import discriminator_options
from .generators import GENERATORS
from .losses import check_loss
from .three_bands import three_bands_problem


def check_options(config: TrainConfig) -> None:
    """Refuse unknown generators, discriminators, losses and options, and networks for colour before other channels.

    Nothing is loaded or read.

    Raises:
        ConfigError: lists every one of them, each with the nearest name.
    """
    problems: list[str] = []
    for key, check in _checks(config):
        try:
            check()
        except ConfigError as err:
            problems += err.problems
        except UnknownNameError as err:
            problems.append(f"{key}: {err}")
    raise_all(problems)


def _checks(config: TrainConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    channels = channels_of(config.generator).hq
    yield "generator.name", lambda: GENERATORS.get(config.generator.name).check(config.generator.options)
    if config.validation and (lpips := config.validation.lpips):
        key = "validation.lpips.channels"
        yield key, lambda: raise_all(three_bands_problem(lpips.channels, channels, key=key))
    for name, loss in config.losses.items():
        yield "losses", lambda name=name, loss=loss: check_loss(name, loss, channels)
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
