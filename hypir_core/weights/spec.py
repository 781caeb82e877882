"""What travels with weights so that nobody retypes it: a JSON text, ``hypir.spec``, in the file's metadata.

The JSON carries ``kind`` (which dataclass) and ``schema`` (its version) besides the fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from .. import config
from ..errors import ConfigError, SpecMismatchError, SpecMissingError, UnknownNameError, WeightsError
from ..image.ranges import RangeConfig
from .lora_targets import TARGET_MODULES
from .pixel_spec import PixelSpec
from .prediction import Prediction
from .seesr_spec import SeesrSpec
from .tagger_lora_spec import TaggerLoraSpec

METADATA_KEY = "hypir.spec"

NOT_STATED = "not stated in the source file"
"""Licence and origin of a file that came without a spec."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSpec:
    """A LoRA for one step of a latent diffusion UNet; the defaults describe the published one-step LoRA."""

    __pydantic_config__ = config.strict
    kind: ClassVar[str] = "lora"
    newest: ClassVar[int] = 2
    """Version of the fields. It grows when an older reader would misunderstand a file: schema 1 had no `recipe` and no
    `noise_t`."""

    schema: int = newest
    engine: str = "one-step"
    """Name of the engine that runs it."""
    base_model: str = "stabilityai/stable-diffusion-2-1-base"
    """The model it was trained on, by its first public name; any mirror or packaging of it will do."""
    base_revision: str | None = None
    """Commit of that model, where known."""
    recipe: str = "hypir"
    """The family it belongs to (`lora.recipe`): what is not said here (words, colours) comes from there."""
    rank: int
    alpha: float
    """The low-rank product is scaled by alpha / rank."""
    target_modules: tuple[str, ...] = TARGET_MODULES
    """Which modules are adapted: those whose name is an entry or ends with ``.`` + an entry (PEFT's rule)."""
    model_t: int = 200
    """Timestep given to the UNet, 0 to 999."""
    coeff_t: int = 200
    """Timestep whose ā turns the prediction into x0, 0 to 999."""
    prediction: Prediction = Prediction.eps
    noise_t: int | None = None
    """Timestep whose noise is put on the degraded latent before the step, 0 to 999; None puts none."""
    scaling_factor: float = 0.18215
    """VAE latents are multiplied by this before the UNet."""
    trained_with: str = NOT_STATED
    """The trainer and its commit."""
    licence: str = NOT_STATED

    def __post_init__(self) -> None:
        problems = [] if self.rank >= 1 else [f"rank must be 1 or more, got {self.rank}"]
        problems += [
            f"{name} must be above 0, got {value}"
            for name, value in (("alpha", self.alpha), ("scaling_factor", self.scaling_factor))
            if not value > 0
        ]
        problems += [
            f"{name} must lie in 0 … 999, got {value}"
            for name, value in (
                ("model_t", self.model_t),
                ("coeff_t", self.coeff_t),
                ("noise_t", self.noise_t or 0),
            )
            if not 0 <= value <= 999
        ]
        if not self.target_modules:
            problems.append("target_modules must name at least one module")
        _raise(problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorSpec:
    """A feed-forward generator; `architecture`, channels, scale and `options` rebuild the module the tensors fit."""

    __pydantic_config__ = config.strict
    kind: ClassVar[str] = "generator"
    newest: ClassVar[int] = 2
    """Schema 1 had the sizes ``features``, ``blocks`` and ``growth`` as fields and the range as one word."""

    schema: int = newest
    name: str
    """What a person calls it."""
    architecture: str
    """A name in `hypir_core.models.architectures.ARCHITECTURES`."""
    dims: int = 2
    """Spatial axes: 2 for pictures, 3 for volumes."""
    scale: int | tuple[int, ...]
    """Factor along every axis, or one for each."""
    in_channels: int = 3
    out_channels: int = 3
    bands: tuple[str, ...] = ()
    """Names of the channels that it takes, in their order; empty where nobody named them."""
    options: Mapping[str, int | float | bool | str] = field(default_factory=dict)
    """The architecture's own sizes, by the names of its arguments."""
    value_range: RangeConfig = field(default_factory=RangeConfig)
    """The range of the numbers that the network takes, and gives unless `out_range` says otherwise."""
    out_range: RangeConfig | None = None
    """The range of the numbers that it gives, where it is another."""
    trained_on: str
    """The data, as a person would cite it."""
    trained_with: str
    """The trainer and its commit."""
    licence: str

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be 1 or more, got {getattr(self, name)}"
            for name in ("in_channels", "out_channels")
            if getattr(self, name) < 1
        ]
        problems += [] if 1 <= self.dims <= 3 else [f"dims must lie in 1 … 3, got {self.dims}"]
        scales = (self.scale,) if isinstance(self.scale, int) else self.scale
        if not scales or min(scales) < 1:
            problems.append(f"scale must be 1 or more, got {self.scale}")
        if self.bands and (len(self.bands) != self.in_channels or not all(self.bands)):
            problems.append(
                f"bands must name each of {self.in_channels} channels, got {', '.join(self.bands) or 'none'}"
            )
        if not isinstance(self.scale, int) and len(scales) != self.dims:
            problems.append(f"scale must be one number or {self.dims}, one for each axis, got {len(scales)}")
        _raise(problems)

    @property
    def scales(self) -> tuple[int, ...]:
        """Factor along every axis."""
        return (self.scale,) * self.dims if isinstance(self.scale, int) else self.scale


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggerSpec:
    """A network that names what is in a picture, with a LoRA merged into it or without; its tensors say its sizes."""

    __pydantic_config__ = config.strict
    kind: ClassVar[str] = "tagger"
    newest: ClassVar[int] = 1

    schema: int = newest
    network: str = "RAM"
    """Recognize Anything, the only one so far."""
    lora: str | None = None
    """Name and hash of the LoRA that was merged; None: none was."""
    lora_strength: float = 1.0
    licence: str = NOT_STATED


