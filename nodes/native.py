"""The one-step engine's functions, made of ComfyUI's MODEL, CONDITIONING and VAE.

ComfyUI's `apply_model` divides by √(1 + σ²) and returns x − σ·ε, with σ² = (1 − ā)/ā. Fed with z·√(1 + σ²) it
therefore sees z itself, and (x − result)/σ is the network's ε, patches and hooks of the MODEL included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..hypir_core.diffusion.samplers.base import Step
from ..hypir_core.engines.base import EngineSpec
from ..hypir_core.engines.diffusion.engine import Diffusion
from ..hypir_core.engines.diffusion.one_step import one_step
from ..hypir_core.engines.diffusion.parts import (
    STEP_TILE_PX,
    VAE_TILE_PX,
    Codec,
    Condition,
    Denoiser,
    Placing,
)
from ..hypir_core.engines.diffusion.sizing import HouseSizing, Placed
from ..hypir_core.engines.diffusion.starts import as_is, noised_to
from ..hypir_core.errors import ShapeError, SpecMismatchError
from ..hypir_core.lora.recipe import recipe_of
from ..hypir_core.models.sd.backbone import CONTEXT_WIDTHS, INPUT_CHANNELS, WANTED
from ..hypir_core.request import Request
from ..hypir_core.weights.spec import LoraSpec, Prediction
from .host import model as host_model
from .host import vae as host_vae
from .host.control import networks_of
from .host.regions import Regions, cropped, laid_over, mixed

ATTACHMENT = "hypir"
"""Under this name a MODEL carries what its LoRA says about itself."""

CELL_PX, INPUTS, TEXT_WIDTH = 8, 4, 1024
"""Of Stable Diffusion 2: pixels per latent cell, channels of a latent, numbers per token of its text encoder."""

DEFAULT_SCALE = 4.0
"""What 'as the model enlarges' means for the one-step model, which has no factor of its own."""

NO_LORA = (
    "no LoRA of Load HYPIR LoRA is on this model; unless one is merged into its weights or loaded by another "
    "node, the result is not restored"
)


@dataclass(frozen=True, kw_only=True)
class Attached:
    """What a MODEL's LoRA says about itself."""

    spec: LoraSpec
    label: str
    strength: float
    """How much of it is added."""
    notes: tuple[str, ...] = ()
    """What reading it assumed or left out."""
    weight: float = 1.0
    """Of the MODEL's own prediction."""
    earlier: tuple[tuple[float, Any], ...] = ()
    """Weights of more predictions, and the MODELs that make them: a second pass that a slider needs."""
    sliders: Mapping[str, float] = field(default_factory=dict)
    """As they were set, for reports."""


def attached_to(model: Any) -> Attached | None:
    """Return what Load HYPIR LoRA attached to a MODEL, if anything."""
    return model.attachments.get(ATTACHMENT)


def require_sd21(model: Any, wanted: str = WANTED) -> None:
    """Refuse a MODEL that a one-step LoRA, or what is `wanted` with Stable Diffusion 2, does not fit.

    Raises:
        SpecMismatchError: names what it is and what is wanted.
    """
    config = host_model.unet_config(model)
    width, channels = config.get("context_dim"), config.get("in_channels")
    if width == TEXT_WIDTH and channels == INPUTS and config.get("adm_in_channels") is None:
        predicts = host_model.prediction(model)
        if predicts == "eps":
            return
        got = "the 768 px model with v-prediction" if predicts == "v" else "a model with another prediction"
    else:
        got = (
            INPUT_CHANNELS.get(channels or 0) or CONTEXT_WIDTHS.get(width or 0) or type(model.model).__name__
        )
    raise SpecMismatchError(f"this MODEL: expected {wanted}, got {got}")


def require_text(conditioning: Sequence[Any]) -> None:
    """Refuse a CONDITIONING of another model's text encoder, before anything is run.

    Raises:
        SpecMismatchError: names what it is and what is wanted.
    """
    for text, _options in conditioning:
        if (width := text.shape[-1]) != TEXT_WIDTH:
            got = CONTEXT_WIDTHS.get(width, "another model")
            raise SpecMismatchError(
                f"this CLIP or CONDITIONING: expected the text encoder of {WANTED}, {TEXT_WIDTH} numbers per token, got "
                f"that of {got}, {width} per token; connect the CLIP of the same checkpoint as the MODEL"
            )


