"""The one list of engines. Adding an engine is one file, one entry here, one preset, one test file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from ..color.mode import ColorFix
from ..config import build, strict
from ..errors import ConfigError
from ..registry import Registry, lazy
from ..weights.download.sources import Fetch
from .base import Engine


class EngineLoader(Protocol):
    """Loads one kind of engine."""

    def __call__(
        self, options: Any, device: torch.device, dtype: str, fetch: Fetch | None
    ) -> tuple[Engine, torch.dtype]:
        """Return the engine and the format it runs in (`dtype` may be ``auto``)."""
        ...


@dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """One line of the catalog."""

    options: type
    """Dataclass of the settings that only this engine has; its fields hold the defaults."""
    load: Callable[[], EngineLoader]
    """Import the loader: nothing heavy is imported to list the engines."""
    skeleton: Callable[[], EngineLoader]
    """Import what makes the same engine on torch's meta device, shapes without numbers, to plan a run."""
    missing: Callable[[], tuple[str, ...]] = field(default=lambda: ())
    """Say what is missing before the engine can be used, one line each with the command that mends it."""


@dataclass(frozen=True, kw_only=True)
class BuiltInOptions:
    """The built-in restorer has no settings of its own."""

    __pydantic_config__ = strict

    engine: ClassVar[str] = "built-in"
    file: ClassVar[str] = "restorer_x4.safetensors"
    """In the folder `weights/builtin` of the package."""
    color_fix: ClassVar[ColorFix] = ColorFix.none


@dataclass(frozen=True, kw_only=True)
class BuiltInSharpOptions(BuiltInOptions):
    """Nor has the crisp one."""

    engine: ClassVar[str] = "built-in-sharp"
    file: ClassVar[str] = "restorer_x4_sharp.safetensors"
    color_fix: ClassVar[ColorFix] = ColorFix.wavelet  # a discriminator does not mind a tint of a level or two


@dataclass(frozen=True, kw_only=True)
class UpscalerOptions:
    """Settings of `upscaler`."""

    __pydantic_config__ = strict

    weights: Path
    """A super-resolution model file: one exported by `train`, or any that spandrel reads."""


class RandomWeights(str, Enum):
    """Architectures that can be filled with random numbers."""

    sd21 = "sd21"
    """Stable Diffusion 2.1 in full size with a LoRA of rank 256: real speed, meaningless pictures."""


@dataclass(frozen=True, kw_only=True)
class OneStepOptions:
    """Settings of `one-step`."""

    __pydantic_config__ = strict

    lora: Path | None = None
    """The LoRA that turns the base model into a restorer; None looks for a HYPIR-style one on this machine,
    unless the base model has one merged into it."""
    lora_strength: float = 1.0
    """0 to 2: how much of the LoRA is added to the base model; 1 is as trained."""
    base_model: str | None = None
    """Stable Diffusion 2.1-base: a diffusers folder, a checkpoint file, a folder of separate files, or a
    repository id in the Hugging Face cache; None looks for it on this machine."""
    coeff_t: int | None = None
    """Fidelity, 0 to 999: the timestep whose coefficients apply the UNet's prediction; None takes the LoRA's,
    usually 200, the only value anyone trained. Lower keeps more of the input (at 100, 60 % of the
    correction), higher exaggerates (at 300, 146 %); far above that the result is no picture any more."""
    reference_mode: bool = False
    """Sizes, tiles and windows of the original implementation, for comparisons; slower."""
    vae_exact: bool = False
    """One set of normalisation statistics for the whole picture instead of one per VAE tile; slower."""
    fast_decoder: str | None = None
    """A tiny decoder instead of the VAE's, for previews: a diffusers folder of an `AutoencoderTiny`, a weight file of
    one or of TAESD's decoder, or a repository id in the Hugging Face cache (``madebyollin/taesd``). Never
    downloaded. Fine detail is approximate; reports say so."""
    random_weights: RandomWeights | None = None
    """For benchmarks on machines without the weights."""
    download: bool = False
    """Fetch what is missing."""
    offline: bool = False
    """Never use the network."""

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.lora_strength <= 2:
            problems.append(f"lora_strength must be from 0 to 2, got {self.lora_strength:g}")
        if self.coeff_t is not None and not 0 <= self.coeff_t <= 999:
            problems.append(f"coeff_t must lie in 0 … 999, got {self.coeff_t}")
        for one, other in (
            ("reference_mode", "vae_exact"),
            ("fast_decoder", "reference_mode"),
            ("fast_decoder", "vae_exact"),
            ("download", "offline"),
        ):
            if getattr(self, one) and getattr(self, other):
                problems.append(f"{one} and {other} exclude each other")
        given = [name for name in ("lora", "base_model") if getattr(self, name) is not None]
        if self.random_weights and given:
            problems.append(f"random_weights needs no {' and no '.join(given)}; leave one of them out")
        if problems:
            raise ConfigError(problems)


