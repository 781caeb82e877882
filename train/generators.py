"""What can be trained to restore, in one list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hypir_core.errors import ConfigError, SpecMismatchError, nearest_hint
from hypir_core.models.generators import GENERATORS as ARCHITECTURES
from hypir_core.registry import Registry
from hypir_core.weights.spec import GeneratorSpec, WeightsSpec
from hypir_core.weights.tensors import check_finite, read_tensors

from .config import ExportConfig, GeneratorConfig, TrainConfig
from .data.batch import Batch


@dataclass(frozen=True, eq=False)
class Generator:
    """A trainable restorer, before accelerate prepares its module."""

    module: nn.Module
    scale: int
    """High-quality pixels per low-quality pixel."""
    restore: Callable[[nn.Module, Batch], Tensor]
    """(prepared module, batch) → images [b 3 h·scale w·scale], [0,1] but not clamped."""
    spec: Callable[[ExportConfig, str], WeightsSpec]
    """(what the config says of the export, the trainer and its commit) → the spec for the file."""


GeneratorBuilder = Callable[[TrainConfig], Generator]

GENERATORS: Registry[GeneratorBuilder] = Registry("generator")


def build_generator(config: TrainConfig) -> Generator:
    """Make the generator that `config` names, with the weights of `base_model` when it is given.

    Raises:
        UnknownNameError: no such generator.
        ConfigError: an option that the architecture does not take.
        WeightsError: `base_model` cannot be read or does not fit.
    """
    return GENERATORS.get(config.generator.name)(config)


def _feed_forward(architecture: str, config: TrainConfig) -> Generator:
    sizes = _sizes(architecture, config.generator)
    module = ARCHITECTURES.get(architecture)(**sizes)
    if config.base_model is not None:
        _start_from(module, Path(config.base_model))

    def spec(export: ExportConfig, trained_with: str) -> GeneratorSpec:
        return GeneratorSpec(
            name=export.name,
            architecture=architecture,
            **sizes,
            trained_on=export.trained_on,
            trained_with=trained_with,
            licence=export.licence,
        )

    return Generator(module, sizes["scale"], lambda prepared, batch: prepared(batch.lq_01), spec)


for _name in ("compact", "rrdb"):
    GENERATORS.add(_name, partial(_feed_forward, _name), summary=ARCHITECTURES.entry(_name).summary)


def _sizes(architecture: str, config: GeneratorConfig) -> dict[str, Any]:
    """Return every size of the architecture: the given ones over its defaults."""
    parameters = inspect.signature(ARCHITECTURES.get(architecture)).parameters
    known = {name: parameter.default for name, parameter in parameters.items()}
    problems = [
        f"generator.options: unknown key {key!r}{nearest_hint(key, known)}; known: {', '.join(known)}"
        for key in config.options
        if key not in known
    ] + [
        f"generator.options.{key} must be a whole number of 1 or more, got {value!r}"
        for key, value in config.options.items()
        if key in known and not (isinstance(value, int) and value >= 1)
    ]
    if problems:
        raise ConfigError(problems)
    return known | config.options


def _start_from(module: nn.Module, path: Path) -> None:
    file = read_tensors(path)
    check_finite(file.tensors, path)
    own = module.state_dict()
    differing = sorted(
        name
        for name in own.keys() | file.tensors.keys()
        if name not in own or name not in file.tensors or own[name].shape != file.tensors[name].shape
    )
    if differing:
        first = differing[0]
        raise SpecMismatchError(
            f"base_model: {path} does not fit the generator; {len(differing)} tensors differ, first "
            f"{first}: file {_shape(file.tensors, first)}, generator {_shape(own, first)}; "
            "change generator.options to the sizes of the file"
        )
    module.load_state_dict(file.tensors)


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return "×".join(map(str, tensors[name].shape)) if name in tensors else "absent"
