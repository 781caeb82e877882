"""From weight files to the engine of SeeSR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....config import to_plain
from ....device import pick_dtype
from ....diffusion.scheduler_file import Sampling, read_sampling
from ....diffusion.timesteps import Spacing
from ....environment import read_environment
from ....errors import SpecMismatchError, WeightsNotFoundError
from ....models.layers.compiled import require_compiler
from ....models.sd.backbone import Backbone, load_base, require_prediction
from ....models.sd.controlnet import ControlNet, load_controlnet
from ....models.sd.image_blocks import add_image_blocks_, token_width
from ....models.sd.prompt import count_tokens
from ....tags.find import FoundTagger, find_tagger
from ....tags.prompt import build_prompt, original_prompt
from ....tags.tagger import Seen, Tagger
from ....weights.download.sources import Fetch, load_source
from ....weights.fingerprint import fingerprint_of_base, sampled_hash
from ....weights.search.base_files import BaseFiles
from ....weights.search.locate import locate_base
from ....weights.search.locate_seesr import SeesrFiles, locate_seesr
from ....weights.search.wanted_base import SD2_BASE, SD_TURBO, named_by
from ....weights.spec import Prediction
from ....weights.tensors import read_tensors
from ..engine import Diffusion
from ..load import consented, tiny_decoder_of
from ..parts import leave_nothing
from .condition import BuildPrompt
from .guides import load_guides
from .making import FEW_STEPS, TESTED_DTYPES, SeesrParts, make_seesr
from .options import AUTO, OFF, Residency, SeesrOptions

LICENCE = "SeeSR, RAM and DAPE: Apache-2.0; base model: {}"

BASES = "SD-Turbo, Stable Diffusion 2-base or 2.1-base"
"""What errors say was expected for a base model."""

WITHOUT_TAGGER = (
    "no tagger was found: the picture's own tags and tokens are left out, and SeeSR's image blocks with them; "
    "get it with --download, or say --tagger off"
)


def load_seesr(
    options: SeesrOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> Diffusion:
    """Find and load the base model, SeeSR's image blocks and ControlNet, and the tagger.

    Raises:
        WeightsNotFoundError: something is nowhere to be found; lists the places.
        WeightsError: a file cannot be used.
        ConfigError: so few steps cannot be had with this base model; torch.compile cannot work here.
    """
    if options.compile:
        require_compiler(device)
    chosen = pick_dtype(dtype, device, TESTED_DTYPES)
    if options.random_weights:
        from .random import random_parts

        return make_seesr(random_parts(options), options, device=device, dtype=chosen)
    fetch = consented(fetch, download=options.download)
    options = with_places(options)
    parts = read_parts(options, device, chosen, fetch)
    return make_seesr(parts, options, device=device, dtype=chosen)


def with_places(options: SeesrOptions) -> SeesrOptions:
    """Return the options with what environment variables name (`environment.PLACES`) where nothing else is given."""
    places = read_environment().places
    named: dict[str, Any] = {}
    if options.base_model is None and "base_model" in places:
        named["base_model"] = str(places["base_model"])
    if options.seesr is None and "seesr" in places:
        named["seesr"] = places["seesr"]
    if options.tagger == AUTO and "tagger" in places:
        named["tagger"] = str(places["tagger"])
    return replace(options, **named)


def read_parts(
    options: SeesrOptions, device: torch.device, dtype: torch.dtype, fetch: Fetch | None
) -> SeesrParts:
    """Find every file first, then read them; raises as `load_seesr`."""
    files, seesr = _locate(options, fetch)
    found = _tagger(options, device, dtype, fetch)
    tagger = None if found is None else found.tagger
    backbone = load_base(files, wanted=BASES)
    require_prediction(backbone, Prediction.eps, eps_base=BASES)
    notes: tuple[str, ...] = ()
    merged = None
    if found is not None:
        blocks = read_tensors(seesr.unet).tensors
        _require_same_tokens(found.tagger, token_width(blocks), seesr.unet)
        merged = add_image_blocks_(backbone.unet, blocks, where=str(seesr.unet))
        notes += found.notes
    elif options.tagger == AUTO:
        notes += (WITHOUT_TAGGER,)
    control = None
    if options.control_strength > 0:
        control = _with_same_width(load_controlnet(seesr.controlnet), backbone)
    weights = f"SeeSR {sampled_hash(seesr.unet)[:16]} on {backbone.found_in} {fingerprint_of_base(files)}"
    turbo = is_turbo(files)
    return SeesrParts(
        backbone=backbone,
        sampling=_sampling(files, turbo=turbo),
        image_blocks=tagger is not None,
        control=control,
        guides=load_guides(options, device, fetch),
        look=None if tagger is None else _looking(tagger, options),
        leave=leave_nothing if tagger is None else tagger.leave,
        build=_builder(options, backbone),
        tiny_decoder=tiny_decoder_of(options.fast_decoder),
        weights=weights if tagger is None else f"{weights}, tagged by {tagger.label}",
        licence=LICENCE.format(load_source((SD_TURBO if turbo else SD2_BASE).sources[0]).licence),
        facts={
            "image_blocks": None if merged is None else to_plain(merged),
            "controlnet": None if control is None else sampled_hash(seesr.controlnet)[:16],
        },
        notes=notes,
    )


def is_turbo(files: BaseFiles) -> bool:
    """Return whether a base model calls itself SD-Turbo."""
    path = files.single_file or files.unet
    return path is not None and named_by(path) is SD_TURBO


def _locate(options: SeesrOptions, fetch: Fetch | None) -> tuple[BaseFiles, SeesrFiles]:
    """Find the base model (without a word from the user, the one that so many steps want) and SeeSR's networks.

    Raises:
        WeightsNotFoundError: names all that is missing, not only the first.
    """
    wanted = SD_TURBO if options.steps < FEW_STEPS else SD2_BASE
    missing, base, seesr = [], None, None
    try:
        base = locate_base(options.base_model, wanted=wanted, offline=options.offline, fetch=fetch)
    except WeightsNotFoundError as err:
        missing.append(str(err))
    try:
        seesr = locate_seesr(options.seesr, offline=options.offline, fetch=fetch)
    except WeightsNotFoundError as err:
        missing.append(str(err))
    if base is None or seesr is None:
        raise WeightsNotFoundError("\n".join(missing))
    return base, seesr


def _tagger(
    options: SeesrOptions, device: torch.device, dtype: torch.dtype, fetch: Fetch | None
) -> FoundTagger | None:
    """Find the tagger; None where it is off, or looked for and not there."""
    if options.tagger == OFF:
        return None
    given = None if options.tagger == AUTO else options.tagger
    try:
        return find_tagger(
            given,
            options.tagger_lora,
            tag_list=options.tag_list,
            threshold=options.threshold,
            max_tags=options.max_tags,
            device=device,
            dtype=str(dtype).removeprefix("torch."),
            offline=options.offline,
            fetch=fetch,
        )
    except WeightsNotFoundError:
        if given is not None or options.tagger_lora is not None:
            raise
        return None


def _looking(tagger: Tagger, options: SeesrOptions) -> Callable[[Tensor], Seen]:
    """Return how the tagger looks; where networks take turns, it goes when it has looked."""

    def look(image_01: Tensor) -> Seen:
        try:
            return tagger.look(image_01, reference=options.reference_mode)
        finally:
            if options.residency is Residency.one_at_a_time:
                tagger.unload()

    return look


def _builder(options: SeesrOptions, backbone: Backbone) -> BuildPrompt:
    """Return what joins tags, the user's words and words about quality."""
    if options.reference_mode:
        return lambda tags, user, words: (original_prompt(tags, user, words), ())
    count = partial(count_tokens, tokenizer=backbone.tokenizer)

    def build(tags: tuple[str, ...], user: str, words: str) -> tuple[str, tuple[str, ...]]:
        built = build_prompt(tags, user, words, count_tokens=count, max_tags=options.max_tags)
        return built.text, built.notes

    return build


def _sampling(files: BaseFiles, *, turbo: bool) -> Sampling:
    """Return how the base wants to be sampled: what its scheduler says, or what its name does."""
    said = Sampling() if files.scheduler_config is None else read_sampling(files.scheduler_config)
    if said.spacing is None and turbo:
        return replace(said, spacing=Spacing.trailing)
    return said


def _require_same_tokens(tagger: Tagger, width: int | None, where: Path) -> None:
    found = tagger.file.sizes.token_width
    if width != found:
        raise SpecMismatchError(
            f"{where}: its image blocks read tokens {width} wide, and {tagger.file.path.name} gives {found}; "
            "give the files of one release"
        )


def _with_same_width(control: ControlNet, backbone: Backbone) -> ControlNet:
    """Refuse a ControlNet of another size than the UNet's."""
    unet: Any = backbone.unet
    net: Any = control.net
    if net.config.block_out_channels != unet.config.block_out_channels:
        raise SpecMismatchError(
            f"{backbone.found_in}: expected a base model as wide as the ControlNet "
            f"({net.config.block_out_channels}), got {unet.config.block_out_channels}"
        )
    return control
