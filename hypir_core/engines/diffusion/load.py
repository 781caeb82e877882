"""From weight files to the one-step engine."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...color.mode import ColorFix
from ...config import build
from ...device import pick_dtype
from ...diffusion.schedule import a_bar_at
from ...errors import ConfigError, WeightsError
from ...lora.convert import MERGED_KEY
from ...lora.file import read_lora
from ...lora.merge import merge_lora_
from ...lora.names import LoraForm, adaptable_modules
from ...models.sd.backbone import Backbone, load_base, require_prediction
from ...models.sd.fold import fold_timestep_
from ...models.sd.tiny_decoder import TinyDecoder, load_tiny_decoder
from ...weights.download.fetching import download
from ...weights.download.sources import Fetch
from ...weights.fingerprint import fingerprint_of_base, short_hash
from ...weights.search.locate import locate_base, locate_lora
from ...weights.spec import LoraSpec
from ..base import EngineSpec
from .engine import Diffusion
from .networks import diffusers_networks
from .one_step import one_step
from .options import OneStepOptions
from .reference import OriginalSizing
from .sizing import HouseSizing

log = logging.getLogger(__name__)

NAME = "one-step"

TESTED_DTYPES = ("float32", "bfloat16", "float16")


def load_one_step(
    options: OneStepOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> Diffusion:
    """Find and load the base model, merge the LoRA, fold the timestep.

    Raises:
        WeightsNotFoundError: the base model or the LoRA is nowhere to be found; lists the places.
        WeightsError: a file cannot be used.
    """
    chosen = pick_dtype(dtype, device, TESTED_DTYPES)
    tiny = tiny_decoder_of(options)
    if options.random_weights:
        from ...models.sd.random_sd21 import random_backbone, random_lora_

        backbone = random_backbone()
        random_lora_(backbone.unet, rank=256)
        restorer = Restorer(spec=LoraSpec(rank=256, alpha=256), label=f"random on {backbone.found_in}")
        return make_engine(backbone, restorer, options, device, chosen, tiny)
    if fetch is None and options.download:
        fetch = partial(download, confirm=_announce)
    files = locate_base(options.base_model, offline=options.offline, fetch=fetch)
    backbone = load_base(files)
    base = f"{backbone.found_in} {fingerprint_of_base(files)}"
    merged = _merged_spec(backbone.metadata, backbone.found_in)
    if merged is not None:
        restorer = _already_merged(merged, backbone, options, base)
    else:
        path = locate_lora(options.lora, offline=options.offline, fetch=fetch)
        restorer = _merge(backbone, path, options, base)
    require_prediction(backbone, restorer.spec.prediction)
    return make_engine(backbone, restorer, options, device, chosen, tiny)


@dataclass(frozen=True, kw_only=True)
class Restorer:
    """What made a restorer of the base model."""

    spec: LoraSpec
    label: str
    """Names both and tells them apart by content."""
    notes: tuple[str, ...] = ()


def _merge(backbone: Backbone, path: Path, options: OneStepOptions, base: str) -> Restorer:
    lora = read_lora(path, adaptable_modules(dict(backbone.unet.named_parameters())))
    merge_lora_(backbone.unet, lora, strength=options.lora_strength)
    spec = lora.spec or LoraSpec(rank=lora.rank, alpha=lora.alpha)
    # The published file names its modules so, and was trained with alpha = rank: nothing is assumed of it.
    notes = () if lora.form is LoraForm.original and lora.spec is None else lora.notes
    return Restorer(spec=spec, label=f"{path.name} {short_hash(path)} on {base}", notes=notes)


def _already_merged(spec: LoraSpec, backbone: Backbone, options: OneStepOptions, base: str) -> Restorer:
    if options.lora is not None or options.lora_strength != 1:
        raise ConfigError(
            f"{backbone.found_in}: a LoRA is already merged into this model; leave out lora and "
            "lora_strength, or give the plain base model"
        )
    return Restorer(spec=spec, label=f"merged, rank {spec.rank} on {base}")


def _merged_spec(metadata: Mapping[str, str], where: str) -> LoraSpec | None:
    """Return the spec of the LoRA that `hypir convert --to merged` put into a UNet, if any."""
    if MERGED_KEY not in metadata:
        return None
    try:
        note: Any = json.loads(metadata[MERGED_KEY])
        return build(LoraSpec, note["spec"], where=f"{where}: {MERGED_KEY}")
    except (ValueError, TypeError, KeyError) as err:
        raise WeightsError(f"{where}: {MERGED_KEY} cannot be read ({err}); merge the LoRA again") from err


def tiny_decoder_of(options: OneStepOptions) -> TinyDecoder | None:
    """Load what decodes in the VAE's place, if anything; raises as `load_tiny_decoder`."""
    return None if options.fast_decoder is None else load_tiny_decoder(options.fast_decoder)


def make_engine(
    backbone: Backbone,
    restorer: Restorer,
    options: OneStepOptions,
    device: torch.device,
    dtype: torch.dtype,
    tiny: TinyDecoder | None,
) -> Diffusion:
    """Make the engine of a backbone whose LoRA is merged; folds its timestep in place."""
    lora = restorer.spec
    fold_timestep_(backbone.unet, lora.model_t)
    weights, notes = restorer.label, restorer.notes
    if tiny is not None:
        weights += f", decoded by {tiny.name} {short_hash(tiny.path)}"
        notes += (f"decoded by a tiny decoder ({tiny.name}): a preview, fine detail is approximate",)
    coeff_t = lora.coeff_t if options.coeff_t is None else options.coeff_t
    networks = diffusers_networks(
        backbone,
        dtype=dtype,
        device=device,
        exact_vae=options.vae_exact,
        alike=not options.reference_mode,
        tiny_decoder=tiny,
    )
    return one_step(
        EngineSpec(
            name=NAME,
            weights=weights,
            dtype=str(dtype).removeprefix("torch."),
            settings={
                "lora_strength": options.lora_strength,
                "model_t": lora.model_t,
                "coeff_t": coeff_t,
                "reference_mode": options.reference_mode,
                "vae_exact": options.vae_exact,
                "fast_decoder": None if tiny is None else tiny.name,
                "random_weights": options.random_weights and options.random_weights.value,
            },
            color_fix=ColorFix.wavelet,
            dtypes=TESTED_DTYPES,
            wants_prompt=True,
            licence=f"LoRA: {lora.licence}; base model: CreativeML Open RAIL++-M",
            notes=notes,
        ),
        codec=networks.codec,
        denoiser=networks.denoiser,
        conditioner=networks.conditioner,
        a_bar=a_bar_at(backbone.schedule, coeff_t),
        model_t=lora.model_t,
        kind=lora.prediction,
        sizing=OriginalSizing() if options.reference_mode else HouseSizing(native_px=backbone.native_px),
    )


def _announce(description: str) -> bool:
    """Say what is about to be fetched; the option `download` was the consent."""
    log.warning("%s", description)
    return True
