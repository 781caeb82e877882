"""From a generator's weight file to a feed-forward engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...config import to_plain
from ...device import DTYPES, pick_dtype
from ...errors import ConfigError, SpecMismatchError, SpecMissingError, UnknownNameError
from ...image.ranges import Range, RangeConfig, RangeKind
from ...models.architectures import ARCHITECTURES, build_architecture, options_of, tensors_from_file
from ...models.layers.shared_pools import global_pools
from ...weights.download.sources import Fetch
from ...weights.fingerprint import short_hash
from ...weights.opensr_layout import generator_tensors, layout_of
from ...weights.spec import GeneratorSpec, spec_from_metadata
from ...weights.tensors import TensorFile, check_finite, misfits, read_tensors
from ..base import EngineSpec
from .drawing import Drawing
from .engine import UNKNOWN_RADIUS, FeedForward
from .opensr_checkpoint import spec_of
from .options import BuiltInOptions, Result, UpscalerOptions
from .spandrel_net import TRIAL_PX, formats_of, in_one_line, least_sides, read_descriptor, tried

BUILT_IN = Path(__file__).parents[2] / "weights" / "builtin"

UNKNOWN_FEATURES = 64
"""Channels of a feature map where the file does not say."""

MOST_RADIUS = 32
"""Input pixels of surroundings that a tile keeps at most. Deep networks see hundreds, but what lies beyond these changed
a result by 5e-6 of the range at most (16 blocks of every kind, weights drawn twice as large as at the start)."""

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
    """Load a super-resolution model file: ours by its spec, any other by its layout or through spandrel.

    Raises:
        ConfigError: a result of many pictures is asked of a network that makes but one.
    """
    del fetch
    engine = _load(options.weights, "upscaler", device, dtype)
    drawing = engine.drawing
    if drawing is None:
        if options.result is not Result.sample:
            raise ConfigError(
                f"{options.weights}: this network draws nothing, so there is no {options.result.value} of its "
                "pictures; leave out result and samples"
            )
        return engine
    drawing = replace(drawing, result=options.result, samples=options.samples)
    settings = {**engine.spec.settings, "result": options.result.value, "samples": options.samples}
    made = engine.spec.out_channels * (2 if options.result is Result.both else 1)
    return replace(engine, drawing=drawing, spec=replace(engine.spec, settings=settings, out_channels=made))


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
        loaded = _of_opensr(file, name, device, dtype)
        if loaded is None:
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
    maps_per_cell: int
    """Numbers of the largest feature map, for every input cell."""
    licence: str
    bands: tuple[str, ...] = ()
    multiple: int = 1
    least_px: int = 1
    tile_px: int = 0
    """Side of its tiles; 0: as other networks' of so many axes."""
    least_tile_px: int = 0
    value_range: RangeConfig = field(default_factory=RangeConfig)
    out_range: RangeConfig | None = None
    noise_dim: int = 0
    """Numbers in its latent; 0 where it takes none."""
    pools: tuple[nn.Module, ...] = ()
    """Layers that take means over all they are given."""
    takes_kept: bool = False
    """Makes a smaller result at once when it is told the factors."""
    notes: tuple[str, ...] = ()


def _ours(file: TensorFile, spec: GeneratorSpec, name: str, device: torch.device, dtype: str) -> _Loaded:
    _check_ranges(file, spec)
    net = built(spec, file.path)
    file = replace(file, tensors=tensors_from_file(spec.architecture, file.tensors))
    _check_keys(net, file, name)
    dtypes = tuple(DTYPES)
    chosen = pick_dtype(dtype, device, dtypes)
    net.load_state_dict(file.tensors)
    net.to(chosen)
    return _Loaded(
        net=net.to(memory_format=torch.channels_last) if spec.dims == 2 else net,  # type: ignore[call-overload]  # torch's stub lacks it
        dtype=chosen,
        dtypes=dtypes,
        scale=spec.scales,
        radius=min(receptive_radius(net), MOST_RADIUS),
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        bands=spec.bands,
        maps_per_cell=_stated(net, "maps_per_cell"),
        multiple=int(getattr(net, "fold", 1)),
        least_px=int(getattr(net, "least_px", 1)),
        tile_px=int(getattr(net, "tile_side", 0)),
        noise_dim=int(getattr(net, "noise_dim", 0)),
        pools=global_pools(net),
        takes_kept=bool(getattr(net, "takes_kept", False)),
        licence=spec.licence,
        value_range=spec.value_range,
        out_range=spec.out_range,
    )


def _check_ranges(file: TensorFile, spec: GeneratorSpec) -> None:
    """Refuse ranges that could not be used, before a picture is read.

    Raises:
        SpecMismatchError: results could not be brought back to file values, or a range is made of absent code.
    """
    given = spec.out_range or spec.value_range
    from_input = spec.out_range is None or given.needs_scene
    if from_input and given.kind.fitted and given.per_channel and spec.in_channels != spec.out_channels:
        raise SpecMismatchError(
            f"{file.path}: a {given.kind.value!r} range of each channel cannot be undone where "
            f"{spec.in_channels} channels become {spec.out_channels}; fit one for all (per_channel: false)"
        )
    for each in (spec.value_range, given):
        try:
            _ = each.needs_scene or each.fixed
        except (ConfigError, UnknownNameError) as err:
            raise SpecMismatchError(f"{file.path}: {in_one_line(err)}") from err