def require_vae(vae: Any) -> None:
    """Refuse another VAE than Stable Diffusion's.

    Raises:
        SpecMismatchError: says what is wanted.
    """
    if (host_vae.vae_stride(vae), vae.latent_channels) != (CELL_PX, INPUTS):
        raise SpecMismatchError(
            "this VAE: expected the one of Stable Diffusion (4 channels, 8 px), got another"
        )


def require_latent(latent: Mapping[str, Any]) -> None:
    """Refuse a LATENT that a Stable Diffusion MODEL cannot read.

    Raises:
        ShapeError: names what it is and what is wanted.
    """
    samples, cell_px = latent["samples"], latent.get("downscale_ratio_spacial") or CELL_PX
    shape = list(samples.shape)
    if getattr(samples, "is_nested", False) or len(shape) == 5:
        got = "one of a video or sound model"
    elif len(shape) != 4 or shape[1] != INPUTS:
        got = f"one of another model, {shape[1] if len(shape) > 1 else 0} channels"
    elif cell_px != CELL_PX:
        got = f"one with {cell_px} px per cell"
    else:
        return
    raise ShapeError(
        f"this LATENT: expected one of Stable Diffusion, [b {INPUTS} h w] with {CELL_PX} px per cell, got {got} "
        f"{shape}; encode the picture with the VAE of the MODEL's checkpoint (Tiled Encode or VAE Encode)"
    )


