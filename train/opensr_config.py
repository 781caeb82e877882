"""Settings of opensr-srgan 0.5.1, read: which discriminator of ours a YAML file describes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from hypir_core.config import build
from hypir_core.errors import ConfigError, UnknownNameError, nearest_hint
from hypir_core.weights.opensr_config import bands_of, section_of, whole

from .discriminators import DISCRIMINATORS

KEYS = {
    "standard": {"n_blocks": "blocks", "use_spectral_norm": "spectral_norm"},
    "patchgan": {"n_blocks": "layers", "norm_type": "norm"},
    "esrgan": {"base_channels": "features", "linear_size": "hidden"},
}
"""``Discriminator.model_type`` → theirs → ours. The other numbers of theirs are our defaults."""

WORDS = {"use_spectral_norm", "norm_type"}
"""Keys that are no whole numbers."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Described:
    """A discriminator that settings describe."""

    name: str
    """In `DISCRIMINATORS`."""
    options: Mapping[str, Any]
    """Its options, all that the settings fix."""
    notes: tuple[str, ...] = ()
    """What the settings say without effect, a sentence each."""


def discriminator_of(config: Mapping[str, Any]) -> nn.Module:
    """Return the discriminator that settings of opensr-srgan describe, with weights to train from.

    It has the original's tensor names. ``forward`` maps [b bands h w] to a `Judgement` whose one entry of logits is
    what the original returns.

    Args:
        config: the YAML file's mapping; the sections ``Model`` and ``Discriminator`` count.

    Raises:
        ConfigError: lists unknown keys and wrong values.
        UnknownNameError: no such discriminator.
    """
    found = describe_discriminator(config)
    for note in found.notes:
        log.warning(note)
    make = DISCRIMINATORS.get(found.name)
    return make(build(make.Options, found.options, where="Discriminator"))


def describe_discriminator(config: Mapping[str, Any]) -> Described:
    """Return which discriminator the sections ``Model`` and ``Discriminator`` describe.

    Raises:
        ConfigError: lists unknown keys and wrong values.
        UnknownNameError: no such discriminator.
    """
    section, bands = section_of(config, "Discriminator"), bands_of(config)
    known = {"model_type", *(key for keys in KEYS.values() for key in keys)}
    unknown = [
        f"Discriminator: unknown key {key!r}{nearest_hint(key, known)}" for key in section if key not in known
    ]
    if unknown:
        raise ConfigError(unknown)
    stated = str(section.get("model_type", "standard")).strip().lower()
    if stated not in KEYS:
        raise UnknownNameError("Discriminator.model_type", stated, KEYS)
    keys = KEYS[stated]
    options: dict[str, Any] = {"in_channels": bands}
    if stated == "esrgan":
        options["spectral_norm"] = False
    options |= {
        ours: section[key] if key in WORDS else whole(section, key, where="Discriminator")
        for key, ours in keys.items()
        if section.get(key) is not None
    }
    ignored = sorted(key for key in section if key not in {"model_type", *keys})
    notes = () if not ignored else (f"Discriminator: {', '.join(ignored)} have no effect for {stated}",)
    return Described(name=stated, options=options, notes=notes)
