"""Write SeeSR's files in full size with random numbers, as diffusers folders that the original reads as well.

    uv run python -m benchmarks.random_seesr_files FOLDER [--tiny]

FOLDER gets `sd-turbo` (UNet, VAE, text encoder), `seesr` (a UNet with image blocks, a ControlNet) and
`preset/models/ram_swin_large_14m.pth`, the place from which the original reads RAM; 13 GB in float32. With --tiny all
but RAM is tiny, 1 GB: for trying the commands. The vocabulary and the scheduler's settings are those of the golden set.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypir_core.engines.diffusion.options import RandomWeights
from hypir_core.engines.diffusion.seesr.random import CONFIGS, TOKEN_WIDTH
from hypir_core.models.sd.backbone import empty_text_encoder, empty_unet, empty_vae
from hypir_core.models.sd.controlnet import empty_controlnet
from hypir_core.models.sd.image_blocks import add_empty_image_blocks_, published_names
from hypir_core.models.sd.random_sd21 import SEED, fill_randomly_
from hypir_core.models.tagger.ram import Ram, RamSizes

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "seesr"
RAM_FILE = Path("preset/models/ram_swin_large_14m.pth")

RAM_SIZES = RamSizes(
    width=192,
    depths=(2, 2, 18, 2),
    heads=(6, 12, 24, 48),
    window=12,
    mlp_width=768,
    token_width=TOKEN_WIDTH,
    label_width=512,
    head_width=768,
    head_mlp_width=3072,
    head_layers=2,
    labels=4585,
)
"""RAM's, with a Swin-L."""

FEW_TAGS = 4.0
"""What random logits are lowered by, so that a picture has a handful of tags and not a thousand."""


def write_files(folder: Path, kind: RandomWeights) -> None:
    """Write everything; one network at a time is in memory."""
    unet_config, vae_config, text_config = CONFIGS[kind]
    rng = torch.Generator().manual_seed(SEED)
    turbo, seesr = folder / "sd-turbo", folder / "seesr"
    for part in ("tokenizer", "scheduler", "feature_extractor"):
        shutil.copytree(GOLDEN / "sd-turbo" / part, turbo / part, dirs_exist_ok=True)
    shutil.copy(GOLDEN / "sd-turbo" / "model_index.json", turbo)
    _save(fill_randomly_(empty_vae(vae_config), rng), turbo / "vae")
    _save_text_encoder(fill_randomly_(empty_text_encoder(text_config), rng), turbo / "text_encoder")
    unet = fill_randomly_(empty_unet(unet_config), rng)
    _save(unet, turbo / "unet")
    _save_with_blocks(unet, rng, seesr / "unet")
    control: Any = fill_randomly_(empty_controlnet(unet_config), rng)
    _save_with_blocks(control, rng, seesr / "controlnet")
    with torch.device("meta"):
        ram = Ram(RAM_SIZES)
    ram_file = folder / RAM_FILE
    ram_file.parent.mkdir(parents=True, exist_ok=True)
    tensors = _filled(ram, rng)
    tensors["fc.bias"] -= FEW_TAGS
    torch.save({"model": tensors}, ram_file)


def _save(net: Any, folder: Path) -> None:
    net.save_pretrained(folder)


def _save_text_encoder(net: Any, folder: Path) -> None:
    """Write it under the published names, ``text_model.…``: transformers 4 needs them, version 5 leaves them out."""
    from safetensors.torch import load_file, save_file

    _save(net, folder)
    file = folder / "model.safetensors"
    named = {f"text_model.{n.removeprefix('text_model.')}": t for n, t in load_file(file).items()}
    save_file(named, file, metadata={"format": "pt"})


def _save_with_blocks(net: Any, rng: torch.Generator, folder: Path) -> None:
    from safetensors.torch import save_file

    add_empty_image_blocks_(net, width=TOKEN_WIDTH)
    fill_randomly_(net, rng, only_empty=True)
    folder.mkdir(parents=True, exist_ok=True)
    config = {**net.config, "use_image_cross_attention": True}
    (folder / "config.json").write_text(json.dumps(config, default=list))
    tensors = {name: tensor.contiguous() for name, tensor in published_names(net.state_dict()).items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")


def _filled(net: nn.Module, rng: torch.Generator) -> dict[str, Tensor]:
    """Return a network's weights: norms 1, biases 0, the rest random, of order one over the inputs."""
    return {
        name: torch.randn(weight.shape, generator=rng) / math.sqrt(weight[0].numel())
        if weight.ndim > 1
        else torch.full(weight.shape, float("norm" in name.lower() and name.endswith("weight")))
        for name, weight in net.named_parameters()
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    write_files(given.folder, RandomWeights.tiny if given.tiny else RandomWeights.sd_turbo)


if __name__ == "__main__":
    main()
