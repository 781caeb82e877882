"""From weight files to the one-step engine."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...config import build
from ...device import pick_dtype
from ...diffusion.schedule import a_bar_at
from ...errors import ConfigError, WeightsError
from ...lora.convert import MERGED_KEY
from ...lora.names import adaptable_modules
from ...lora.one_step_file import read_one_step
from ...lora.recipe import OneStepRecipe, Sizes, Words, recipe_of
from ...models.layers.compiled import require_compiler
from ...models.sd.backbone import Backbone, load_base, require_prediction
from ...models.sd.fold import fold_timestep_
from ...models.sd.sd21 import TINY_TEXT_ENCODER, TINY_UNET, TINY_VAE
from ...models.sd.tiny_decoder import TinyDecoder, load_tiny_decoder
from ...tiling.plan import TileConfig
from ...tiling.window import Window
from ...weights.download.fetching import download as fetch_source
from ...weights.download.sources import Fetch
from ...weights.fingerprint import fingerprint_of_base, short_hash
from ...weights.search.base_files import BaseFiles
from ...weights.search.locate import locate_base, locate_lora
from ...weights.spec import LoraSpec, Prediction
from ..base import EngineSpec
from .engine import Diffusion
from .networks import diffusers_networks, word_reader
from .one_step import one_step
from .options import SLIDERS, OneStepOptions, RandomWeights
from .parts import also_leaving
from .per_picture import find_estimating, per_picture
from .prompts import Looking, conditioner_of, find_look
from .reference import OriginalSizing
from .restorer import Restorer, base_licence, merge_restorer_, mixed_restorer_, require_base
from .seesr.reference import OriginalSeesrSizing
from .sizing import HouseSizing, Sizing
from .starts import as_is, noised_to

log = logging.getLogger(__name__)

NAME = "one-step"

TESTED_DTYPES = ("float32", "bfloat16", "float16")


def load_one_step(
    options: OneStepOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> Diffusion:
    """Find and load the base model, merge the restorer, fold the timestep.

    Raises:
        WeightsNotFoundError: the base model or the LoRA is nowhere to be found; lists the places.
        WeightsError: a file cannot be used.
        ConfigError: torch.compile cannot work here.
    """
    if options.compile:
        require_compiler(device)
    tiny = tiny_decoder_of(options.fast_decoder)
    if options.random_weights:
        from ...models.sd.random_sd21 import random_backbone, random_lora_

        if options.random_weights is RandomWeights.tiny:
            backbone, rank = random_backbone(TINY_UNET, TINY_VAE, TINY_TEXT_ENCODER), 4
        else:
            backbone, rank = random_backbone(), 256
        random_lora_(backbone.unet, rank=rank)
        restorer = Restorer(recipe=recipe_of(None), label=f"random on {backbone.found_in}")
        chosen = pick_dtype(dtype, device, TESTED_DTYPES)
        return make_engine(backbone, restorer, options, device, chosen, tiny)
    fetch = consented(fetch, download=options.download)
    files = locate_base(options.base_model, offline=options.offline, fetch=fetch)
    backbone = load_base(files)
    base = f"{backbone.found_in} {fingerprint_of_base(files)}"
    merged = _merged_spec(backbone.metadata, backbone.found_in)
    if merged is not None:
        restorer = _already_merged(merged, backbone, options, base)
    else:
        path = locate_lora(options.lora, offline=options.offline, fetch=fetch)
        restorer = _merge(backbone, files, path, options, base)
    recipe, looking = restorer.recipe, None
    require_prediction(backbone, recipe.base_prediction)
    if recipe.words is Words.tags:
        looking = find_look(options, device, pick_dtype(dtype, device, TESTED_DTYPES), fetch)
    chosen = pick_dtype(dtype, device, tuple(each for each in TESTED_DTYPES if each in recipe.dtypes))
    return make_engine(backbone, restorer, options, device, chosen, tiny, looking)


def _merge(backbone: Backbone, files: BaseFiles, path: Path, options: OneStepOptions, base: str) -> Restorer:
    modules = [adaptable_modules(dict(net.named_parameters())) for net in (backbone.unet, backbone.vae)]
    file = read_one_step(path, *modules, named=options.recipe)
    require_base(file.recipe, files)
    label = f"{file.label} on {base}"
    if file.mixing:
        return Restorer(
            recipe=file.recipe,
            label=label,
            mixed=mixed_restorer_(backbone, file, strength=options.lora_strength),
            estimating=find_estimating(options.degradation, path),
            notes=file.notes,
        )
    if options.degradation is not None:
        raise ConfigError(
            f"{path}: {file.recipe.title} is not mixed by blur and noise; leave out degradation"
        )
    sliders = {name: getattr(options, name) for name in SLIDERS}
    passes = merge_restorer_(backbone, file, strength=options.lora_strength, sliders=sliders)
    return Restorer(recipe=file.recipe, label=label, passes=passes, notes=file.notes)


def _already_merged(spec: LoraSpec, backbone: Backbone, options: OneStepOptions, base: str) -> Restorer:
    given = [name for name in ("lora", "recipe", "degradation") if getattr(options, name) is not None]
    given += [name for name in ("lora_strength", *SLIDERS) if getattr(options, name) != 1]
    if given:
        raise ConfigError(
            f"{backbone.found_in}: a LoRA is already merged into this model; leave out {' and '.join(given)}, or give "
            "the plain base model"
        )
    recipe = recipe_of(spec, backbone.found_in)
    return Restorer(recipe=recipe, label=f"merged, rank {spec.rank} on {base}")


def _merged_spec(metadata: Mapping[str, str], where: str) -> LoraSpec | None:
    """Return the spec of the LoRA that `hypir convert --to merged` put into a UNet, if any."""
    if MERGED_KEY not in metadata:
        return None
    try:
        note: Any = json.loads(metadata[MERGED_KEY])
        return build(LoraSpec, note["spec"], where=f"{where}: {MERGED_KEY}")
    except (ValueError, TypeError, KeyError) as err:
        raise WeightsError(f"{where}: {MERGED_KEY} cannot be read ({err}); merge the LoRA again") from err


def tiny_decoder_of(fast_decoder: str | None) -> TinyDecoder | None:
    """Load what decodes in the VAE's place, if anything; raises as `load_tiny_decoder`."""
    return None if fast_decoder is None else load_tiny_decoder(fast_decoder)


