"""From a generator's weight file to a feed-forward engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...device import DTYPES, pick_dtype
from ...errors import MissingDependencyError, SpecMismatchError, SpecMissingError, WeightsError
from ...models.architectures import ARCHITECTURES
from ...weights.download.sources import Fetch
from ...weights.fingerprint import short_hash
from ...weights.spec import GeneratorSpec, spec_from_metadata
from ...weights.tensors import TensorFile, check_finite, read_tensors
from ..base import EngineSpec
from ..catalog import BuiltInOptions, UpscalerOptions
from .engine import UNKNOWN_RADIUS, CastInput, FeedForward, default_tile

BUILT_IN = Path(__file__).parents[2] / "weights" / "builtin"

LIVE_MAPS = 4
"""Feature maps that are alive at once in a plain convolutional net on inference: input, output, workspace."""


def load_built_in(
    options: BuiltInOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> tuple[FeedForward, torch.dtype]:
    """Load one of the restorers that ship inside the package."""
    del fetch
    engine, chosen = _load(BUILT_IN / options.file, options.engine, device, dtype)
    return replace(engine, spec=replace(engine.spec, color_fix=options.color_fix)), chosen


def load_upscaler(
    options: UpscalerOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> tuple[FeedForward, torch.dtype]:
    """Load a super-resolution model file: ours by its spec, any other through spandrel."""
    del fetch
    return _load(options.weights, "upscaler", device, dtype)


def built_in_skeleton(
    options: BuiltInOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> tuple[FeedForward, torch.dtype]:
    """Return a built-in restorer on torch's meta device."""
    return _without_numbers(*load_built_in(options, device, dtype, fetch))


def upscaler_skeleton(
    options: UpscalerOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> tuple[FeedForward, torch.dtype]:
    """Return `load_upscaler`'s engine on torch's meta device; the file is read, for its shapes."""
    return _without_numbers(*load_upscaler(options, device, dtype, fetch))


def _without_numbers(engine: FeedForward, dtype: torch.dtype) -> tuple[FeedForward, torch.dtype]:
    return replace(engine, net=engine.net.to("meta")), dtype


def upscaler_of(model: Any, *, label: str) -> tuple[FeedForward, torch.dtype]:
    """Wrap a super-resolution model that somebody else has loaded and owns; its format is left as it is.

    Args:
        model: `spandrel.ImageModelDescriptor`.
        label: names the weights in the report.

    Raises:
        WeightsError: it does not turn a picture into a picture.
    """
    dtype = model.dtype
    loaded = _wrapped(model, dtype=dtype, dtypes=(str(dtype).removeprefix("torch."),), where=label)
    return _engine(loaded, "upscaler", label)


def _load(path: Path, name: str, device: torch.device, dtype: str) -> tuple[FeedForward, torch.dtype]:
    file = read_tensors(path)
    check_finite(file.tensors, path)
    try:
        spec = spec_from_metadata(file.metadata, path)
    except SpecMissingError:
        loaded = _with_spandrel(file, name, device, dtype)
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
    scale: int
    radius: int
    channels: int
    features: int
    multiple: int
    licence: str


def _ours(file: TensorFile, spec: GeneratorSpec, name: str, device: torch.device, dtype: str) -> _Loaded:
    sizes = {"in_channels": spec.in_channels, "out_channels": spec.out_channels, "features": spec.features}
    if spec.growth is not None:
        sizes["growth"] = spec.growth
    net = ARCHITECTURES.get(spec.architecture)(**sizes, blocks=spec.blocks, scale=spec.scale)
    _check_keys(net, file, name)
    dtypes = tuple(DTYPES)
    chosen = pick_dtype(dtype, device, dtypes)
    net.load_state_dict(file.tensors)
    return _Loaded(
        net=net.to(chosen, memory_format=torch.channels_last),  # type: ignore[call-overload]  # torch's stub lacks it
        dtype=chosen,
        dtypes=dtypes,
        scale=spec.scale,
        radius=receptive_radius(net),
        channels=spec.in_channels,
        features=spec.features,
        multiple=int(getattr(net, "fold", 1)),
        licence=spec.licence,
    )


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


def _with_spandrel(file: TensorFile, name: str, device: torch.device, dtype: str) -> _Loaded:
    try:
        import spandrel
    except ModuleNotFoundError as err:
        raise MissingDependencyError("spandrel", "upscalers", f"reading {file.path.name}") from err
    try:
        model = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(file.tensors))
    except spandrel.UnsupportedModelError as err:
        raise WeightsError(
            f"{file.path}: expected a super-resolution model that spandrel reads, got an unknown layout of "
            f"{len(file.tensors)} tensors ({next(iter(file.tensors))}, …)"
        ) from err
    if not isinstance(model, spandrel.ImageModelDescriptor):
        raise WeightsError(f"{file.path}: expected a picture-to-picture model, got {model.architecture.name}")
    halves = {"bfloat16": model.supports_bfloat16, "float16": model.supports_half}
    dtypes = ("float32", *(n for n, supported in halves.items() if supported))
    return _wrapped(model, dtype=pick_dtype(dtype, device, dtypes), dtypes=dtypes, where=str(file.path))


def _wrapped(model: Any, *, dtype: torch.dtype, dtypes: tuple[str, ...], where: str) -> _Loaded:
    if model.input_channels != model.output_channels:
        raise WeightsError(f"{where}: expected a picture-to-picture model, got {model.architecture.name}")
    return _Loaded(
        net=CastInput(model.model, dtype),
        dtype=dtype,
        dtypes=dtypes,
        scale=model.scale,
        radius=UNKNOWN_RADIUS,
        channels=model.input_channels,
        features=64,
        multiple=max(1, model.size_requirements.multiple_of),
        licence=f"see the source of the file ({model.architecture.name})",
    )


def _engine(loaded: _Loaded, name: str, label: str) -> tuple[FeedForward, torch.dtype]:
    tile = default_tile(loaded.scale, loaded.radius)
    spec = EngineSpec(
        name=name,
        family="feed_forward",
        weights=label,
        channels=loaded.channels,
        default_scale=float(loaded.scale),
        tile=tile,
        dtypes=loaded.dtypes,
        restores_alpha=True,
        licence=loaded.licence,
    )
    finest = max(loaded.features, loaded.channels * loaded.scale**2 * 2)
    engine = FeedForward(
        spec=spec,
        net=loaded.net.eval().requires_grad_(False),
        scale=loaded.scale,
        radius=loaded.radius,
        bytes_per_input_px=LIVE_MAPS * 4.0 * finest,
        multiple=loaded.multiple,
    )
    return engine, loaded.dtype
