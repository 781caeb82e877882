"""How near the one-step engine is to the original implementation's own results; writes a table.

    python benchmarks/one_step_parity.py

Needs only what lies in tests/golden/hypir: a tiny random model, a tiny LoRA, six results in float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.lora.file import read_lora
from hypir_core.lora.merge import merge_lora_
from hypir_core.lora.names import adaptable_modules
from hypir_core.request import software_versions
from hypir_core.tiling.plan import TileWish

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "hypir"
RESULT = Path(__file__).parent / "results" / "one_step_parity.json"


def main() -> None:
    """Measure everything, print it, write it."""
    result = {
        "command": "python benchmarks/one_step_parity.py",
        "software": dict(software_versions()),
        "limit": 2e-4,
        "cases": cases(),
        "merged_against_unmerged": merged_against_unmerged(),
        "constants": constants(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    RESULT.write_text(text + "\n")


def cases() -> list[dict[str, object]]:
    """Restore the six inputs in reference mode, float32, and compare with the original's results."""
    options = {"lora": GOLDEN / "lora.pth", "base_model": str(GOLDEN / "model"), "reference_mode": True}
    engine = load_engine("one-step", options=options, device=torch.device("cpu"), dtype="float32")
    rows = []
    for case in json.loads((GOLDEN / "cases.json").read_text())["cases"]:
        data = load_file(GOLDEN / case["file"])
        request = Request(
            target=TargetSize(scale=case.get("upscale"), longest_side_px=case.get("target_longest_side")),
            prompt=case["prompt"],
            tile=TileWish(tile_px=case["patch_size"], overlap_px=case["patch_size"] - case["stride"]),
        )
        got = restore(engine, data["lq_uint8"].float() / 255, request, Runtime()).image_01
        apart = (got - data["restored"]).abs()
        rows.append(
            {
                "case": case["file"],
                "output_px": list(got.shape[-2:]),
                "tile_px": case["patch_size"],
                "stride_px": case["stride"],
                "max": float(apart.max()),
                "mean": float(apart.mean()),
            }
        )
    return rows


def merged_against_unmerged() -> float:
    """Return the largest difference of the UNet's prediction with the LoRA merged and as peft's adapter."""

    def unet() -> UNet2DConditionModel:
        return UNet2DConditionModel.from_pretrained(GOLDEN / "model" / "unet").float().eval()

    raw = torch.load(GOLDEN / "lora.pth", weights_only=True)
    merged, adapted = unet(), unet()
    merge_lora_(merged, read_lora(GOLDEN / "lora.pth", adaptable_modules(dict(merged.named_parameters()))))
    modules = [name.split(".lora_A.")[0] for name in raw if ".lora_A." in name]
    adapted.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=modules))
    set_peft_model_state_dict(adapted, {name.replace(".default.", "."): t for name, t in raw.items()})
    assert len(get_peft_model_state_dict(adapted)) == len(raw)
    generator = torch.Generator().manual_seed(0)
    width = adapted.config["cross_attention_dim"]
    z = torch.randn(2, 4, 16, 16, generator=generator)
    context = torch.randn(2, 77, width, generator=generator)
    with torch.inference_mode():
        return float((merged(z, 200, context).sample - adapted(z, 200, context).sample).abs().max())


def constants() -> dict[str, float]:
    """Return ā at t = 200 and the two factors of the step, from diffusers' own scheduler."""
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    a_bar = float(scheduler.alphas_cumprod[200])
    return {"a_bar_200": a_bar, "of_z": a_bar**-0.5, "of_eps": (1 / a_bar - 1) ** 0.5}


if __name__ == "__main__":
    main()
