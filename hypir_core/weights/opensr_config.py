"""Settings of opensr-srgan 0.5.1, read: which generator of ours a YAML file describes, and its range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, UnknownNameError, nearest_hint
from ..image.ranges import RangeConfig
from ..image.ranges.names import NAMED, named_range

FAMILIES = {
    "srresnet": ("sr_resnet",),
    "esrgan": ("rrdbnet", "rrdb_net"),
    "stochastic_gan": ("stochastic", "stochasticgan", "cgan", "conditional_cgan", "conditional_gan"),
}
"""``Generator.model_type`` → its other spellings; dashes and spaces count as underscores, capitals do not."""

BLOCKS = {
    "standard": ("srresnet", "vanilla", "classic", "default", "basic"),
    "res": ("residual", "resblocks"),
    "rcab": ("attention", "channel_attention"),
    "rrdb": ("dense", "residual_in_residual"),
    "lka": ("large_kernel",),
}
"""``Generator.block_type`` → its other spellings; older files say it as ``model_type``."""

OWN_KEYS = {
    "srresnet": ("large_kernel_size", "small_kernel_size", "block_type"),
    "stochastic_gan": ("large_kernel_size", "small_kernel_size", "noise_dim", "res_scale"),
    "esrgan": ("growth_channels", "res_scale", "out_channels", "use_icnr"),
}
"""Keys of ``Generator`` that count for a family, next to those that count for all."""

ALL_KEYS = {
    "model_type",
    "n_channels",
    "n_blocks",
    "scaling_factor",
    *(k for own in OWN_KEYS.values() for k in own),
}

RENAMED = {
    "n_channels": "channels",
    "n_blocks": "blocks",
    "scaling_factor": "scale",
    "large_kernel_size": "head_kernel",
    "small_kernel_size": "body_kernel",
    "noise_dim": "noise_dim",
    "growth_channels": "growth",
    "out_channels": "out_channels",
}
"""Theirs → ours, where both are whole numbers."""

DEFAULTS = {"n_channels": 64, "n_blocks": 16, "scaling_factor": 4}
"""What counts where a key is absent, if it is not the default of ours."""


USUAL_NORMALISATION = "sen2_stretch"
"""What counts where the settings name none."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A generator that settings describe."""

    architecture: str
    options: Mapping[str, Any]
    """Of the architecture, all that the settings fix."""
    notes: tuple[str, ...] = ()
    """What the settings say without effect, a sentence each."""


def describe_generator(config: Mapping[str, Any]) -> Described:
    """Return which generator the sections ``Model`` and ``Generator`` describe.

    Raises:
        ConfigError: lists unknown keys and wrong values.
        UnknownNameError: no such family or block.
    """
    section, bands = section_of(config, "Generator"), bands_of(config)
    unknown = [
        f"Generator: unknown key {key!r}{nearest_hint(key, ALL_KEYS)}"
        for key in section
        if key not in ALL_KEYS
    ]
    if unknown:
        raise ConfigError(unknown)
    family, block = _family_of(section)
    used = {"model_type", *DEFAULTS, *OWN_KEYS[family]}
    ignored = sorted(key for key in section if key not in used)
    numbers = {
        key: whole(section, key, where="Generator") for key in RENAMED if key in used and key in section
    }
    defaults = DEFAULTS | ({"n_blocks": 23} if family == "esrgan" else {})
    options: dict[str, Any] = {"in_channels": bands}
    options |= {RENAMED[key]: number for key, number in (defaults | numbers).items()}
    if "res_scale" in used and section.get("res_scale") is not None:
        options["res_scale"] = _positive(section, "res_scale")
    if "use_icnr" in used and section.get("use_icnr") is not None:
        options["icnr"] = bool(section["use_icnr"])
    architecture = {"esrgan": "esrgan", "stochastic_gan": "stochastic"}.get(family, "residual")
    if family == "srresnet" and block == "standard":
        architecture = "srresnet"
    elif family == "srresnet":
        options["block"] = block
    notes = () if not ignored else (f"Generator: {', '.join(ignored)} have no effect for {family}",)
    return Described(architecture=architecture, options=options, notes=notes)


def describe_range(config: Mapping[str, Any]) -> RangeConfig:
    """Return the range that the section ``Data`` names for a generator's input and output.

    Raises:
        ConfigError: it is made of functions of one's own.
        UnknownNameError: no such normalisation.
    """
    data = config.get("Data")
    stated = data.get("normalization") if isinstance(data, Mapping) else None
    if isinstance(stated, Mapping):
        stated = stated.get("name") or stated.get("method") or "custom"
    text = str(USUAL_NORMALISATION if stated is None else stated).strip().lower()
    if text == "custom":
        raise ConfigError(
            "Data.normalization: its own functions cannot be saved with weights; name one of "
            f"{', '.join(NAMED)} that does the same"
        )
    try:
        return named_range(text.replace("normalize", "normalise"))
    except UnknownNameError as err:
        raise UnknownNameError("Data.normalization", text, NAMED) from err


def bands_of(config: Mapping[str, Any]) -> int:
    """Return ``Model.in_bands``.

    Raises:
        ConfigError: it is absent or no whole number.
    """
    model = section_of(config, "Model")
    if "in_bands" not in model:
        raise ConfigError("Model.in_bands is required: how many bands the network takes")
    return whole(model, "in_bands", where="Model")


def section_of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of the settings.

    Raises:
        ConfigError: it is absent, or no mapping.
    """
    section = config.get(name)
    if not isinstance(section, Mapping):
        got = "none" if section is None else type(section).__name__
        raise ConfigError(f"expected the section {name!r} of opensr-srgan's settings, got {got}")
    return section


def whole(section: Mapping[str, Any], key: str, *, where: str) -> int:
    """Return a whole number of 1 or more.

    Raises:
        ConfigError: it is something else.
    """
    value = section[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where}.{key} must be a whole number of 1 or more, got {value!r}")
    return value


def canonical(value: Any, names: Mapping[str, Sequence[str]]) -> str | None:
    """Return the name that a value is a spelling of, or None."""
    text = str(value).strip().lower().replace(" ", "_").replace("-", "_")
    return next((name for name, others in names.items() if text == name or text in others), None)


def _family_of(section: Mapping[str, Any]) -> tuple[str, str]:
    """Return family and kind of block."""
    stated = section.get("model_type", "srresnet")
    family, block = canonical(stated, FAMILIES), None
    if family is None:
        family, block = "srresnet", canonical(stated, BLOCKS)
        if block is None:
            raise UnknownNameError("Generator.model_type", str(stated), [*FAMILIES, *BLOCKS])
    kind = section.get("block_type")
    if family != "srresnet" or kind is None:
        return family, block or "standard"
    block = canonical(kind, BLOCKS)
    if block is None:
        raise UnknownNameError("Generator.block_type", str(kind), BLOCKS)
    return family, block


def _positive(section: Mapping[str, Any], key: str) -> float:
    value = section[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(f"Generator.{key} must be a number above 0, got {value!r}")
    return float(value)