def native_codec(vae: Any, *, tile_px: int | None = None) -> Codec:
    """Return core's codec made of ComfyUI's VAE; ComfyUI makes room for tiles of `tile_px` (None: the codec's own)."""
    to_network, from_network = host_vae.vae_ranges(vae)
    encode_bytes, decode_bytes = host_vae.vae_bytes_per_px(vae)
    placing = partial(
        Placing,
        place=partial(host_vae.place_vae, vae, tile_px or VAE_TILE_PX),
        shared=host_vae.vae_shared(vae),
        in_float32=partial(host_vae.in_float32, vae),
    )
    return Codec(
        encode=lambda image_01: host_vae.vae_encode(vae, to_network(image_01)),
        decode=lambda latent: from_network(host_vae.vae_decode(vae, latent)),
        channels=vae.latent_channels,
        cell_px=host_vae.vae_stride(vae),
        encoding=placing(bytes_per_px=encode_bytes),
        decoding=placing(bytes_per_px=decode_bytes),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What a MODEL is told about one picture."""

    positive: Regions
    negative: Regions | None = None
    """For guidance; the names of its planes begin with `NEGATIVE`."""


NEGATIVE = "negative "


def native_denoiser(
    model: Any,
    *,
    tile_px: int | None = None,
    cfg: float = 1.0,
    others: Sequence[nn.Module] = (),
    weight: float = 1.0,
    earlier: Sequence[tuple[float, Any]] = (),
) -> Denoiser:
    """Return core's denoiser made of ComfyUI's MODEL, read at the timestep of each step.

    Its condition is `Told`. Guidance mixes two predictions, negative + cfg·(positive − negative); at 1 and below, the
    negative one is not made.

    Args:
        model: ComfyUI's.
        tile_px: ComfyUI makes room for tiles of this size; None: the engine's own.
        cfg: see above.
        others: the networks of ControlNets, whose norms tiles share too.
        weight: of the MODEL's prediction.
        earlier: weights and MODELs of predictions that are added to it; they are patched clones of one network, so that
            ComfyUI patches it anew for every pass.
    """
    passes = [*earlier, (weight, model)]
    in_wide = [host_model.computing_in_float32(each) for _, each in passes]
    computing = [[each for _, each in passes]]  # and, for tiles that are made again, `in_wide`
    shared = host_model.model_shared(model, others)

    def of(regions: Regions, name: str, z: Tensor, sigma: float, guides: Mapping[str, Tensor]) -> Tensor:
        x = z * (1 + sigma**2) ** 0.5
        parts = [
            part
            for part in cropped(regions, guides)
            if (not part.is_elsewhere or shared.norms.now.gathering)
            and host_model.holds_at(model, part.conditioning[0][1], sigma)
        ]
        predicted = []
        for number, each in enumerate(computing[-1]):
            clean = []
            for part in parts:
                with shared.norms.of_pass((name, part.number, number)):
                    clean.append((host_model.denoise(each, part.conditioning, x, sigma), part.weight))
            predicted.append((x - mixed(clean)) / sigma)
        if len(predicted) == 1 and weight == 1:
            return predicted[0]
        return sum(
            (w * eps for (w, _), eps in zip(passes, predicted, strict=True)), torch.zeros_like(predicted[0])
        )

    def predict(z: Tensor, step: Step, told: Told, guides: Mapping[str, Tensor]) -> Tensor:
        sigma = host_model.sigma_at(model, round(step.t))
        eps = of(told.positive, "", z, sigma, guides)
        if cfg <= 1 or told.negative is None:
            return eps
        those = {name.removeprefix(NEGATIVE): t for name, t in guides.items() if name.startswith(NEGATIVE)}
        without = of(told.negative, NEGATIVE, z, sigma, those)
        return without + cfg * (eps - without)

    @contextmanager
    def in_float32() -> Iterator[None]:
        computing.append(in_wide)
        try:
            yield
        finally:
            computing.pop()

    return Denoiser(
        predict=predict,
        placing=Placing(
            bytes_per_px=host_model.step_bytes_per_px(model),
            place=partial(host_model.place_model, model, tile_px or STEP_TILE_PX),
            shared=shared,
            in_float32=None if None in in_wide else in_float32,
        ),
    )


def native_condition(
    model: Any, conditioning: Any, content_px: Sequence[int], canvas_px: Sequence[int], *, model_t: int
) -> Condition:
    """Return core's condition made of a CONDITIONING laid over a canvas.

    Args:
        model: what reads it.
        conditioning: ComfyUI's.
        content_px: height and width of the picture on the canvas, from its first corner on.
        canvas_px: of the canvas.
        model_t: timestep of the step.

    Raises:
        ConfigError: something in it cannot be cut into tiles, or leaves a part of the picture out.
    """
    holding = host_model.conditioning_at(model, conditioning, host_model.sigma_at(model, model_t))
    h, w = (-(-side // CELL_PX) for side in content_px)
    canvas = (canvas_px[0] // CELL_PX, canvas_px[1] // CELL_PX)
    regions = laid_over(holding, (h, w), canvas, cell_px=CELL_PX)
    known = attached_to(model)
    return Condition(
        value=Told(positive=regions), guides=regions.planes, notes=known.notes if known else (NO_LORA,)
    )


def native_engine(model: Any, conditioning: Any, vae: Any | None, *, tile_px: int | None = None) -> Diffusion:
    """Return the one-step engine on ComfyUI's networks; without a VAE only its step can be run.

    ComfyUI makes room for tiles of `tile_px`; None stands for the engine's own.
    """
    require_sd21(model)
    require_text(conditioning)
    if vae is not None:
        require_vae(vae)
    known = attached_to(model)
    attached = known or Attached(spec=LoraSpec(rank=1, alpha=1), label="ComfyUI's model", strength=1.0)
    spec, recipe = attached.spec, recipe_of(attached.spec, attached.label)
    a_bar = partial(_a_bar_at, model)
    codec = Codec() if vae is None else native_codec(vae, tile_px=tile_px)

    def condition(_image: Tensor, placed: Placed, _request: Request) -> Condition:
        return native_condition(
            model, conditioning, placed.content_px, placed.plane.sizes_px, model_t=spec.model_t
        )

    return one_step(
        EngineSpec(
            name="one-step",
            weights=attached.label,
            dtype=str(model.model.get_dtype()).removeprefix("torch."),
            settings={
                "recipe": recipe.name,
                "lora_strength": attached.strength,
                **attached.sliders,
                "model_t": spec.model_t,
                "coeff_t": spec.coeff_t,
            },
            color_fix=recipe.color_fix,
            wants_prompt=True,
            licence=recipe.licence if known is None else recipe.licence_line,
        ),
        codec=replace(codec, scale=host_model.latent_scale(model)),
        denoiser=native_denoiser(
            model,
            tile_px=tile_px,
            others=networks_of(conditioning),
            weight=attached.weight,
            earlier=attached.earlier,
        ),
        conditioner=condition,
        a_bar=a_bar(spec.coeff_t),
        model_t=spec.model_t,
        kind=Prediction.eps if known is None else recipe.prediction,
        sizing=HouseSizing(),
        start=as_is if recipe.noise_t is None else noised_to(a_bar(recipe.noise_t)),
    )


def _a_bar_at(model: Any, timestep: int) -> float:
    """Return ā of a MODEL at a timestep."""
    return 1 / (1 + host_model.sigma_at(model, timestep) ** 2)
