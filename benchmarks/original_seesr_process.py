"""The original SeeSR in a process of its own, with the versions that it pins; `original_seesr.py` starts it.

    echo 1024 1024 2 | VENV/bin/python benchmarks/original_seesr_process.py CHECKOUT WEIGHTS FORMAT FOLDER

Says ``ready``, then reads "HEIGHT WIDTH STEPS" lines (result pixels, ×4) and answers each with JSON. Its own `main` of
`test_seesr_turbo.py` restores a picture, with its own defaults; what it loads is kept between calls. Changed in
memory: "cuda" is the CPU; BERT's tokenizer, which tagging never reads, is not downloaded; fairscale, never called, is
an empty module. Written for Python 3.10 and torch 2.0: nothing of this project is imported.
"""

import argparse
import json
import os
import sys
import time
import types
from contextlib import redirect_stdout
from pathlib import Path

checkout, weights, number_format, folder = sys.argv[1:]
sys.path.insert(0, checkout)
os.chdir(weights)  # RAM is read from preset/models below

for name in ("fairscale", "fairscale.nn", "fairscale.nn.checkpoint"):
    sys.modules[name] = types.ModuleType(name)
wrapper = types.ModuleType("fairscale.nn.checkpoint.checkpoint_activations")
wrapper.checkpoint_wrapper = None
sys.modules[wrapper.__name__] = wrapper

import numpy as np  # noqa: E402
import ram.models.ram_lora as tagger  # noqa: E402
import test_seesr_turbo as original  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from utils import devices  # noqa: E402

SCALE, SEED = 4, 231
PICTURE = Path(folder) / "photo.png"
PROC = Path("/proc/self")


class NoTokenizer:
    """Stands for BERT's tokenizer: its length counts, its words do not."""

    def __len__(self):
        return 30524

    def __call__(self, _text):
        return types.SimpleNamespace(input_ids=[0])


def kept(make):
    """Return a function that makes its result once."""
    results = []

    def once(*given):
        if not results:
            results.append(make(*given))
        return results[0]

    return once


devices.device = torch.device("cpu")
tagger.init_tokenizer = NoTokenizer
original.get_validation_prompt.__defaults__ = ("cpu",)
original.load_seesr_pipeline = kept(original.load_seesr_pipeline)
original.load_tag_model = kept(original.load_tag_model)


def settings(steps):
    """Return the command line's defaults, but for what names this run."""
    return argparse.Namespace(
        seesr_model_path="seesr",
        pretrained_model_path="sd-turbo",
        ram_ft_path=None,
        image_path=str(PICTURE),
        output_dir=folder,
        mixed_precision=number_format,
        num_inference_steps=steps,
        seed=SEED,
        upscale=SCALE,
        prompt="",
        added_prompt="clean, high-resolution, 8k",
        negative_prompt="dotted, noise, blur, lowres, smooth",
        guidance_scale=1.0,
        conditioning_scale=1.0,
        blending_alpha=1.0,
        process_size=512,
        vae_decoder_tiled_size=224,
        vae_encoder_tiled_size=1024,
        latent_tiled_size=96,
        latent_tiled_overlap=32,
        sample_times=1,
        align_method="adain",
        start_steps=999,
        start_point="lr",
        save_prompts=False,
    )


def status_mib(key):
    """Return a line of the kernel's account of this process's memory."""
    lines = (PROC / "status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(key + ":"))


def restore(height, width, steps, rng):
    """Let the original restore noise of a size, from a file to a picture; writing it is not counted."""
    noise = rng.integers(0, 256, (height // SCALE, width // SCALE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(PICTURE)
    save, written = Image.Image.save, {"seconds": 0.0, "cpu_seconds": 0.0}

    def timed_save(picture, path):
        start, cpu_start = time.perf_counter(), time.process_time()
        save(picture, path)
        written["seconds"] += time.perf_counter() - start
        written["cpu_seconds"] += time.process_time() - cpu_start

    Image.Image.save = timed_save
    (PROC / "clear_refs").write_text("5")  # proc(5): resets the peak resident set
    start, cpu_start = time.perf_counter(), time.process_time()
    with redirect_stdout(sys.stderr):
        original.main(settings(steps), enable_xformers_memory_efficient_attention=False)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    Image.Image.save = save
    return {
        "seconds": seconds - written["seconds"],
        "cpu_seconds": cpu_seconds - written["cpu_seconds"],
        "peak_mib": status_mib("VmHWM"),
    }


def main():
    """Load, warm up on a small picture, say ``ready``, then answer line by line."""
    rng = np.random.default_rng(0)
    restore(512, 512, 1, rng)
    print("ready", flush=True)
    for line in sys.stdin:
        height, width, steps = map(int, line.split())
        print(json.dumps(restore(height, width, steps, rng)), flush=True)


if __name__ == "__main__":
    main()
