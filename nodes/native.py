"""The one-step engine's functions, made of ComfyUI's MODEL, CONDITIONING and VAE.

ComfyUI's `apply_model` divides by √(1 + σ²) and returns x − σ·ε, with σ² = (1 − ā)/ā. Fed with z·√(1 + σ²) it
therefore sees z itself, and (x − result)/σ is the network's ε, patches and hooks of the MODEL included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ..hypir_core.color.mode import ColorFix
from ..hypir_core.engines.base import EngineSpec
from ..hypir_core.engines.diffusion.engine import STEP_TILE, VAE_TILE, OneStep, OneStepNetworks, Prompt
from ..hypir_core.errors import ConfigError, SpecMismatchError
from ..hypir_core.models.sd.backbone import CONTEXT_WIDTHS, INPUT_CHANNELS, WANTED
from ..hypir_core.weights.spec import LoraSpec, Prediction
from . import host

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


def attached_to(model: Any) -> Attached | None:
    """Return what Load HYPIR LoRA attached to a MODEL, if anything."""
    return model.attachments.get(ATTACHMENT)


def require_sd21(model: Any) -> None:
    """Refuse a MODEL that a one-step LoRA does not fit.

    Raises:
        SpecMismatchError: names what it is and what is wanted.
    """
    config = host.unet_config(model)
    width, channels = config.get("context_dim"), config.get("in_channels")
    if width == 1024 and channels == 4 and config.get("adm_in_channels") is None:
        predicts = host.prediction(model)
        if predicts == "eps":
            return
        got = "the 768 px model with v-prediction" if predicts == "v" else "a model with another prediction"
    else:
        got = (
            INPUT_CHANNELS.get(channels or 0) or CONTEXT_WIDTHS.get(width or 0) or type(model.model).__name__
        )
    raise SpecMismatchError(f"this MODEL: expected {WANTED}, got {got}")


def native_engine(model: Any, conditioning: Any, vae: Any | None, *, tile_px: int | None = None) -> OneStep:
    """Return the one-step engine on ComfyUI's networks; without a VAE only its step can be run.

    ComfyUI makes room for tiles of `tile_px`; None stands for the engine's own.
    """
    require_sd21(model)
    if vae is not None and (host.vae_stride(vae), vae.latent_channels) != (8, 4):
        raise SpecMismatchError(
            "this VAE: expected the one of Stable Diffusion (4 channels, 8 px), got another"
        )
    attached = attached_to(model) or Attached(spec=LoraSpec(rank=1, alpha=1), label="ComfyUI's model")
    spec = attached.spec
    sigma = host.sigma_at(model, spec.model_t)
    scale = host.latent_scale(model)
    return OneStep(
        spec=EngineSpec(
            name="one-step",
            family="one_step",
            weights=attached.label,
            tile=STEP_TILE,
            color_fix=ColorFix.wavelet,
            wants_prompt=True,
            licence=spec.licence,
        ),
        networks=_networks(model, conditioning, vae, sigma=sigma, tile_px=tile_px),
        a_bar=1 / (1 + host.sigma_at(model, spec.coeff_t) ** 2),
        prediction=Prediction.eps,
        scaling_factor=scale,
    )


def _networks(
    model: Any, conditioning: Any, vae: Any | None, *, sigma: float, tile_px: int | None
) -> OneStepNetworks:
    notes = () if attached_to(model) else (NO_LORA,)

    def predict(z: Tensor, condition: Any) -> Tensor:
        x = z * (1 + sigma**2) ** 0.5
        return (x - host.denoise(model, condition, x, sigma)) / sigma

    encode_bytes, decode_bytes = host.vae_bytes_per_px(vae) if vae is not None else (1.0, 1.0)
    return OneStepNetworks(
        encode=partial(host.vae_encode, vae) if vae is not None else _no_vae,
        predict=predict,
        decode=partial(host.vae_decode, vae) if vae is not None else _no_vae,
        read_prompt=lambda _prompt: Prompt(condition=conditioning, notes=notes),
        place_vae=partial(host.place_vae, vae, tile_px or VAE_TILE.tile_px) if vae is not None else _no_vae,
        place_unet=partial(host.place_model, model, tile_px or STEP_TILE.tile_px),
        encode_shared=None if vae is None else host.vae_shared(vae),
        predict_shared=host.model_shared(model),
        decode_shared=None if vae is None else host.vae_shared(vae),
        encode_bytes_per_px=encode_bytes,
        predict_bytes_per_px=host.step_bytes_per_px(model),
        decode_bytes_per_px=decode_bytes,
    )


def _no_vae(_: Any) -> Any:
    raise ConfigError("this needs a VAE; connect one")
