"""How much better a LoRA trained on the small latent model restores than an untrained one.

    uv run python -m benchmarks.tiny_latent.prove_lora BASE/model LORA PHOTO_FOLDER [--count N] [--strip FILE.png]

LORA is the output_dir of `python -m train benchmarks/tiny_latent/lora_gan.yaml …`. Every photograph is degraded by
degradation.yaml at a fixed seed, restored by the one-step engine at its own size (with its wavelet colour fix unless
said otherwise), and compared with itself. An untrained LoRA changes nothing (its second factors are zero), so
strength 0 stands for it. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from hypir_core import (
    ColorFix,
    Request,
    Runtime,
    TargetSize,
    load_engine,
    read_picture,
    restore,
    to_planes,
    write_picture,
)
from hypir_core.config import load_yaml
from hypir_core.degrade import degrade, load_recipe
from hypir_core.engines.diffusion.engine import canvas_for, mirror_to
from hypir_core.files.formats import is_picture_path
from hypir_core.metrics.fidelity import ms_ssim, psnr_y, ssim
from hypir_core.metrics.gradients import detail_ratio, gmsd
from hypir_core.models.sd.backbone import load_base
from hypir_core.weights.search.locate import locate_base
from hypir_core.weights.spec import spec_from_metadata
from hypir_core.weights.tensors import read_tensors

from .make_base import REPORT
from .measures import feature_distance

RECIPE = Path(__file__).with_name("degradation.yaml")
CPU = torch.device("cpu")

HIGHER_IS_BETTER = {"psnr_y_db": True, "ssim": True, "ms_ssim": True, "gmsd": False, "features": False}
"""Measures that have a better direction; detail is best at 1."""

UNTRAINED, TRAINED = "untrained LoRA", "trained LoRA, EMA"
SHOWN = ("truth", "degraded", "truth through the VAE", UNTRAINED, TRAINED)
"""Columns of the strip."""

SHOWN_PX = 256
"""Side of the middle that the strip shows of each picture."""

Restorer = Callable[[Tensor, Tensor], Tensor]
"""(degraded, truth) → result, all [1 3 h w]."""


def restorers(base: Path, lora_run: Path) -> dict[str, Restorer]:
    """Return every way to make a picture that is compared."""

    def engine(lora: str, strength: float) -> Any:
        options = {"base_model": str(base), "lora": lora_run / lora, "lora_strength": strength}
        return load_engine("one-step", options=options, device=CPU, dtype="float32")

    untrained = engine("generator.safetensors", 0.0)
    averaged = engine("generator_ema.safetensors", 1.0)
    raw = engine("generator.safetensors", 1.0)

    def restored(engine: Any, color_fix: ColorFix | None = None) -> Restorer:
        request = Request(target=TargetSize(scale=1), color_fix=color_fix)
        return lambda degraded, _: restore(engine, degraded, request, Runtime()).image_01

    return {
        "degraded": lambda degraded, _: degraded,
        "truth through the VAE": lambda _, truth: through_vae(untrained, truth),
        "degraded through the VAE": lambda degraded, _: through_vae(untrained, degraded),
        UNTRAINED: restored(untrained),
        "trained LoRA": restored(raw),
        TRAINED: restored(averaged),
        f"{UNTRAINED}, no colour fix": restored(untrained, ColorFix.none),
        f"{TRAINED}, no colour fix": restored(averaged, ColorFix.none),
    }


def through_vae(engine: Any, image_01: Tensor) -> Tensor:
    """Encode and decode a picture [1 3 h w] without a step between, on the canvas that the engine would use."""
    h, w = image_01.shape[-2:]
    _, canvas_px = canvas_for((h, w), native_px=engine.native_px)
    latent = engine.networks.encode(mirror_to(image_01, canvas_px) * 2 - 1)
    return (engine.networks.decode(latent) / 2 + 0.5)[..., :h, :w]


@torch.no_grad()
def compare(
    files: list[Path], ways: Mapping[str, Restorer], vae: Any, strip: list[list[Tensor]], *, shown: int
) -> dict[str, list[dict[str, float]]]:
    """Measure every way on every photograph; the pictures of the first `shown` go into `strip`."""
    recipe = load_recipe(RECIPE)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for seed, path in enumerate(files):
        truth = to_planes(read_picture(path))[0].expand(-1, 3, -1, -1)
        degraded = degrade(truth, recipe, generator=torch.Generator().manual_seed(seed)).lq_01
        pictures = {"truth": truth}
        for name, make in ways.items():
            image = make(degraded, truth).clamp(0, 1).mul(255).round().div(255)
            pictures[name] = image
            rows[name].append(
                {
                    "psnr_y_db": float(psnr_y(image, truth)),
                    "ssim": float(ssim(image, truth)),
                    "ms_ssim": float(ms_ssim(image, truth)),
                    "gmsd": float(gmsd(image, truth)),
                    "features": float(feature_distance(vae, image, truth)),
                    "detail": float(detail_ratio(image, truth)),
                }
            )
        if seed < shown:
            strip.append([_middle(pictures[name]) for name in SHOWN])
    return rows


def gains(rows: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return what the trained LoRA gains over the untrained one, and on how many pictures it is better."""
    found = {}
    for measure, higher in HIGHER_IS_BETTER.items():
        pairs = zip(rows[UNTRAINED], rows[TRAINED], strict=True)
        differences = [after[measure] - before[measure] for before, after in pairs]
        better = sum(d > 0 if higher else d < 0 for d in differences)
        found[measure] = {"mean_change": round(fmean(differences), 4), "better_on": better}
    return found


def training_settings(lora_run: Path) -> dict[str, Any]:
    """Return what decided the LoRA: commit, steps done and settings, without paths."""
    config = load_yaml(lora_run / "config.yaml")
    exported = lora_run / "generator.safetensors"
    spec = spec_from_metadata(read_tensors(exported).metadata, exported)
    kept = ("max_steps", "seed", "precision", "generator", "discriminators", "losses")
    data = {key: config["data"][key] for key in ("batch_size", "crop_px", "degrade")}
    return {"trained_with": spec.trained_with, **{key: config[key] for key in kept}, "data": data}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path)
    parser.add_argument("lora_run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--strip", type=Path, default=None, help="write the first pictures side by side")
    parser.add_argument("--shown", type=int, default=6)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    began = time.perf_counter()
    files = sorted(path for path in given.photos.iterdir() if is_picture_path(path))[: given.count]
    vae = load_base(locate_base(str(given.base))).vae
    strip: list[list[Tensor]] = []
    rows = compare(files, restorers(given.base, given.lora_run), vae, strip, shown=given.shown)
    if given.strip:
        write_picture(given.strip, torch.cat([torch.cat(row, dim=3) for row in strip], dim=2))
    report = {
        "base": json.loads((given.base.parent / REPORT).read_text(encoding="utf-8")),
        "training": training_settings(given.lora_run),
        "photographs": len(files),
        "means": {
            name: {measure: round(fmean(row[measure] for row in of_way), 4) for measure in of_way[0]}
            for name, of_way in rows.items()
        },
        "trained_over_untrained": gains(rows),
        "seconds": round(time.perf_counter() - began, 1),
        "torch": torch.__version__,
    }
    print(json.dumps(report, indent=2))


def _middle(image: Tensor) -> Tensor:
    h, w = image.shape[-2:]
    y, x = (max(0, (side - SHOWN_PX) // 2) for side in (h, w))
    return image[..., y : y + SHOWN_PX, x : x + SHOWN_PX]


if __name__ == "__main__":
    main()
