"""AdcSR's two files, tiny and random, in its authors' layout."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers.models.autoencoders.vae import Decoder

from hypir_core.models.sd.adcsr import MIDDLE, UNET, Trunk
from tests.core import one_step_files as files


def adcsr_files(folder: Path, decoder: tuple[int, ...] = files.ADCSR_DECODER) -> tuple[Path, Path]:
    """Write the network and the light decoder; return where."""
    with torch.device("meta"):
        trunk = Trunk(12, tuple(width * 3 // 4 for width in files.ADCSR_WIDTHS), files.ADCSR_DECODER[-1])
        own, other = (
            Decoder(4, 3, ("UpDecoderBlock2D",) * 4, widths, layers_per_block=2)
            for widths in (files.ADCSR_DECODER, decoder)
        )
    network = {
        f"{prefix}{name}": tuple(tensor.shape)
        for prefix, part in ((UNET, trunk), (MIDDLE, own.mid_block))
        for name, tensor in part.state_dict().items()
    }
    light = {name: tuple(tensor.shape) for name, tensor in other.state_dict().items()}
    return files.adcsr(folder, network, light)
