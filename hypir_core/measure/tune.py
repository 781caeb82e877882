"""Settings of an engine that suit one measurement, found without a truth: by photon thinning."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..engines.base import Engine
from ..engines.catalog import ENGINES, load_engine
from ..engines.pixel.microscope import Microscope
from ..errors import ConfigError
from ..physics.data_terms import Measurement, chi_squared
from ..physics.thinning import deviance, thinned
from ..pipeline import restore
from ..request import Request
from ..runtime import Runtime
from ..tiling.choose import Layout, lay_tiles
from ..tiling.geometry import Plane

SHARE = 0.8
"""Of the light, by which is restored; the rest is asked."""


@runtime_checkable
class OfMicroscope(Protocol):
    """An engine that knows how its measurements come about."""

    microscope: Microscope


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One choice of settings."""

    options: Mapping[str, Any]
    deviance: float
    """Of the light that was held back (`physics.thinning.deviance`); less is better."""
    chi_squared: float
    seconds: float


def choices(engine: str, given: Mapping[str, Sequence[Any]] | None = None) -> list[dict[str, Any]]:
    """Return the settings to try: every combination of what is given, or of what the engine's options name.

    Raises:
        UnknownNameError: no such engine.
        ConfigError: the engine names nothing to try, and nothing is given.
    """
    grid = given or getattr(ENGINES.get(engine).options, "TRIED", {})
    if not grid:
        raise ConfigError(f"engine {engine!r} names no settings to try; say which: --try KEY=VALUE,VALUE")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def tune(
    engine: str,
    options: Mapping[str, Any],
    adu: Tensor,
    *,
    grid: Sequence[Mapping[str, Any]],
    device: torch.device,
    dtype: str = "auto",
    share: float = SHARE,
    seed: int = 0,
    tried: Callable[[Tried], None] = lambda _: None,
) -> tuple[Tried, ...]:
    """Return what every choice explains of light that it has not seen, the best first.

    Args:
        engine: its name.
        options: its settings that stay as they are.
        adu: numbers of the file [1 c rows columns], float32.
        grid: the choices, each laid on `options`.
        device: where it runs.
        dtype: as for `load_engine`.
        share: see `physics.thinning.thinned`.
        seed: of the thinning and of the engine's noise.
        tried: called with each as it is done.

    Raises:
        UnknownNameError, ConfigError, WeightsError: as `load_engine`.
        ConfigError: the engine knows no microscope, or the file holds numbers that are none.
    """
    if not bool(adu.isfinite().all()):
        raise ConfigError("tuning wants a part of the picture without holes, got NaN or infinity in it")
    found: list[Tried] = []
    halves: tuple[Tensor, Tensor] | None = None
    for choice in grid:
        plain = load_engine(engine, {**options, **choice}, device=device, dtype=dtype)
        microscope = _microscope(engine, plain)
        if halves is None:
            halves = _halves(adu, microscope, share, seed)
        # In a share of the light there is a share of the background, and of the reading's deviation.
        dimmed = {
            **options,
            **choice,
            "background_e": microscope.background_e * share,
            "read_noise_e": microscope.camera.read_noise_e * share,
            "white_adu": float(max(microscope.camera.white_adu, microscope.white_adu, adu.max())),
        }
        made = load_engine(engine, dimmed, device=device, dtype=dtype)
        begun = time.perf_counter()
        light = _light(made, halves[0], seed=seed, device=device)
        seconds = time.perf_counter() - begun
        rest = 1 - share
        held = Measurement(
            y=halves[1],
            operator=microscope.operator,
            background_e=microscope.background_e * rest,
            read_variance=microscope.read_variance * rest**2,
        )
        of_rest = light * (rest / share)
        one = Tried(
            options=dict(choice),
            deviance=float(deviance(of_rest, held).mean()),
            chi_squared=float(chi_squared(of_rest, held).mean()),
            seconds=seconds,
        )
        tried(one)
        found.append(one)
    return tuple(sorted(found, key=lambda one: one.deviance))


def layout_of(engine: Engine, sizes_px: tuple[int, ...], runtime: Runtime) -> Layout:
    """Return the tiles of a plane, and how many at a time, that fit into this device's memory now."""
    request = Request()
    meta = torch.empty(1, engine.spec.in_channels, *sizes_px, device="meta")
    prepared = engine.prepare(Plane(meta), sizes_px, request)
    stage = next(iter(engine.stages(prepared, request)))
    return lay_tiles(stage, prepared.plane.sizes_px, images=prepared.plane.images, runtime=runtime)


def brightest_part(plane: Tensor, side_px: int) -> Tensor:
    """Return the square [1 c side side] with the most light, of a plane [1 c rows columns]; all of a smaller plane.

    Squares a quarter of their side apart are looked at, and those at the far edges.
    """
    sides = [min(side_px, side) for side in plane.shape[-2:]]
    sums = F.pad(plane[0].double().sum(0).cumsum(0).cumsum(1), (1, 0, 1, 0))
    tops, lefts = (
        torch.tensor([*range(0, whole - side, max(1, side // 4)), whole - side])
        for whole, side in zip(plane.shape[-2:], sides, strict=True)
    )
    light = sum(
        sign * sums[(tops + down * sides[0])[:, None], (lefts + right * sides[1])[None]]
        for down, right, sign in ((1, 1, 1), (0, 1, -1), (1, 0, -1), (0, 0, 1))
    )
    assert isinstance(light, Tensor)
    row, column = divmod(int(light.argmax()), len(lefts))
    top, left = int(tops[row]), int(lefts[column])
    return plane[..., top : top + sides[0], left : left + sides[1]]


def _microscope(name: str, engine: Engine) -> Microscope:
    if not isinstance(engine, OfMicroscope):
        able = " or ".join(_able())
        raise ConfigError(
            f"engine {name!r} does not count photons, so nothing can be held back; choose {able}"
        )
    return engine.microscope


def _able() -> Iterator[str]:
    for entry in ENGINES:
        if hasattr(entry.load().options, "TRIED"):
            yield entry.name


def _halves(adu: Tensor, microscope: Microscope, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return two halves of a measurement in electrons; saturated pixels are in neither."""
    y_e = microscope.camera.to_electrons(adu)
    y_e = y_e.masked_fill(microscope.camera.saturated(adu), float("nan"))
    if not bool(y_e.isfinite().any()):
        raise ConfigError("tuning wants a part of the picture that is not saturated, got none")
    return thinned(y_e, share, torch.Generator().manual_seed(seed))


def _light(engine: Engine, y_e: Tensor, *, seed: int, device: torch.device) -> Tensor:
    """Return what an engine makes of a measurement: electrons above its background, 0 or more."""
    microscope = _microscope(engine.spec.name, engine)
    camera = microscope.camera
    adu = torch.where(y_e.isfinite(), camera.to_adu(y_e), torch.full_like(y_e, float(camera.white_adu)))
    made = restore(engine, adu / microscope.white_adu, Request(seed=seed), Runtime(device=device)).image_01
    return microscope.light(made[:, : y_e.shape[1]])
