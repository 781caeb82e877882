"""Names and options that a config leaves to the things it names: all of them checked before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hypir_core.config import build
from hypir_core.errors import ConfigError, UnknownNameError

from .config import DiscriminatorConfig, TrainConfig
from .config.checks import raise_all
from .discriminators import ADVERSARIAL, DISCRIMINATORS
from .generators import GENERATORS
from .losses import read_loss_options


def check_options(config: TrainConfig) -> None:
    """Refuse unknown generators, discriminators, losses and options; nothing is loaded or read.

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
    yield "generator.name", lambda: GENERATORS.get(config.generator.name).check(config.generator.options)
    for name, loss in config.losses.items():
        yield "losses", lambda name=name, loss=loss: read_loss_options(name, loss.options)
    for name, entry in config.discriminators.items():
        where = f"discriminators.{name}"
        yield f"{where}.name", lambda entry=entry, where=where: _check_discriminator(entry, where)
        yield (
            f"{where}.loss",
            lambda entry=entry, where=where: build(
                ADVERSARIAL.get(entry.loss), entry.loss_options, where=f"{where}.loss_options"
            ),
        )


def _check_discriminator(entry: DiscriminatorConfig, where: str) -> None:
    build(DISCRIMINATORS.get(entry.name).Options, entry.options, where=f"{where}.options")
