"""A VAE and a UNet laid out as in Stable Diffusion 2.1, small enough to be trained on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Generator, Tensor
from torch.nn import functional as F

from .crops import random_crops, random_flips

LATENT_PX = 8
"""Pixels per latent cell; the one-step engine knows no other."""

TEXT_WIDTH = 32
"""Width of the parity data's text encoder, which is taken over."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is trained, and how long."""

    vae_channels: tuple[int, int, int, int] = (32, 32, 64, 96)
    unet_channels: tuple[int, int, int, int] = (32, 64, 96, 96)
    vae_crop_px: int = 64
    vae_batch: int = 4
    vae_steps: int = 1000
    vae_lr: float = 2e-3
    unet_crop_cells: int = 16
    unet_batch: int = 8
    unet_steps: int = 400
    unet_lr: float = 1e-3


SMALLEST = Sizes(
    vae_channels=(8, 8, 8, 8),
    unet_channels=(16, 16, 16, 16),
    vae_crop_px=32,
    vae_batch=1,
    vae_steps=2,
    unet_crop_cells=8,
    unet_batch=1,
    unet_steps=2,
)
"""Shows in seconds that every part works; restores nothing."""

EDGE_WEIGHT = 0.25
COLOR_WEIGHT = 4.0
"""Of the colour error of whole cells: colour is a small part of the error of pixels, and is learned last."""

KL_WEIGHT = 1e-5
LOG_VARIANCE_START = -6.0
"""The posterior starts narrow; at 0, torch's start, noise drowns the latents for hundreds of steps."""


def make_vae(sizes: Sizes) -> Any:
    """Return a `diffusers.AutoencoderKL` with random weights."""
    config = {
        "sample_size": sizes.unet_crop_cells * LATENT_PX,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": sizes.vae_channels,
        "layers_per_block": 1,
        "norm_num_groups": 8,
    }
    vae: Any = AutoencoderKL.from_config(config)
    with torch.no_grad():
        vae.quant_conv.bias[4:] = LOG_VARIANCE_START
    return vae.to(memory_format=torch.channels_last)


def make_unet(sizes: Sizes) -> Any:
    """Return a `diffusers.UNet2DConditionModel` with random weights and the modules of version 2.1."""
    config = {
        "sample_size": sizes.unet_crop_cells,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "block_out_channels": sizes.unet_channels,
        "layers_per_block": 1,
        "attention_head_dim": (2, 4, 4, 4),  # diffusers' old name for the number of heads
        "cross_attention_dim": TEXT_WIDTH,
        "use_linear_projection": True,
        "norm_num_groups": 8,
    }
    unet: Any = UNet2DConditionModel.from_config(config)
    return unet.to(memory_format=torch.channels_last)


def make_scheduler() -> DDPMScheduler:
    """Return Stable Diffusion's noise schedule."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="epsilon",
        steps_offset=1,
    )


def vae_loss(vae: Any, photos: list[Tensor], sizes: Sizes, generator: Generator) -> Tensor:
    """Return the loss of one batch: absolute error of pixels, of edges and of cells, and a weak prior.

    The prior is the Kullback-Leibler divergence from the standard normal distribution (Kingma and Welling,
    arXiv 1312.6114, appendix B), as a mean per latent number.
    """
    crops = random_crops(photos, sizes.vae_batch, sizes.vae_crop_px, generator)
    images_pm1 = random_flips(crops, generator).float() / 127.5 - 1
    images_pm1 = images_pm1.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = vae.encode(images_pm1).latent_dist.parameters.chunk(2, dim=1)
        mean, log_variance = mean.float(), log_variance.float().clamp(-30, 20)
        noise = torch.randn(mean.shape, generator=generator)
        decoded = vae.decode(mean + (0.5 * log_variance).exp() * noise).sample
    error = decoded.float() - images_pm1
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    cells = F.avg_pool2d(error, LATENT_PX)
    grey = cells.mean(1, keepdim=True)
    coarse = grey.abs().mean() + COLOR_WEIGHT * (cells - grey).abs().mean()
    prior = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return error.abs().mean() + EDGE_WEIGHT * edges + coarse + KL_WEIGHT * prior


def unet_loss(
    unet: Any, latents: list[Tensor], a_bars: Tensor, condition: Tensor, sizes: Sizes, generator: Generator
) -> Tensor:
    """Return the mean squared error of the predicted noise (Ho et al., arXiv 2006.11239, eq. 14).

    Args:
        unet: predicts the noise.
        latents: of whole photographs, scaled, each [4 h w].
        a_bars: ā of every timestep, [1000].
        condition: the empty prompt, [1 77 width].
        sizes: batch and crop.
        generator: draws crops, timesteps and noise.
    """
    clean = random_crops(latents, sizes.unet_batch, sizes.unet_crop_cells, generator)
    t = torch.randint(len(a_bars), (len(clean),), generator=generator)
    a_bar = a_bars[t].reshape(-1, 1, 1, 1)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = (a_bar.sqrt() * clean + (1 - a_bar).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    predicted = unet(noisy, t, condition.expand(len(clean), -1, -1), return_dict=False)[0]
    return F.mse_loss(predicted, noise)


@torch.no_grad()
def latents_of(vae: Any, photos: list[Tensor]) -> list[Tensor]:
    """Return the posterior means of all photographs, each also mirrored, [4 h/8 w/8]; not scaled."""
    latents = []
    for photo in photos:
        h, w = (side - side % LATENT_PX for side in photo.shape[-2:])
        image_pm1 = photo[None, :, :h, :w].float() / 127.5 - 1
        both = torch.cat((image_pm1, image_pm1.flip(-1)))
        with torch.autocast("cpu", torch.bfloat16):
            latents += list(vae.encode(both).latent_dist.mean.float())
    return latents