def consented(fetch: Fetch | None, *, download: bool) -> Fetch | None:
    """Return what fetches a missing file: what was given, or a plain download where the option `download` says so."""
    if fetch is None and download:
        return partial(fetch_source, confirm=_announce)
    return fetch


def make_engine(
    backbone: Backbone,
    restorer: Restorer,
    options: OneStepOptions,
    device: torch.device,
    dtype: torch.dtype,
    tiny: TinyDecoder | None,
    looking: Looking | None = None,
) -> Diffusion:
    """Make the engine of a backbone whose restorer is merged; folds its timestep in place.

    Raises:
        ConfigError: a timestep of coefficients for a recipe that has none.
    """
    recipe = restorer.recipe
    coeff_t = recipe.coeff_t if options.coeff_t is None else options.coeff_t
    if recipe.prediction is Prediction.difference and coeff_t != recipe.coeff_t:
        raise ConfigError(
            f"coeff_t has no meaning for {recipe.title}, which predicts the difference; leave it out"
        )
    for net in [net for _, net in restorer.passes] or [backbone.unet]:
        fold_timestep_(net, recipe.model_t)
    weights, notes = restorer.label, restorer.notes
    if tiny is not None:
        weights += f", decoded by {tiny.name} {short_hash(tiny.path)}"
        notes += (f"decoded by {tiny.kind} ({tiny.name}): {tiny.quality}",)
    licence = f"{recipe.licence_line}; base model: {base_licence(recipe)}"
    if looking is not None:
        weights, notes = f"{weights}, tagged by {looking.label}", (*notes, *looking.notes)
        licence += f"; tagger: {looking.licence}"
    look = None if looking is None else looking.look
    networks = diffusers_networks(
        backbone,
        dtype=dtype,
        device=device,
        exact_vae=options.vae_exact,
        alike=not options.reference_mode,
        tiny_decoder=tiny,
        passes=restorer.passes,
        compiled=options.compile,
    )
    codec, sizing = networks.codec, _sizing(recipe, backbone, reference=options.reference_mode)
    alone = isinstance(sizing, OriginalSeesrSizing)
    a_bar = partial(a_bar_at, backbone.schedule)
    engine = one_step(
        EngineSpec(
            name=NAME,
            weights=weights,
            dtype=str(dtype).removeprefix("torch."),
            settings={
                "recipe": recipe.name,
                "lora_strength": options.lora_strength,
                **{name: getattr(options, name) for name in recipe.sliders},
                "model_t": recipe.model_t,
                "coeff_t": coeff_t,
                **({} if recipe.noise_t is None else {"noise_t": recipe.noise_t}),
                "reference_mode": options.reference_mode,
                "vae_exact": options.vae_exact,
                "fast_decoder": None if tiny is None else tiny.name,
                "compile": options.compile,
                "random_weights": options.random_weights and options.random_weights.value,
            },
            color_fix=recipe.color_fix,
            dtypes=TESTED_DTYPES,
            wants_prompt=True,
            one_by_one=alone or look is not None or bool(restorer.mixed),
            licence=licence,
            notes=notes,
        ),
        codec=replace(codec, whole=codec.whole or alone),
        denoiser=networks.denoiser if looking is None else also_leaving(networks.denoiser, looking.leave),
        conditioner=conditioner_of(recipe, backbone, look=look, reference=options.reference_mode),
        a_bar=a_bar(coeff_t),
        model_t=recipe.model_t,
        kind=recipe.prediction,
        sizing=sizing,
        start=as_is if recipe.noise_t is None else noised_to(a_bar(recipe.noise_t)),
    )
    if restorer.estimating is None:
        return engine
    return per_picture(
        engine,
        recipe=recipe,
        mixed=restorer.mixed,
        estimating=restorer.estimating,
        read=word_reader(backbone),
    )


def _sizing(recipe: OneStepRecipe, backbone: Backbone, *, reference: bool) -> Sizing:
    """Return this project's rules of size, or those of a recipe's authors."""
    if not reference:
        return HouseSizing(native_px=backbone.native_px)
    if recipe.sizes is Sizes.hypir:
        return OriginalSizing()
    return OriginalSeesrSizing(
        process_px=min(recipe.minimum_px, backbone.native_px),
        tile=TileConfig(tile_px=recipe.tile_px, overlap_px=recipe.overlap_px, window=Window.gaussian),
        middles=(0.5, 0.5) if recipe.centred else (0.0, 0.5),
        to_cells=Image.Resampling.LANCZOS,
        engine=NAME,
    )


def _announce(description: str) -> bool:
    """Say what is about to be fetched; the option `download` was the consent."""
    log.warning("%s", description)
    return True
