"""Count the numbers that training `sd2_lora` holds, on the meta device.

uv run python -m benchmarks.training_parameters
"""

from __future__ import annotations

from typing import Any

import open_clip
import torch
from torch import nn
from torchvision.models import vgg16

from hypir_core.lora.names import TARGET_MODULES
from hypir_core.models.sd.backbone import empty_text_encoder, empty_unet, empty_vae
from hypir_core.models.sd.sd21 import SD21_TEXT_ENCODER, SD21_UNET, SD21_VAE
from train.discriminators.clip_convnext import LEVELS, Heads
from train.generators.lora_layers import add_lora_


def main() -> None:
    with torch.device("meta"):
        visual: Any = open_clip.create_model("convnext_xxlarge", pretrained=None, device="meta").visual
        channels = [stage["num_chs"] for stage in visual.trunk.feature_info][:LEVELS]
        parts: dict[str, nn.Module] = {
            "UNet": empty_unet(SD21_UNET),
            "VAE": empty_vae(SD21_VAE),
            "text encoder": empty_text_encoder(SD21_TEXT_ENCODER),
            "CLIP ConvNeXt trunk": visual,
            "its heads": Heads(channels, embedding=visual.head.proj.weight.shape[0], width=512),
            "VGG of LPIPS": vgg16().features,
        }
    for name, part in parts.items():
        show(name, sum(p.numel() for p in part.parameters()))
    for rank in (256, 128, 64):
        unet = empty_unet(SD21_UNET)
        add_lora_(unet, rank=rank, targets=TARGET_MODULES)
        show(f"LoRA of rank {rank}", sum(p.numel() for p in unet.parameters() if p.requires_grad))


def show(name: str, numbers: int) -> None:
    print(
        f"{name:22} {numbers:>13,}  float32 {numbers * 4 / 2**30:5.2f} GiB  bf16 {numbers * 2 / 2**30:5.2f} GiB"
    )


if __name__ == "__main__":
    main()
