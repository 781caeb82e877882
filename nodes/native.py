"""The one-step engine's functions, made of ComfyUI's MODEL, CONDITIONING and VAE.

ComfyUI's `apply_model` divides by √(1 + σ²) and returns x − σ·ε, with σ² = (1 − ā)/ā. Fed with z·√(1 + σ²) it
therefore sees z itself, and (x − result)/σ is the network's ε, patches and hooks of the MODEL included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from ..hypir_core.color.mode import ColorFix
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
from ..hypir_core.engines.diffusion.sizing import HouseSizing
from ..hypir_core.errors import SpecMismatchError
from ..hypir_core.models.sd.backbone import CONTEXT_WIDTHS, INPUT_CHANNELS, WANTED
from ..hypir_core.weights.spec import LoraSpec, Prediction
from .host import model as host_model
from .host import vae as host_vae

ATTACHMENT = "hypir"
"""Under this name a MODEL carries what its LoRA says about itself."""

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


def attached_to(model: Any) -> Attached | None:
    """Return what Load HYPIR LoRA attached to a MODEL, if anything."""
    return model.attachments.get(ATTACHMENT)


def require_sd21(model: Any) -> None:
    """Refuse a MODEL that a one-step LoRA does not fit.

    Raises:
        SpecMismatchError: names what it is and what is wanted.
    """
    config = host_model.unet_config(model)
    width, channels = config.get("context_dim"), config.get("in_channels")
    if width == 1024 and channels == 4 and config.get("adm_in_channels") is None:
        predicts = host_model.prediction(model)
        if predicts == "eps":
            return
        got = "the 768 px model with v-prediction" if predicts == "v" else "a model with another prediction"
    else:
        got = (
            INPUT_CHANNELS.get(channels or 0) or CONTEXT_WIDTHS.get(width or 0) or type(model.model).__name__
        )
    raise SpecMismatchError(f"this MODEL: expected {WANTED}, got {got}")


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


def native_denoiser(model: Any, *, tile_px: int | None = None) -> Denoiser:
    """Return core's denoiser made of ComfyUI's MODEL, read at the timestep of each step."""
    wide = host_model.computing_in_float32(model)
    computing = [model]  # and, for tiles that are made again, `wide`

    def predict(z: Tensor, step: Step, condition: Any, _guides: Mapping[str, Tensor]) -> Tensor:
        sigma = host_model.sigma_at(model, round(step.t))
        x = z * (1 + sigma**2) ** 0.5
        return (x - host_model.denoise(computing[-1], condition, x, sigma)) / sigma

    @contextmanager
    def in_float32() -> Iterator[None]:
        computing.append(wide)
        try:
            yield
        finally:
            computing.pop()

    return Denoiser(
        predict=predict,
        placing=Placing(
            bytes_per_px=host_model.step_bytes_per_px(model),
            place=partial(host_model.place_model, model, tile_px or STEP_TILE_PX),
            shared=host_model.model_shared(model),
            in_float32=None if wide is None else in_float32,
        ),
    )


def native_engine(model: Any, conditioning: Any, vae: Any | None, *, tile_px: int | None = None) -> Diffusion:
    """Return the one-step engine on ComfyUI's networks; without a VAE only its step can be run.

    ComfyUI makes room for tiles of `tile_px`; None stands for the engine's own.
    """
    require_sd21(model)
    if vae is not None and (host_vae.vae_stride(vae), vae.latent_channels) != (8, 4):
        raise SpecMismatchError(
            "this VAE: expected the one of Stable Diffusion (4 channels, 8 px), got another"
        )
    known = attached_to(model)
    attached = known or Attached(spec=LoraSpec(rank=1, alpha=1), label="ComfyUI's model", strength=1.0)
    spec = attached.spec
    codec = Codec() if vae is None else native_codec(vae, tile_px=tile_px)
    condition = Condition(value=conditioning, notes=known.notes if known else (NO_LORA,))
    return one_step(
        EngineSpec(
            name="one-step",
            weights=attached.label,
            dtype=str(model.model.get_dtype()).removeprefix("torch."),
            settings={"lora_strength": attached.strength, "model_t": spec.model_t, "coeff_t": spec.coeff_t},
            color_fix=ColorFix.wavelet,
            wants_prompt=True,
            licence=spec.licence,
        ),
        codec=replace(codec, scale=host_model.latent_scale(model)),
        denoiser=native_denoiser(model, tile_px=tile_px),
        conditioner=lambda _image, _request: condition,
        a_bar=1 / (1 + host_model.sigma_at(model, spec.coeff_t) ** 2),
        model_t=spec.model_t,
        kind=Prediction.eps,
        sizing=HouseSizing(),
    )
