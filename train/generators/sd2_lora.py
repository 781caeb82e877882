"""One step of Stable Diffusion 2.1: the UNet frozen with a LoRA that is trained, VAE and text encoder frozen.

A LoRA of the VAE's encoder may be trained beside it, as OSEDiff and OMGSR have it.

The forward pass is `hypir_core.diffusion.prediction.predict_x0` on the VAE's posterior mean, as the one-step
engine computes it: what is trained is what restores. Recipe by Lin et al., arXiv 2507.20590, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypir_core.config import build, strict
from hypir_core.diffusion.prediction import add_noise, predict_x0
from hypir_core.diffusion.schedule import a_bar_at
from hypir_core.engines.diffusion.noise import Noise
from hypir_core.errors import ConfigError, UnknownNameError, WeightsNotFoundError
from hypir_core.image.resize import resize
from hypir_core.lora.file import Lora, read_lora
from hypir_core.lora.names import TARGET_MODULES, adaptable_modules
from hypir_core.lora.recipe import HYPIR, recipe_of, recipes
from hypir_core.models.sd.backbone import Backbone, load_base, require_prediction
from hypir_core.models.sd.sd21 import SD21_UNET
from hypir_core.weights.search.locate import locate_lora
from hypir_core.weights.spec import LoraSpec, Prediction

from ..config import ExportConfig, TrainConfig
from ..config.checks import at_least, raise_all
from ..data.batch import Batch
from .base import Generator, GeneratorKind
from .cut_prompts import CutPrompts
from .frozen_base import FROZEN_DTYPE, conditions, find_base_model, hash_of
from .lora_layers import ENCODER_TARGETS, UnetAndEncoder, add_lora_

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Sd2LoraOptions:
    """``generator.options`` of ``sd2_lora``; the defaults are the published recipe's."""

    __pydantic_config__ = strict

    rank: int | None = None
    """Rank of every factor pair, alpha is the same; None: that of `lora`, or 256 without one."""
    target_modules: tuple[str, ...] = TARGET_MODULES
    """Which modules of the UNet are adapted, by the endings of their names; `conv_in`, the first convolution, may be
    one of them, as OSEDiff, PiSA-SR and OMGSR have it."""
    vae_rank: int | None = None
    """Rank of a LoRA of the VAE's encoder, alpha is the same, as OSEDiff (4) and OMGSR (16) have it; None leaves the
    VAE as it is."""
    lora: str | None = None
    """LoRA to start from, a file as `hypir restore --lora` takes it, or `auto`: the published one, where it
    lies on this machine; None starts from the base."""
    model_t: int = 200
    """Timestep given to the UNet."""
    coeff_t: int = 200
    """Timestep whose ā turns the prediction into the clean latent."""
    prediction: Prediction | None = None
    """What the UNet learns to predict; None: what the base model does. `difference`: what is to be taken off the
    degraded latent, as PiSA-SR has it, with a model_t of 1."""
    noise_t: int | None = None
    """Timestep whose noise is put on the degraded latent before the step, as GDPO-SR has it (250); None puts none."""
    recipe: str = HYPIR
    """The family whose words and colour fix the exported LoRA asks for (`hypir engines`)."""
    scale: int = 1
    """High-quality pixels per low-quality pixel; the generator enlarges bicubically to the target's size."""
    gradient_checkpointing: bool = True
    """Compute activations of UNet and VAE decoder again instead of keeping them: less memory, more time."""

    def __post_init__(self) -> None:
        problems = at_least(self, 1, "scale") + at_least(self, 0, "model_t", "coeff_t")
        if self.rank is not None:
            problems += at_least(self, 1, "rank")
        if self.vae_rank is not None:
            problems += at_least(self, 1, "vae_rank")
        if self.noise_t is not None:
            problems += at_least(self, 0, "noise_t")
        if self.recipe not in (known := [each.name for each in recipes()]):
            problems.append(str(UnknownNameError("recipe", self.recipe, known)))
        raise_all(problems)


