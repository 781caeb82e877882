"""Train a small latent diffusion model of the Stable Diffusion 2.1 family, from nothing.

    uv run python -m benchmarks.tiny_latent.make_base PHOTO_FOLDER RUN_FOLDER [--smallest] [--seed N] [--threads N]

RUN_FOLDER/model is a diffusers folder that the one-step engine and `train` load. The VAE is trained first, then the
UNet on its latents, under the empty prompt; text encoder and tokenizer are the random ones of tests/golden/hypir.
Stopped and started again, the same command goes on from the last checkpoint. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel

from hypir_core.models.sd.prompt import encode_prompt, tokenize

from .crops import read_photos
from .fitting import fit
from .networks import SMALLEST, Sizes, latents_of, make_scheduler, make_unet, make_vae, unet_loss, vae_loss

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "hypir" / "model"

REPORT = "report.json"
"""What was done, beside the model."""

log = logging.getLogger("make_base")


def make_base(photo_folder: Path, run: Path, sizes: Sizes, *, seed: int) -> dict[str, Any]:
    """Train and save everything below `run`; return what was done."""
    began = time.perf_counter()
    run.mkdir(parents=True, exist_ok=True)
    photos = read_photos(photo_folder)
    torch.manual_seed(seed)
    vae, unet = make_vae(sizes), make_unet(sizes)
    vae_losses = fit(
        vae,
        partial(vae_loss, vae, photos, sizes),
        steps=sizes.vae_steps,
        lr=sizes.vae_lr,
        seed=seed,
        checkpoint=run / "vae.pt",
    )
    latents = latents_of(vae.eval(), photos)
    spread = torch.cat([latent.flatten() for latent in latents]).std()
    vae.register_to_config(scaling_factor=round(1 / float(spread), 5))
    scaled = [latent * vae.config.scaling_factor for latent in latents]
    scheduler = make_scheduler()
    unet_losses = fit(
        unet,
        partial(unet_loss, unet, scaled, scheduler.alphas_cumprod, empty_prompt(), sizes),
        steps=sizes.unet_steps,
        lr=sizes.unet_lr,
        seed=seed + 1,
        checkpoint=run / "unet.pt",
    )
    model = run / "model"
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(GOLDEN / name, model / name, dirs_exist_ok=True)
    shutil.copy(GOLDEN / "model_index.json", model)
    vae.save_pretrained(model / "vae")
    unet.save_pretrained(model / "unet")
    scheduler.save_pretrained(model / "scheduler")
    report = {
        "photographs": len(photos),
        "seed": seed,
        "sizes": asdict(sizes),
        "vae_parameters": sum(p.numel() for p in vae.parameters()),
        "unet_parameters": sum(p.numel() for p in unet.parameters()),
        "scaling_factor": vae.config.scaling_factor,
        "vae_loss": {"first": round(vae_losses[0], 4), "last": round(vae_losses[-1], 4)},
        "unet_loss": {"first": round(unet_losses[0], 4), "last": round(unet_losses[-1], 4)},
        "seconds_of_the_last_start": round(time.perf_counter() - began, 1),
        "torch": torch.__version__,
    }
    (run / REPORT).write_text(json.dumps(report, indent=2), encoding="utf-8")
    return report


def empty_prompt() -> Tensor:
    """Return what the UNet reads for the empty prompt, [1 77 width]."""
    text_encoder = CLIPTextModel.from_pretrained(GOLDEN / "text_encoder", dtype=torch.float32).eval()
    tokens = tokenize("", None, vocabulary=text_encoder.config.vocab_size)
    return encode_prompt(text_encoder, tokens.ids)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--smallest", action="store_true", help="two steps each of the smallest networks")
    parser.add_argument("--seed", type=int, default=231)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.threads:
        torch.set_num_threads(given.threads)
    report = make_base(given.photos, given.run, SMALLEST if given.smallest else Sizes(), seed=given.seed)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
