"""From a generator's weight file to a feed-forward engine."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...config import to_plain
from ...device import DTYPES, pick_dtype
from ...errors import ConfigError, SpecMismatchError, SpecMissingError
from ...image.ranges import UNIT, RangeConfig
from ...models.architectures import ARCHITECTURES
from ...weights.download.sources import Fetch
from ...weights.fingerprint import short_hash
from ...weights.spec import GeneratorSpec, spec_from_metadata
from ...weights.tensors import TensorFile, check_finite, read_tensors
from ..base import EngineSpec
from .engine import UNKNOWN_RADIUS, FeedForward
from .options import BuiltInOptions, UpscalerOptions
from .spandrel_net import TRIAL_PX, formats_of, in_one_line, least_sides, read_descriptor, tried

BUILT_IN = Path(__file__).parents[2] / "weights" / "builtin"

UNKNOWN_FEATURES = 64
"""Channels of a feature map where the file does not say."""

LIVE_MAPS = 4
"""Feature maps that are alive at once in a plain convolutional net on inference: input, output, workspace."""


def load_built_in(
    options: BuiltInOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> FeedForward:
    """Load one of the restorers that ship inside the package."""
    del fetch
    engine = _load(BUILT_IN / options.file, options.engine, device, dtype)
    return replace(engine, spec=replace(engine.spec, color_fix=options.color_fix))


def load_upscaler(
    options: UpscalerOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> FeedForward:
    """Load a super-resolution model file: ours by its spec, any other through spandrel."""
    del fetch
    return _load(options.weights, "upscaler", device, dtype)


def built_in_skeleton(
    options: BuiltInOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> FeedForward:
    """Return a built-in restorer on torch's meta device."""
    return _without_numbers(load_built_in(options, device, dtype, fetch))