def read_options(options: Mapping[str, Any]) -> Sd2LoraOptions:
    """Read ``generator.options``.

    Raises:
        ConfigError: lists the unknown keys and the wrong values.
    """
    return build(Sd2LoraOptions, options, where="generator.options")


def sd2_lora(config: TrainConfig, device: torch.device) -> Generator:
    """Make the generator from a base model on this machine; nothing is fetched.

    Raises:
        ConfigError: an option that is unknown or does not fit the LoRA to start from.
        WeightsNotFoundError: `base_model` is nowhere to be found.
        WeightsError: a file cannot be read or does not fit.
    """
    options = read_options(config.generator.options)
    backbone = load_base(find_base_model(config.base_model), dtype=FROZEN_DTYPE[config.precision])
    return sd2_lora_on(backbone, options, base=config.base_model, device=device)


def find_files(config: TrainConfig) -> None:
    """Look for the base model and the LoRA to start from.

    Raises:
        WeightsNotFoundError: one of them is nowhere to be found; names the key.
    """
    find_base_model(config.base_model)
    options = read_options(config.generator.options)
    if options.lora is not None:
        _locate_lora(options.lora)


def sd2_lora_on(
    backbone: Backbone, options: Sd2LoraOptions, *, base: str | None, device: torch.device
) -> Generator:
    """Make the generator of a base model in memory, which becomes part of it.

    Args:
        backbone: on the CPU; its UNet and VAE in the format in which they are to stay.
        options: ``generator.options``.
        base: what the config calls the base model, for the spec of a model that has no public name.
        device: where the frozen networks go.
    """
    unet: Any = backbone.unet
    vae: Any = backbone.vae
    base_hash = hash_of(unet, vae)
    start = _read_start(backbone, options) if options.lora is not None else None
    rank = _rank(options, start)
    add_lora_(unet, rank=rank, targets=options.target_modules, start=start)
    if options.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        vae.enable_gradient_checkpointing()
    module: nn.Module = unet
    if options.vae_rank is not None:
        add_lora_(vae.encoder, rank=options.vae_rank, targets=ENCODER_TARGETS)
        vae.quant_conv.requires_grad_(False)
        module = UnetAndEncoder(unet, vae)
    unet.train()
    vae.to(device).train()  # older diffusers checkpoint in training mode only; there is no dropout
    a_bar = a_bar_at(backbone.schedule, options.coeff_t)
    kind = _kind(backbone, options)
    cut_prompts = CutPrompts()
    condition_of = conditions(backbone, device, cut_prompts)

    def begin(mean: Tensor) -> Tensor:
        z = mean.float() * backbone.scaling_factor
        if options.noise_t is None:
            return z
        # Outside of training it is the engine's own, of seed 0.
        eps = torch.randn_like(z) if unet.training else Noise(0).like(z, 0)
        return add_noise(z, eps, a_bar=a_bar_at(backbone.schedule, options.noise_t))

    def restore(prepared: nn.Module, batch: Batch) -> Tensor:
        h, w = batch.lq.shape[-2:]
        with torch.no_grad():
            image_01 = resize(batch.lq, (h * options.scale, w * options.scale)).clamp(0, 1)
            image_pm1 = (image_01 * 2 - 1).to(vae.dtype)
        condition = condition_of(batch.prompts or ("",) * len(batch), count=unet.training)
        if options.vae_rank is None:
            with torch.no_grad():
                z = begin(vae.encode(image_pm1).latent_dist.mean)
            predicted = prepared(z, options.model_t, condition, return_dict=False)[0]
        else:
            z, predicted = prepared(image_pm1, begin, options.model_t, condition)
        x0 = predict_x0(z, predicted, a_bar=a_bar, kind=kind)
        image_pm1 = vae.decode((x0 / backbone.scaling_factor).to(vae.dtype), return_dict=False)[0]
        return image_pm1.float() / 2 + 0.5

    origin = f"from {start.path.name}, " if start and start.path else ""

    def spec(export: ExportConfig, trained_with: str) -> LoraSpec:
        return LoraSpec(
            base_model=_public_name(unet, base),
            rank=rank,
            alpha=rank,
            target_modules=options.target_modules,
            model_t=options.model_t,
            coeff_t=options.coeff_t,
            prediction=kind,
            noise_t=options.noise_t,
            recipe=options.recipe,
            scaling_factor=backbone.scaling_factor,
            trained_with=f"{trained_with}, {origin}data: {export.trained_on}",
            licence=export.licence,
        )

    levels = len(vae.config.block_out_channels) + len(unet.config.block_out_channels) - 2
    return Generator(
        module=module,
        scale=options.scale,
        restore=restore,
        spec=spec,
        grain_px=math.lcm(2**levels, options.scale),
        base_hash=base_hash,
        frozen=(vae,) if module is unet else (vae.decoder,),
        notes=cut_prompts.notes,
    )