def _missing_for_one_step() -> tuple[str, ...]:
    from ..errors import WeightsNotFoundError
    from ..weights.search.locate import BASE_COMMANDS, LORA_COMMANDS, locate_base, locate_lora

    lines = [
        f"the package {name}: pip install 'onestep-restore[diffusion]'"
        for name in ("diffusers", "transformers")
        if find_spec(name) is None
    ]
    for what, locate, command in (
        ("an SD 2.1-base model", locate_base, BASE_COMMANDS[0]),
        ("a HYPIR-style LoRA", locate_lora, LORA_COMMANDS[0]),
    ):
        try:
            locate()
        except WeightsNotFoundError:  # two rounds
            lines.append(f"{what}: {command}")
    return tuple(lines)


ENGINES: Registry[EngineEntry] = Registry("engine")
ENGINES.add(
    "built-in",
    EngineEntry(
        options=BuiltInOptions,
        load=lazy(".feed_forward.load:load_built_in", __package__),
        skeleton=lazy(".feed_forward.load:built_in_skeleton", __package__),
    ),
    summary="the small restorer inside this package: ×4, no download, faithful",
)
ENGINES.add(
    "built-in-sharp",
    EngineEntry(
        options=BuiltInSharpOptions,
        load=lazy(".feed_forward.load:load_built_in", __package__),
        skeleton=lazy(".feed_forward.load:built_in_skeleton", __package__),
    ),
    summary="the same, trained against a discriminator: crisper, for pictures that are small rather than ruined",
)
ENGINES.add(
    "upscaler",
    EngineEntry(
        options=UpscalerOptions,
        load=lazy(".feed_forward.load:load_upscaler", __package__),
        skeleton=lazy(".feed_forward.load:upscaler_skeleton", __package__),
    ),
    summary="any super-resolution model file (--option weights=FILE)",
)
ENGINES.add(
    "one-step",
    EngineEntry(
        options=OneStepOptions,
        load=lazy(".diffusion.load:load_one_step", __package__),
        skeleton=lazy(".diffusion.skeleton:one_step_skeleton", __package__),
        missing=_missing_for_one_step,
    ),
    summary="one diffusion step of Stable Diffusion 2.1-base with a HYPIR-style LoRA: any scale, strongest",
)


def load_engine(
    name: str,
    *,
    options: Mapping[str, Any],
    device: torch.device,
    dtype: str = "auto",
    fetch: Fetch | None = None,
) -> tuple[Engine, torch.dtype]:
    """Load the engine called `name`.

    Args:
        name: from the catalog.
        options: the engine's own settings; unknown keys are errors.
        device: where it will run.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        fetch: called with a `Source` and a folder for what is missing, to download it or to raise; None
            downloads only with an engine's own option ``download``, and shows no progress.

    Returns:
        The engine and the number format it runs in.

    Raises:
        UnknownNameError: no such engine.
        ConfigError: an option is unknown or wrong.
        WeightsError: the weights cannot be found, fetched or used.
        Cancelled: `fetch` asked and the answer was no.
    """
    entry = ENGINES.get(name)
    try:
        settings = build(entry.options, options, where=f"engine {name}")
    except ConfigError as err:
        raise ConfigError([f"{problem} (set with --option KEY=VALUE)" for problem in err.problems]) from err
    return entry.load()(settings, device, dtype, fetch)