def upscaler_skeleton(
    options: UpscalerOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> FeedForward:
    """Return `load_upscaler`'s engine on torch's meta device; the file is read, for its shapes."""
    return _without_numbers(load_upscaler(options, device, dtype, fetch))


def _without_numbers(engine: FeedForward) -> FeedForward:
    return replace(engine, net=engine.net.to("meta"))


def upscaler_of(model: Any, *, label: str) -> FeedForward:
    """Wrap a super-resolution model that somebody else has loaded and owns; its format is left as it is.

    Args:
        model: `spandrel.ImageModelDescriptor`.
        label: names the weights in the report.

    Raises:
        ConfigError, WeightsError: it does not turn a picture into a picture, or not in its format.
    """
    dtype = model.dtype
    return _engine(_foreign(model, dtype, device=model.device, asked=True, where=label), "upscaler", label)


def _load(path: Path, name: str, device: torch.device, dtype: str) -> FeedForward:
    file = read_tensors(path)
    check_finite(file.tensors, path)
    try:
        spec = spec_from_metadata(file.metadata, path)
    except SpecMissingError:
        model = read_descriptor(file)
        chosen = pick_dtype(dtype, device, formats_of(model))
        loaded = _foreign(model, chosen, device=device, asked=dtype != "auto", where=str(path))
    else:
        if not isinstance(spec, GeneratorSpec):
            raise SpecMismatchError(
                f"{path}: expected a generator, got a {spec.kind}; use another --engine for it"
            )
        loaded = _ours(file, spec, name, device, dtype)
    return _engine(loaded, name, f"{path.name} {short_hash(path)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Loaded:
    """A generator and what the engine must know about it."""

    net: nn.Module
    dtype: torch.dtype
    dtypes: tuple[str, ...]
    scale: tuple[int, ...]
    radius: int
    in_channels: int
    out_channels: int
    features: int
    licence: str
    multiple: int = 1
    least_tile_px: int = 0
    value_range: RangeConfig = field(default_factory=RangeConfig)
    notes: tuple[str, ...] = ()


def _ours(file: TensorFile, spec: GeneratorSpec, name: str, device: torch.device, dtype: str) -> _Loaded:
    if (
        spec.value_range.kind.fitted
        and spec.value_range.per_channel
        and spec.in_channels != spec.out_channels
    ):
        raise SpecMismatchError(
            f"{file.path}: a {spec.value_range.kind.value!r} range of each channel cannot be undone where "
            f"{spec.in_channels} channels become {spec.out_channels}; fit one for all (per_channel: false)"
        )
    net = _built(file, spec)
    _check_keys(net, file, name)
    dtypes = tuple(DTYPES)
    chosen = pick_dtype(dtype, device, dtypes)
    net.load_state_dict(file.tensors)
    net.to(chosen)
    features = spec.options.get("features", UNKNOWN_FEATURES)
    return _Loaded(
        net=net.to(memory_format=torch.channels_last) if spec.dims == 2 else net,  # type: ignore[call-overload]  # torch's stub lacks it
        dtype=chosen,
        dtypes=dtypes,
        scale=spec.scales,
        radius=receptive_radius(net),
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        features=features if isinstance(features, int) else UNKNOWN_FEATURES,
        multiple=int(getattr(net, "fold", 1)),
        licence=spec.licence,
        value_range=spec.value_range,
    )


def _built(file: TensorFile, spec: GeneratorSpec) -> nn.Module:
    """Make the module that a spec names, with random numbers.

    Raises:
        SpecMismatchError: the architecture does not have these axes, channels, factors or options.
        UnknownNameError: there is no such architecture.
    """
    make = ARCHITECTURES.get(spec.architecture)
    known = inspect.signature(make).parameters
    unknown = sorted(option for option in spec.options if option not in known)
    if unknown:
        raise SpecMismatchError(
            f"{file.path}: {spec.architecture} has no option {unknown[0]!r} (it has: {', '.join(known)}); "
            "update this package"
        )
    wanted: Mapping[str, Any] = {"in_channels": spec.in_channels, "out_channels": spec.out_channels}
    if "dims" in known:
        wanted = {**wanted, "dims": spec.dims}
    elif spec.dims != 2:
        raise SpecMismatchError(
            f"{file.path}: {spec.architecture} has 2 spatial axes, got a spec of {spec.dims}; update this package"
        )
    same = len(set(spec.scales)) == 1
    try:
        return make(**spec.options, **wanted, scale=spec.scales[0] if same else spec.scales)
    except (ConfigError, TypeError, ValueError) as err:
        raise SpecMismatchError(f"{file.path}: {spec.architecture}: {in_one_line(err)}") from err


def receptive_radius(net: nn.Module) -> int:
    """Return the input pixels that one output cell of a generator of ours depends on, to each side."""
    radius = getattr(net, "receptive_radius", None)
    assert isinstance(radius, int), f"{type(net).__name__} does not say how far it sees"
    return radius


def _check_keys(net: nn.Module, file: TensorFile, name: str) -> None:
    expected = {key: tuple(t.shape) for key, t in net.state_dict().items()}
    got = {key: tuple(t.shape) for key, t in file.tensors.items()}
    if expected != got:
        wrong = sorted(key for key in expected.keys() | got.keys() if expected.get(key) != got.get(key))
        key = wrong[0]
        raise SpecMismatchError(
            f"{file.path}: {len(wrong)} tensors do not fit engine {name!r}; the first is {key!r}: "
            f"expected {expected.get(key, 'none')}, got {got.get(key, 'none')}"
        )


def _foreign(model: Any, dtype: torch.dtype, *, device: torch.device, asked: bool, where: str) -> _Loaded:
    found = tried(model, dtype, device=device, asked=asked, where=where)
    own = next(k for k, known in DTYPES.items() if known == found.net.dtype)
    return _Loaded(
        net=found.net,
        dtype=found.net.dtype,
        dtypes=found.dtypes if not asked else (own,),
        scale=(model.scale,) * 2,
        radius=UNKNOWN_RADIUS,
        in_channels=model.input_channels,
        out_channels=model.output_channels,
        features=UNKNOWN_FEATURES,
        least_tile_px=max(least_sides(model.size_requirements, TRIAL_PX)),
        licence=f"see the source of the file ({model.architecture.name})",
        notes=found.notes,
    )


def _engine(loaded: _Loaded, name: str, label: str) -> FeedForward:
    wants = loaded.value_range
    spec = EngineSpec(
        name=name,
        weights=label,
        dtype=str(loaded.dtype).removeprefix("torch."),
        settings={} if wants == RangeConfig() else {"value_range": to_plain(wants)},
        in_channels=loaded.in_channels,
        out_channels=loaded.out_channels,
        axes=len(loaded.scale),
        default_scale=float(max(loaded.scale)),
        dtypes=loaded.dtypes,
        # An alpha channel comes in as a grey picture, and has no brightness that a range could be fitted on.
        restores_alpha=loaded.in_channels == loaded.out_channels
        and loaded.in_channels in {1, 3}
        and not wants.kind.fitted,
        streams=len(loaded.scale) == 2,
        licence=loaded.licence,
        notes=loaded.notes,
    )
    finest = max(loaded.features, loaded.out_channels * prod(loaded.scale) * 2)
    return FeedForward(
        spec=spec,
        net=loaded.net.eval().requires_grad_(False),
        scale=loaded.scale,
        radius=loaded.radius,
        bytes_per_input_px=LIVE_MAPS * 4.0 * finest,
        multiple=loaded.multiple,
        least_tile_px=loaded.least_tile_px,
        value_range=UNIT if wants.kind.fitted else wants.fixed,
        fitted_range=wants if wants.kind.fitted else None,
    )