def _locate_lora(lora: str) -> Path:
    try:
        return locate_lora(None if lora == AUTO else lora)
    except WeightsNotFoundError as err:
        raise WeightsNotFoundError(f"generator.options.lora: {err}\nthen set it to the file") from err


def _read_start(backbone: Backbone, options: Sd2LoraOptions) -> Lora:
    """Read the LoRA to start from and check it against the base model and the other options."""
    assert options.lora is not None
    path = _locate_lora(options.lora)
    lora = read_lora(path, adaptable_modules(dict(backbone.unet.named_parameters())))
    stated = lora.spec or LoraSpec(rank=lora.rank, alpha=lora.alpha)
    require_prediction(backbone, recipe_of(stated, path).base_prediction)
    raise_all(
        [
            f"generator.options.{key}: {path} was trained with {theirs}, the options say {ours}; "
            f"set generator.options.{key} to that"
            for key in ("model_t", "coeff_t", "target_modules", "noise_t")
            if (theirs := getattr(stated, key)) != (ours := getattr(options, key))
        ]
        + [
            f"generator.options.prediction: {path} predicts {stated.prediction.value}; set it to that"
            for kind in [_kind(backbone, options)]
            if stated.prediction is not kind
        ]
    )
    return lora


def _kind(backbone: Backbone, options: Sd2LoraOptions) -> Prediction:
    """Return what the UNet predicts.

    Raises:
        ConfigError: a base model that predicts something else cannot learn it in place.
    """
    kind = options.prediction or backbone.prediction
    if kind not in {backbone.prediction, Prediction.difference}:
        raise ConfigError(
            f"generator.options.prediction: the base model predicts {backbone.prediction.value}, got {kind.value}; "
            "leave it out, or say difference"
        )
    return kind


def _rank(options: Sd2LoraOptions, start: Lora | None) -> int:
    if start is None:
        return 256 if options.rank is None else options.rank
    if len(start.ranks) > 1:
        raise ConfigError(
            f"generator.options.lora: {options.lora} has modules of the ranks {', '.join(map(str, start.ranks))}; "
            "training goes on from a LoRA of one rank: give another one"
        )
    if options.rank not in {None, start.rank}:
        raise ConfigError(
            f"generator.options.rank: {options.lora} has rank {start.rank}, the options say {options.rank}; "
            f"set generator.options.rank={start.rank}"
        )
    return start.rank


def _public_name(unet: Any, base: str | None) -> str:
    """Return the public name of the base model; of another architecture only what its path is called."""
    if tuple(unet.config.block_out_channels) == SD21_UNET["block_out_channels"]:
        return LoraSpec(rank=1, alpha=1).base_model
    return Path(base).name if base else "unnamed"


SD2_LORA = GeneratorKind(make=sd2_lora, check=read_options, find=find_files)
