"""The one-step engine without numbers: shapes only, to plan a run on a machine that has no weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...device import pick_dtype
from ...diffusion.schedule import NoiseSchedule
from ...lora.recipe import recipe_of
from ...models.sd.backbone import Backbone, empty_text_encoder, empty_unet, empty_vae, facts
from ...models.sd.prompt import LENGTH
from ...models.sd.sd21 import SD21_TEXT_ENCODER, SD21_UNET, SD21_VAE
from ...weights.download.sources import Fetch
from ...weights.spec import Prediction
from .engine import Diffusion
from .load import TESTED_DTYPES, make_engine, tiny_decoder_of
from .options import OneStepOptions
from .parts import Condition
from .restorer import Restorer


def one_step_skeleton(
    options: OneStepOptions, device: torch.device, dtype: str, fetch: Fetch | None = None
) -> Diffusion:
    """Return the engine on torch's meta device, laid out as it would be on `device`."""
    del fetch
    chosen = pick_dtype(dtype, device, TESTED_DTYPES)
    unet, vae = empty_unet(SD21_UNET), empty_vae(SD21_VAE)
    backbone = Backbone(
        unet=unet,
        vae=vae,
        text_encoder=empty_text_encoder(SD21_TEXT_ENCODER),
        tokenizer=None,
        schedule=NoiseSchedule(),
        prediction=Prediction.eps,
        **facts(unet, vae, SD21_TEXT_ENCODER),
        found_in="no weights",
    )
    restorer = Restorer(recipe=recipe_of(None), label="none")
    tiny = tiny_decoder_of(options.fast_decoder)
    if tiny is not None:
        tiny.net.to("meta")
    # The exact VAE copies its maps back and forth, which shapes cannot; its arithmetic is the plain one's.
    engine = make_engine(
        backbone, restorer, replace(options, vae_exact=False, compile=False), device, chosen, tiny
    )
    condition = Condition(value=torch.empty(1, LENGTH, SD21_TEXT_ENCODER["hidden_size"], device="meta"))
    codec = replace(engine.codec, whole=options.vae_exact)
    return replace(engine, codec=codec, conditioner=lambda _image, _canvas, _request: condition)
