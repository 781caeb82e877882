"""The one list of engines. Adding an engine is one folder, one line here, one test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..config import build
from ..environment import read_environment
from ..errors import ConfigError
from ..registry import Registry, lazy
from .deconvolution.options import DeconvolutionOptions
from .diffusion.options import OneStepOptions
from .diffusion.seesr.options import SeesrOptions
from .feed_forward.options import AdcSROptions, BuiltInOptions, BuiltInSharpOptions, UpscalerOptions
from .lite import with_tiny_networks
from .pixel.options import PixelOptions

if TYPE_CHECKING:
    import torch

    from ..weights.download.sources import Fetch
    from .base import Engine


class EngineLoader(Protocol):
    """Loads one kind of engine."""

    def __call__(self, options: Any, device: torch.device, dtype: str, fetch: Fetch | None) -> Engine:
        """Return the engine; `dtype` may be ``auto``."""
        ...


@dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """One line of the catalog."""

    options: type
    """Dataclass of the settings that only this engine has; its fields hold the defaults and their docs."""
    load: Callable[[], EngineLoader]
    """Import the loader: nothing heavy is imported to list the engines."""
    skeleton: Callable[[], EngineLoader]
    """Import what makes the same engine on torch's meta device, shapes without numbers, to plan a run."""
    missing: Callable[[], Callable[[], tuple[str, ...]]] = field(default=lambda: lambda: ())
    """Import what says what is missing before the engine can be used, one line each with the command that mends it."""


ENGINES: Registry[EngineEntry] = Registry("engine")


def _add(
    name: str, options: type, load: str, skeleton: str = "", *, summary: str, missing: str | None = None
) -> None:
    targets = {"load": load, "skeleton": skeleton or load, "missing": missing}
    loaders = {part: lazy(target, __package__) for part, target in targets.items() if target is not None}
    ENGINES.add(name, EngineEntry(options=options, **loaders), summary=summary)


_add(
    "built-in",
    BuiltInOptions,
    ".feed_forward.load:load_built_in",
    ".feed_forward.load:built_in_skeleton",
    summary="the small restorer inside this package: ×4, no download, faithful",
)
_add(
    "built-in-sharp",
    BuiltInSharpOptions,
    ".feed_forward.load:load_built_in",
    ".feed_forward.load:built_in_skeleton",
    summary="the same, trained against a discriminator: crisper, for pictures that are small rather than ruined",
)
_add(
    "upscaler",
    UpscalerOptions,
    ".feed_forward.load:load_upscaler",
    ".feed_forward.load:upscaler_skeleton",
    summary="any super-resolution model file (--weights FILE)",
)
_add(
    "adcsr",
    AdcSROptions,
    ".feed_forward.adcsr:load_adcsr",
    ".feed_forward.adcsr:adcsr_skeleton",
    summary="AdcSR: Stable Diffusion 2.1 cut down to one pass, ×4, Apache-2.0 (--weights FILE --decoder FILE)",
)
_add(
    "one-step",
    OneStepOptions,
    ".diffusion.load:load_one_step",
    ".diffusion.skeleton:one_step_skeleton",
    missing=".diffusion.missing:missing_for_one_step",
    summary="one diffusion step of Stable Diffusion 2.1-base with a HYPIR-style LoRA: any scale, strongest",
)
_add(
    "seesr",
    SeesrOptions,
    ".diffusion.seesr.load:load_seesr",
    ".diffusion.seesr.skeleton:seesr_skeleton",
    missing=".diffusion.missing:missing_for_seesr",
    summary="a few guided steps of SD-Turbo with SeeSR: the picture's own tags, a ControlNet that holds its structure",
)
_add(
    "pixel",
    PixelOptions,
    ".pixel.load:load_pixel",
    ".pixel.load:pixel_skeleton",
    missing=".diffusion.missing:missing_for_unet",
    summary="diffusion on pixels in electrons (--weights FILE): microscopy in 16 bit, with point spread and camera",
)
_add(
    "richardson-lucy",
    DeconvolutionOptions,
    ".deconvolution.load:load_deconvolution",
    summary="the classic deconvolution of microscopy, without a network: 16-bit stacks, a point spread, a camera",
)


def engine_options(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Return the settings of the engine called `name`, checked.

    Raises:
        UnknownNameError: no such engine.
        ConfigError: an option is unknown or wrong.
    """
    entry = ENGINES.get(name)
    try:
        return build(entry.options, options or {}, where=f"engine {name}")
    except ConfigError as err:
        raise ConfigError([f"{problem} (set with --option KEY=VALUE)" for problem in err.problems]) from err


def load_engine(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    device: torch.device | None = None,
    dtype: str = "auto",
    fetch: Fetch | None = None,
) -> Engine:
    """Load the engine called `name`.

    Args:
        name: from the catalog.
        options: the engine's own settings; unknown keys are errors.
        device: where it will run; None picks the best that is there.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        fetch: called with a `Source` and a folder for what is missing, to download it or to raise; None
            downloads only with an engine's own option ``download``, and shows no progress.

    Returns:
        The engine; its `spec` says what it is: name, weights, number format and every setting as it was resolved.

    Raises:
        UnknownNameError: no such engine.
        ConfigError: an option is unknown or wrong.
        WeightsError: the weights cannot be found, fetched or used.
        Cancelled: `fetch` asked and the answer was no.
    """
    from ..device import pick_device

    if read_environment().lite:
        options = with_tiny_networks(name, ENGINES.get(name).options, options or {})
    settings = engine_options(name, options)
    return ENGINES.get(name).load()(settings, device or pick_device("auto"), dtype, fetch)