def _of_opensr(file: TensorFile, name: str, device: torch.device, dtype: str) -> _Loaded | None:
    """Return a generator of opensr-srgan, read off its tensors, or None where they are another network's."""
    tensors = generator_tensors(file.tensors)
    layout = layout_of(tensors)
    if layout is None:
        return None
    architecture, data = layout
    options = options_of(architecture, data, where=f"{file.path}: {architecture}")
    spec = spec_of(architecture, options, RangeConfig(), name=file.path.stem)
    loaded = _ours(replace(file, tensors=tensors), spec, name, device, dtype)
    note = (
        f"{file.path.name} does not say which range its numbers have, so values were taken as they are; hypir convert "
        "makes a file of it that says so, and takes averaged weights where there are any"
    )
    return replace(loaded, notes=(note,))


def built(spec: GeneratorSpec, where: Path) -> nn.Module:
    """Make the module that a spec names, with random numbers; `where` names the file in errors.

    Raises:
        SpecMismatchError: the architecture does not have these axes, channels, factors or options.
        UnknownNameError: there is no such architecture.
    """
    if ":" in spec.architecture and spec.architecture not in ARCHITECTURES:
        raise SpecMismatchError(
            f"{where}: its generator is the code {spec.architecture}, and code is run only if you ask for it; call "
            "hypir_core.models.architectures.ARCHITECTURES.allow, or install a package that registers it"
        )
    same = len(set(spec.scales)) == 1
    data = {
        **spec.options,
        "in_channels": spec.in_channels,
        "out_channels": spec.out_channels,
        "scale": spec.scales[0] if same else spec.scales,
        "dims": spec.dims,
    }
    try:
        return build_architecture(spec.architecture, data, where=f"{where}: {spec.architecture}")
    except ConfigError as err:
        raise SpecMismatchError(f"{in_one_line(err)}; update this package, or get the file again") from err


def receptive_radius(net: nn.Module) -> int:
    """Return the input pixels that one output cell of a generator of ours depends on, to each side."""
    return _stated(net, "receptive_radius")


def _stated(net: nn.Module, name: str) -> int:
    number = getattr(net, name, None)
    assert isinstance(number, int), f"{type(net).__name__} does not say its {name}"
    return number


def _check_keys(net: nn.Module, file: TensorFile, name: str) -> None:
    own = net.state_dict()
    wrong = misfits(own, file.tensors)
    if wrong:
        expected, got = (
            tuple(tensors[wrong[0]].shape) if wrong[0] in tensors else "none"
            for tensors in (own, file.tensors)
        )
        raise SpecMismatchError(
            f"{file.path}: {len(wrong)} tensors do not fit engine {name!r}; the first is {wrong[0]!r}: "
            f"expected {expected}, got {got}"
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
        maps_per_cell=max(UNKNOWN_FEATURES, model.output_channels * model.scale**2 * 2),
        least_tile_px=max(least_sides(model.size_requirements, TRIAL_PX)),
        licence=f"see the source of the file ({model.architecture.name})",
        notes=found.notes,
    )


def _speaks_of_files(wants: RangeConfig) -> bool:
    """Say whether a range is about the numbers of a file, and not about a picture's [0,1].

    Numbers that were fitted on a data set say so themselves: those of pictures stay within a few units.
    """
    if isinstance(wants.saved, Range):
        middle, width = wants.saved.middle, wants.saved.width
        return any(abs(m) + w > 2 for m, w in zip(middle, width, strict=True))
    return wants.kind in {RangeKind.white, RangeKind.window, RangeKind.custom}


def _engine(loaded: _Loaded, name: str, label: str) -> FeedForward:
    wants = loaded.value_range
    spec = EngineSpec(
        name=name,
        weights=label,
        dtype=str(loaded.dtype).removeprefix("torch."),
        settings={
            name: to_plain(each)
            for name, each in (("value_range", wants), ("out_range", loaded.out_range))
            if each is not None and each != RangeConfig()
        },
        in_channels=loaded.in_channels,
        out_channels=loaded.out_channels,
        bands=loaded.bands,
        axes=len(loaded.scale),
        default_scale=float(max(loaded.scale)),
        dtypes=loaded.dtypes,
        # An alpha channel comes in as a grey picture, and has no brightness that a range could be fitted on.
        restores_alpha=loaded.in_channels == loaded.out_channels
        and loaded.in_channels in {1, 3}
        and not any(each.kind.fitted for each in (wants, loaded.out_range or wants))
        and not loaded.noise_dim,
        streams=True,
        file_values=_speaks_of_files(wants),
        licence=loaded.licence,
        notes=loaded.notes,
    )
    return FeedForward(
        spec=spec,
        net=loaded.net.eval().requires_grad_(False),
        scale=loaded.scale,
        radius=loaded.radius,
        bytes_per_input_px=LIVE_MAPS * 4.0 * loaded.maps_per_cell,
        multiple=loaded.multiple,
        least_px=loaded.least_px,
        tile_input_px=loaded.tile_px or None,
        least_tile_px=loaded.least_tile_px,
        value_range=wants,
        out_range=loaded.out_range,
        drawing=Drawing(noise_dim=loaded.noise_dim) if loaded.noise_dim else None,
        pools=loaded.pools,
        takes_kept=loaded.takes_kept,
    )
