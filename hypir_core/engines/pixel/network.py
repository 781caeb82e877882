"""A network of pixels as its spec describes it: made, saved and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from ...diffusion.betas import BaseScheduler
from ...diffusion.catalog import SCHEDULERS
from ...errors import ConfigError, SpecMismatchError, UnknownNameError
from ...models.architectures import ARCHITECTURES, options_of
from ...models.architectures.sizes import Sizes
from ...weights.pixel_spec import PixelSpec
from ...weights.spec import spec_from_metadata, spec_to_metadata
from ...weights.tensors import check_finite, misfits, read_tensors, write_tensors
from ...weights.versions import Stored, up_to_date


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelFile:
    """What a weight file holds, brought up to date."""

    spec: PixelSpec
    net: nn.Module
    """On the CPU, in the file's format."""
    notes: tuple[str, ...] = ()
    """What a report must say about it."""


def build_network(spec: PixelSpec, *, where: str | Path) -> nn.Module:
    """Make the network of a spec, with random weights; `where` names it in errors.

    Raises:
        SpecMismatchError: the architecture does not take these options.
        UnknownNameError: there is no such architecture.
        MissingDependencyError: a package that it needs is not installed.
    """
    try:
        return ARCHITECTURES.get(spec.architecture)(network_options(spec, where=where))
    except ConfigError as err:
        raise SpecMismatchError(
            f"{'; '.join(err.problems)}; update this package, or get the file again"
        ) from err


def network_options(spec: PixelSpec, *, where: str | Path) -> Sizes:
    """Return the options of a spec's architecture.

    Raises:
        ConfigError: it does not take these.
        UnknownNameError: there is no such architecture.
    """
    data = {**spec.options, "in_channels": spec.in_channels, "out_channels": spec.channels, "scale": 1}
    return options_of(spec.architecture, data, where=f"{where}: {spec.architecture}")


def build_schedule(spec: PixelSpec, *, where: str | Path) -> BaseScheduler:
    """Make the noise schedule of a spec; errors as `build_network`."""
    try:
        schedule = SCHEDULERS.create(spec.schedule, spec.schedule_options)
    except ConfigError as err:
        raise SpecMismatchError(f"{where}: {'; '.join(err.problems)}; get the file again") from err
    if spec.one_step_t is not None and spec.one_step_t >= schedule.num_timesteps:
        raise SpecMismatchError(
            f"{where}: one_step_t must lie in 0 … {schedule.num_timesteps - 1}, the timesteps of the schedule, got "
            f"{spec.one_step_t}; get the file again"
        )
    return schedule


def component_versions(spec: PixelSpec) -> dict[str, str]:
    """Return what `PixelSpec.components` says of a network that is made here and now."""
    return {
        f"architecture {spec.architecture}": ARCHITECTURES.entry(spec.architecture).version,
        f"scheduler {spec.schedule}": SCHEDULERS.entry(spec.schedule).version,
    }


def save_pixel(path: str | Path, net_tensors: Mapping[str, Tensor], spec: PixelSpec) -> None:
    """Write the tensors of a network with its spec, and the versions of what it is made of.

    Raises:
        WeightsError: the file cannot be written.
    """
    spec = replace(spec, components=component_versions(spec))
    write_tensors(path, net_tensors, spec_to_metadata(spec))


def read_pixel(path: str | Path) -> PixelFile:
    """Read a file that `save_pixel` wrote.

    Raises:
        WeightsError: it cannot be read, or holds something else.
        SpecMismatchError: it is of another kind, of another major version, or its tensors do not fit its spec.
    """
    file = read_tensors(path)
    check_finite(file.tensors, file.path)
    spec = spec_from_metadata(file.metadata, file.path)
    if not isinstance(spec, PixelSpec):
        raise SpecMismatchError(
            f"{file.path}: expected a diffusion model of pixels, got a {spec.kind}; use another --engine for it"
        )
    spec, tensors, notes = _up_to_date(spec, file.tensors, file.path)
    build_schedule(spec, where=file.path)
    net = build_network(spec, where=file.path)
    own = net.state_dict()
    if wrong := misfits(own, tensors):
        expected, got = (
            tuple(side[wrong[0]].shape) if wrong[0] in side else "none" for side in (own, tensors)
        )
        raise SpecMismatchError(
            f"{file.path}: {len(wrong)} tensors do not fit the network of its spec; the first is {wrong[0]!r}: expected "
            f"{expected}, got {got}; get the file again"
        )
    net.load_state_dict(dict(tensors))
    return PixelFile(spec=spec, net=net.eval().requires_grad_(False), notes=notes)


def _up_to_date(
    spec: PixelSpec, tensors: Mapping[str, Tensor], path: Path
) -> tuple[PixelSpec, Mapping[str, Tensor], tuple[str, ...]]:
    """Return spec and tensors as the components that are here want them."""
    try:
        here = component_versions(spec)
    except UnknownNameError as err:
        raise SpecMismatchError(f"{path}: {err}; update this package, or install what registers it") from err
    architecture, schedule = (
        up_to_date(
            kind,
            name,
            stored,
            made_with=spec.components.get(f"{kind} {name}"),
            here=here[f"{kind} {name}"],
            where=path,
        )
        for kind, name, stored in (
            ("architecture", spec.architecture, Stored(options=spec.options, tensors=tensors)),
            ("scheduler", spec.schedule, Stored(options=spec.schedule_options, tensors={})),
        )
    )
    spec = replace(
        spec,
        options=architecture.stored.options,
        schedule_options=schedule.stored.options,
        components=here,
    )
    return spec, architecture.stored.tensors, (*architecture.notes, *schedule.notes)
