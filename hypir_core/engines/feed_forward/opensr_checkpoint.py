"""Checkpoints of opensr-srgan (Lightning's ``.ckpt``) become weight files of ours. Nothing in them is run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import ConfigError, SpecMismatchError, WeightsError
from ...image.ranges import RangeConfig
from ...models.architectures import build_architecture, options_of
from ...models.architectures.sizes import Sizes
from ...weights.opensr_config import Described, describe_generator, describe_range
from ...weights.opensr_layout import generator_tensors, layout_of
from ...weights.spec import NOT_STATED, GeneratorSpec, spec_to_metadata
from ...weights.tensors import check_finite, misfits, read_checkpoint, write_tensors

log = logging.getLogger(__name__)

EMA_STATE = "ema_state"
"""Entry of a checkpoint with the averaged weights."""

NO_RANGE = (
    "the file does not say which range its numbers have, so values are taken as they are; give the settings it was "
    "trained with (--config)"
)
"""What is said of a generator without its settings."""


class Which(str, Enum):
    """Weights of a checkpoint."""

    raw = "raw"
    """Those of the last step."""
    ema = "ema"
    """Their running average, which the original restores with."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What `convert_checkpoint` did."""

    path: Path
    spec: GeneratorSpec
    which: Which
    tensors: int
    notes: tuple[str, ...]
    """What was left out or assumed, a sentence each."""


def generator_of(config: Mapping[str, Any]) -> nn.Module:
    """Return the generator that settings of opensr-srgan describe, with weights to train from.

    It has the original's tensor names. ``forward`` maps [b bands h w] to [b bands h·scale w·scale] in the network's
    range; a stochastic one takes the latent [b noise_dim] as second argument.

    Args:
        config: the YAML file's mapping; the sections ``Model`` and ``Generator`` count.

    Raises:
        ConfigError: lists unknown keys and wrong values.
        UnknownNameError: no such generator.
    """
    found = describe_generator(config)
    for note in found.notes:
        log.warning(note)
    return build_architecture(found.architecture, found.options, where="Generator")


def convert_checkpoint(
    in_path: str | Path,
    out_path: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    which: Which | None = None,
    force: bool = False,
) -> Converted:
    """Rewrite the generator of a checkpoint as a weight file that says what it is.

    Args:
        in_path: a Lightning checkpoint, or the generator's tensors alone.
        out_path: a .safetensors file.
        config: the settings that it was trained with. Without them the sizes are read off the tensors, the range is
            unknown and `res_scale` is taken for 0.2.
        which: None takes the average where there is one, as the original does.
        force: replace `out_path` where it exists.

    Raises:
        ConfigError: the paths, the settings or `which` do not go with the file.
        WeightsError: the file cannot be read or written, or holds NaN.
        SpecMismatchError: the settings describe another network.
    """
    in_path, out_path = Path(in_path), Path(out_path)
    _check_paths(in_path, out_path, force=force)
    content = read_checkpoint(in_path)
    chosen, tensors = _weights_of(content, which, in_path)
    check_finite(tensors, in_path)
    found, value_range, notes = _described(config, tensors, in_path)
    options = options_of(found.architecture, found.options, where="Generator")
    _check_fit(found, tensors, in_path)
    spec = spec_of(found.architecture, options, value_range, name=in_path.stem)
    write_tensors(out_path, tensors, spec_to_metadata(spec))
    if not isinstance(content.get(EMA_STATE), Mapping) and which is None:
        notes = (*notes, "the file has no averaged weights; the last step's were taken")
    return Converted(path=out_path, spec=spec, which=chosen, tensors=len(tensors), notes=notes)


