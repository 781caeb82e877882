"""From networks in memory to the engine: steps, sampler, sizes, particles and the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ....color.mode import ColorFix
from ....config import to_plain
from ....diffusion.samplers.base import Step
from ....diffusion.schedule import a_bars64
from ....diffusion.scheduler_file import Sampling
from ....diffusion.timesteps import Spacing
from ....errors import ConfigError
from ....models.sd.backbone import Backbone
from ....models.sd.controlnet import ControlNet
from ....models.sd.tiny_decoder import TinyDecoder
from ....residency import Residents
from ....tags import prompt as prompting
from ...base import EngineSpec
from ..engine import Diffusion
from ..networks import vae_codec, word_reader
from ..parts import Codec, Denoiser, also_leaving, leave_nothing
from .condition import CONTROL, BuildPrompt, MakeGuide, SeenPicture, SeesrConditioner
from .few_steps import NAME, few_steps, planned
from .networks import Control, guided_denoiser
from .options import Residency, SeesrOptions
from .reference import (
    OriginalNoise,
    OriginalSeesrSizing,
    original_start,
    original_steps,
)

TESTED_DTYPES = ("float32", "bfloat16", "float16")

FEW_STEPS = 20
"""A base that was not distilled needs this many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Guide:
    """One more ControlNet and the picture that it reads."""

    name: str
    net: ControlNet
    strength: float
    picture: MakeGuide
    label: str
    """Names the file, for reports."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SeesrParts:
    """What the engine is made of, on the CPU in float32."""

    backbone: Backbone
    """Its UNet has image blocks where `image_blocks` says so."""
    sampling: Sampling
    image_blocks: bool
    control: ControlNet | None
    """SeeSR's; None where its strength is 0."""
    guides: Sequence[Guide] = ()
    look: Callable[[Tensor], SeenPicture] | None = None
    leave: Callable[[], None] = leave_nothing
    """Send home what looks."""
    build: BuildPrompt
    tiny_decoder: TinyDecoder | None = None
    weights: str
    """Names all files and tells them apart by content."""
    licence: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More settings for the spec: hashes of files that options name."""
    notes: tuple[str, ...] = ()


def make_seesr(
    parts: SeesrParts,
    options: SeesrOptions,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Diffusion:
    """Return the engine; casts the networks and folds the timesteps in place.

    Raises:
        ConfigError: so few steps cannot be had with this base model.
    """
    backbone, original = parts.backbone, options.reference_mode
    spacing = options.spacing or parts.sampling.spacing or Spacing.leading
    sampling = Sampling(spacing=spacing, offset=parts.sampling.offset, ends_clean=parts.sampling.ends_clean)
    _require_enough_steps(options, sampling, backbone)
    a_bars = a_bars64(backbone.schedule)
    if original:
        steps = original_steps(
            a_bars, sampling, steps=options.steps, sampler=options.sampler, start_t=options.start_t
        )
    else:
        steps = planned(a_bars, options, spacing, offset=sampling.offset)
    controls = [Control(net=guide.net, guide=guide.name, strength=guide.strength) for guide in parts.guides]
    if parts.control is not None:
        controls.insert(0, Control(net=parts.control, guide=CONTROL, strength=options.control_strength))
    # Reference mode has the words of the original's command line, which are fewer than its demo's.
    words = (
        (prompting.WORDS if original else prompting.MORE_WORDS) if options.words is None else options.words
    )
    negative = prompting.NEGATIVE if original else prompting.MORE_NEGATIVE
    negative = options.negative or negative
    guided = options.cfg > 1
    denoiser = guided_denoiser(
        backbone.unet,
        controls,
        steps,
        cfg=options.cfg,
        image_blocks=parts.image_blocks,
        dtype=dtype,
        device=device,
        alike=not original,
        compiled=options.compile,
    )
    codec = _codec(parts, options, dtype=dtype, device=device)
    residents = _residents(parts, controls, options)
    codec, denoiser = _placed_by(residents, codec, denoiser)
    spec = _spec(parts, options, dtype, steps, words=words, negative=negative if guided else None)
    engine = few_steps(
        replace(spec, networks_bytes=residents.weights_bytes()),
        options,
        codec=codec,
        denoiser=also_leaving(denoiser, parts.leave),
        conditioner=SeesrConditioner(
            read=word_reader(backbone),
            build=parts.build,
            words=words,
            negative=negative if guided else None,
            look=parts.look,
            tags=None if options.tags is None else _split(options.tags),
            control=parts.control is not None,
            guides={guide.name: guide.picture for guide in parts.guides},
        ),
        steps=steps,
        native_px=backbone.native_px,
    )
    if not original:
        return engine
    return replace(
        engine,
        start=original_start(options.start, float(a_bars[options.start_t])),
        noise=OriginalNoise,
        sizing=OriginalSeesrSizing(process_px=options.process_px),
    )


def _codec(parts: SeesrParts, options: SeesrOptions, *, dtype: torch.dtype, device: torch.device) -> Codec:
    codec = vae_codec(
        parts.backbone,
        dtype=dtype,
        device=device,
        exact=options.vae_exact,
        alike=not options.reference_mode,
        tiny_decoder=parts.tiny_decoder,
    )
    return replace(codec, whole=options.reference_mode or codec.whole)


def _residents(parts: SeesrParts, controls: Sequence[Control], options: SeesrOptions) -> Residents:
    """Return who lies where: all on the device, or only those of one stage."""
    networks = {"unet": parts.backbone.unet, "vae": parts.backbone.vae}
    networks |= {f"controlnet {control.guide}": control.net.net for control in controls}
    if parts.tiny_decoder is not None:
        networks["tiny decoder"] = parts.tiny_decoder.net
    return Residents(networks, one_at_a_time=options.residency is Residency.one_at_a_time)


def _placed_by(residents: Residents, codec: Codec, denoiser: Denoiser) -> tuple[Codec, Denoiser]:
    names = residents.weights_bytes()
    coders = [name for name in names if name in {"vae", "tiny decoder"}]
    coding, stepping = residents.place(*coders), residents.place(*(n for n in names if n not in coders))
    return (
        replace(
            codec,
            encoding=replace(codec.encoding, place=coding, leave=residents.leave),
            decoding=replace(codec.decoding, place=coding, leave=residents.leave),
        ),
        replace(denoiser, placing=replace(denoiser.placing, place=stepping, leave=residents.leave)),
    )


def _split(tags: str) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in tags.split(",") if tag.strip())


def _require_enough_steps(options: SeesrOptions, sampling: Sampling, backbone: Backbone) -> None:
    few = sampling.spacing is not Spacing.trailing and options.steps < FEW_STEPS
    if few and options.spacing is None and not (options.reference_mode or options.random_weights):
        raise ConfigError(
            f"{backbone.found_in}: this base model was not made for few steps; with {options.steps} the result is a "
            f"blur. Give --steps {FEW_STEPS} or more with --cfg 5.5, or --base with SD-Turbo"
        )


def _spec(
    parts: SeesrParts,
    options: SeesrOptions,
    dtype: torch.dtype,
    steps: Sequence[Step],
    *,
    words: str,
    negative: str | None,
) -> EngineSpec:
    left_out = {
        "base_model",
        "seesr",
        "tagger_lora",
        "tag_list",
        "guide_weights",
        "download",
        "offline",
        "residency",
    }
    plain = to_plain(options)
    settings = {name: value for name, value in plain.items() if name not in left_out}
    settings |= {
        "words": words,
        "negative": negative,
        "timesteps": [step.t for step in steps],
        "image_blocks": parts.image_blocks,
        "tagger": parts.look is not None,
        "guides": {guide.name: {"net": guide.label, "strength": guide.strength} for guide in parts.guides},
        "fast_decoder": None if parts.tiny_decoder is None else parts.tiny_decoder.name,
        **parts.facts,
    }
    notes = parts.notes
    if parts.tiny_decoder is not None:
        notes += (
            f"decoded by {parts.tiny_decoder.kind} ({parts.tiny_decoder.name}): {parts.tiny_decoder.quality}",
        )
    return EngineSpec(
        name=NAME,
        weights=parts.weights,
        dtype=str(dtype).removeprefix("torch."),
        settings=settings,
        color_fix=ColorFix.wavelet,
        dtypes=TESTED_DTYPES,
        wants_prompt=True,
        one_by_one=True,
        licence=parts.licence,
        notes=notes,
    )
