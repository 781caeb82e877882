"""The library's one step on a diffusers UNet, which the native path is compared with."""

from __future__ import annotations

from torch import Tensor, nn

from hypir_core.diffusion.schedule import NoiseSchedule, a_bar_at
from hypir_core.engines.base import EngineSpec
from hypir_core.engines.diffusion.noise import Noise
from hypir_core.engines.diffusion.one_step import one_step
from hypir_core.engines.diffusion.parts import Codec, Condition, Denoiser, Placing
from hypir_core.engines.diffusion.sizing import HouseSizing
from hypir_core.models.layers.shared_layers import SharedLayers
from hypir_core.models.layers.shared_norms import SharedNorms
from hypir_core.tiling.stage import Stage
from hypir_core.weights.spec import Prediction


def library_step_stage(unet: nn.Module, condition: Tensor) -> Stage:
    """Return the step as a stage over latents times the scale."""
    engine = one_step(
        EngineSpec(name="one-step", weights=""),
        codec=Codec(),
        denoiser=Denoiser(
            predict=lambda z, _step, c, _guides: unet(z, 200, c.expand(len(z), -1, -1)).sample,
            placing=Placing(bytes_per_px=1.0, shared=SharedLayers(norms=SharedNorms(unet))),
        ),
        conditioner=lambda _image, _canvas, _request: Condition(),
        a_bar=a_bar_at(NoiseSchedule(), 200),
        model_t=200,
        kind=Prediction.eps,
        sizing=HouseSizing(),
    )
    return engine.step_stage(engine.steps[0], Condition(value=condition), Noise(0))
