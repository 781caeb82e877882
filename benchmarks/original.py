"""Time the original HYPIR code: full-size random SD 2.1 with an unmerged LoRA of rank 256, bfloat16.

    echo 1024 1024 | uv run python benchmarks/original.py CHECKOUT [cpu|cuda]

Reads "HEIGHT WIDTH" lines (output pixels, ×4) and answers each with a line of JSON. `hypir bench --against CHECKOUT`
starts it. Only the public entry point is called, its loading methods replaced by random weights: speed does
not depend on the values. Nothing of the checkout is copied or kept.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

checkout, *given = sys.argv[1:]
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, checkout)

import torch  # noqa: E402
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel  # noqa: E402
from HYPIR.enhancer.sd2 import SD2Enhancer  # noqa: E402
from peft import LoraConfig  # noqa: E402

from hypir_core.device import describe_device  # noqa: E402
from hypir_core.measure.matrix_rate import synchronize  # noqa: E402
from hypir_core.measure.memory import MIB, PeakMemory  # noqa: E402
from hypir_core.models.sd.sd21 import SD21_UNET, SD21_VAE  # noqa: E402

DEVICE = given[0] if given else "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16
RANK, TIMESTEP = 256, 200
TILE_PX, STRIDE_PX, SCALE = 512, 256, 4
ADAPTED = [
    *("to_k", "to_q", "to_v", "to_out.0"),
    *("conv", "conv1", "conv2", "conv_shortcut", "conv_out"),
    *("proj_in", "proj_out", "ff.net.2", "ff.net.0.proj"),
]


class RandomWeights(SD2Enhancer):
    """The original with random networks instead of files."""

    def init_scheduler(self):
        self.scheduler = DDPMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="epsilon",
            clip_sample=False,
        )

    def init_text_models(self):
        """Without: the prompt is read once per picture, and not timed on our side either."""

    def init_vae(self):
        self.vae = AutoencoderKL(**SD21_VAE).to(DEVICE, DTYPE).eval().requires_grad_(False)

    def init_generator(self):
        self.G = UNet2DConditionModel(**SD21_UNET).to(DTYPE)
        self.G.add_adapter(
            LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=ADAPTED)
        )
        self.G.to(DEVICE, DTYPE).eval().requires_grad_(False)

    def prepare_inputs(self, batch_size, prompt):
        del prompt
        self.inputs = {
            "c_txt": {"text_embed": torch.randn(batch_size, 77, 1024, device=DEVICE, dtype=DTYPE)},
            "timesteps": torch.full((batch_size,), TIMESTEP, device=DEVICE),
        }


def tiles_along(length_px: int) -> int:
    return -(-(length_px - TILE_PX) // STRIDE_PX) + 1


def main() -> None:
    torch.manual_seed(0)
    device = torch.device(DEVICE)
    enhancer = RandomWeights(None, None, ADAPTED, RANK, TIMESTEP, TIMESTEP, DEVICE)
    enhancer.init_models()
    memory = PeakMemory(device)
    for line in sys.stdin:
        height, width = map(int, line.split())
        picture_01 = torch.rand(1, 3, height // SCALE, width // SCALE)
        memory.start()
        start, cpu_start = time.perf_counter(), time.process_time()
        with redirect_stdout(sys.stderr):
            enhancer.enhance(picture_01, "", upscale=SCALE)
        synchronize(device)
        seconds = time.perf_counter() - start
        peak = memory.above_start_bytes()
        answer = {
            "seconds": seconds,
            "cpu_seconds": time.process_time() - cpu_start,
            "tiles": tiles_along(height) * tiles_along(width),
            "peak_mib": None if peak is None else round(peak / MIB),
            "device": describe_device(device),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