def spec_of(architecture: str, options: Sizes, value_range: RangeConfig, *, name: str) -> GeneratorSpec:
    """Return the spec of a generator from elsewhere."""
    return GeneratorSpec(
        name=name,
        architecture=architecture,
        dims=options.dims,
        scale=options.scale,
        in_channels=options.in_channels,
        out_channels=options.makes,
        options=options.own,
        value_range=value_range,
        trained_on=NOT_STATED,
        trained_with="opensr-srgan",
        licence=NOT_STATED,
    )


def _check_paths(in_path: Path, out_path: Path, *, force: bool) -> None:
    problems = []
    if out_path.suffix != ".safetensors":
        problems.append(f"{out_path}: expected a file name ending in .safetensors")
    if in_path.resolve() == out_path.resolve():
        problems.append(f"{out_path}: is read by this conversion; choose another output name")
    elif out_path.exists() and not force:
        problems.append(f"{out_path}: exists already; choose another name, or allow replacing it (--force)")
    if problems:
        raise ConfigError(problems)


def _weights_of(
    content: Mapping[str, Any], which: Which | None, path: Path
) -> tuple[Which, dict[str, Tensor]]:
    """Return the generator's tensors.

    The average holds parameters that are trained, and buffers; the rest, if there is any, is the last step's.
    """
    state = content.get("state_dict", content)
    named = (
        {name: t for name, t in state.items() if isinstance(t, Tensor)} if isinstance(state, Mapping) else {}
    )
    raw = {name: tensor.detach() for name, tensor in generator_tensors(named).items()}
    if not raw:
        raise WeightsError(
            f"{path}: expected a checkpoint of opensr-srgan with the tensors 'generator. …', got entries "
            f"{', '.join(map(str, list(content)[:8]))}; use another file"
        )
    average = content.get(EMA_STATE)
    if which is Which.raw or (which is None and not isinstance(average, Mapping)):
        return Which.raw, raw
    if not isinstance(average, Mapping):
        raise ConfigError(f"{path}: has no averaged weights ({EMA_STATE}); use --weights raw")
    shadow = {**average.get("shadow_params", {}), **average.get("shadow_buffers", {})}
    strange = sorted(name for name in shadow if name not in raw)
    if not shadow or strange:
        what = f"tensors that the generator lacks ({strange[0]} …)" if strange else "nothing"
        raise WeightsError(f"{path}: the averaged weights hold {what}; use --weights raw")
    return Which.ema, raw | {name: tensor.detach() for name, tensor in shadow.items()}


def _described(
    config: Mapping[str, Any] | None, tensors: Mapping[str, Tensor], path: Path
) -> tuple[Described, RangeConfig, tuple[str, ...]]:
    if config is not None:
        found = describe_generator(config)
        return found, describe_range(config), found.notes
    layout = layout_of(tensors)
    if layout is None:
        raise WeightsError(
            f"{path}: expected a generator of opensr-srgan, got {len(tensors)} other tensors "
            f"({next(iter(tensors))}, …); use another file"
        )
    return Described(architecture=layout[0], options=layout[1]), RangeConfig(), (NO_RANGE,)


def _check_fit(found: Described, tensors: Mapping[str, Tensor], path: Path) -> None:
    own = build_architecture(found.architecture, found.options, where="Generator").state_dict()
    wrong = misfits(own, tensors)
    if not wrong:
        return
    layout, first = layout_of(tensors), wrong[0]
    holds = _in_words(*layout) if layout else f"{len(tensors)} other tensors"
    sides = [str(tuple(side[first].shape)) if first in side else "none" for side in (own, tensors)]
    raise SpecMismatchError(
        f"{path}: the settings describe {_in_words(found.architecture, found.options)}, the file holds {holds}; "
        f"{len(wrong)} tensors differ, first {first!r}: {sides[0]} and {sides[1]}; give the settings it was trained with"
    )


def _in_words(architecture: str, options: Mapping[str, Any]) -> str:
    shown = ("block", "in_channels", "channels", "blocks", "scale", "growth")
    return f"{architecture} ({', '.join(f'{key} {options[key]}' for key in shown if key in options)})"