WeightsSpec: TypeAlias = LoraSpec | GeneratorSpec | TaggerSpec | PixelSpec | SeesrSpec | TaggerLoraSpec

_KINDS: dict[str, type[WeightsSpec]] = {
    cls.kind: cls for cls in (LoraSpec, GeneratorSpec, TaggerSpec, PixelSpec, SeesrSpec, TaggerLoraSpec)
}


def spec_from_metadata(metadata: Mapping[str, str], where: str | Path) -> WeightsSpec:
    """Read the spec out of a safetensors file's metadata; `where` names the file in errors.

    Raises:
        SpecMissingError: there is none.
        SpecMismatchError: it was written by a newer version.
        WeightsError: it cannot be read: not JSON, an unknown kind or key, a wrong value.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise SpecMissingError(
            f"{where}: expected the metadata {METADATA_KEY!r}, which says what the weights are, got none; "
            f"rewrite a LoRA with: hypir convert {where} OUT.safetensors --to kohya"
        )
    data = _json_object(text, where)
    kind, schema = data.pop("kind", None), data.get("schema")
    if kind not in _KINDS:
        raise WeightsError(
            f"{where}: {UnknownNameError(f'{METADATA_KEY} kind', str(kind), _KINDS)}; update this package"
        )
    if not isinstance(schema, int):
        raise WeightsError(
            f"{where}: {METADATA_KEY}: schema must be a whole number, got {schema!r}; get the file again"
        )
    newest = _KINDS[kind].newest
    if schema > newest:
        raise SpecMismatchError(
            f"{where}: expected {METADATA_KEY} of schema {newest}, got {schema}; update this package"
        )
    if kind == LoraSpec.kind and schema == 1:
        data = data | {"schema": LoraSpec.newest}
    if kind == GeneratorSpec.kind and schema == 1:
        data = _generator_of_schema_1(data, where)
    try:
        return config.build(_KINDS[kind], data, where=f"{where}: {METADATA_KEY}")
    except ConfigError as err:
        raise WeightsError("; ".join(" ".join(err.problems).splitlines())) from err


def _generator_of_schema_1(data: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """Return a generator's fields as schema 2 names them."""
    data = dict(data)
    wanted = ("features", "blocks")
    missing = [name for name in wanted if name not in data]
    if missing:
        raise WeightsError(f"{where}: {METADATA_KEY}: {missing[0]} is required; get the file again")
    sizes = {name: data.pop(name) for name in (*wanted, "growth") if name in data}
    options = {name: size for name, size in sizes.items() if size is not None}
    return data | {
        "schema": 2,
        "options": options,
        "value_range": {"kind": data.get("value_range", "unit")},
    }


def spec_to_metadata(spec: WeightsSpec) -> dict[str, str]:
    """Return the metadata entry that `spec_from_metadata` reads; equal specs give equal texts."""
    return {METADATA_KEY: json.dumps({"kind": spec.kind, **config.to_plain(spec)}, sort_keys=True)}


def _json_object(text: str, where: str | Path) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as err:
        raise WeightsError(f"{where}: {METADATA_KEY} is not valid JSON ({err}); get the file again") from err
    if not isinstance(data, dict):
        raise WeightsError(
            f"{where}: {METADATA_KEY} must be a JSON object, got {type(data).__name__}; get the file again"
        )
    return data


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError(problems)
