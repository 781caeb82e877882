"""opensr-srgan and opensr-utils in a process of their own; `original_opensr.py` starts it.

    VENV/bin/python benchmarks/original_opensr_process.py CONFIG CHECKPOINT THREADS

Writes a checkpoint with random weights, says ``ready``, then reads lines of JSON and answers each with one:
{"scene": IN, "result": OUT} restores a GeoTIFF with `large_file_processing` and its defaults of Sentinel-2;
{"steps": N, "batch": B, "crop": C} runs training steps of the SRGAN module on random numbers.
Written for Python 3.12: nothing of this project is imported.
"""

import gc
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

config, checkpoint, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

import torch  # noqa: E402
from opensr_srgan._factory import load_from_config  # noqa: E402
from opensr_utils import large_file_processing  # noqa: E402
from pytorch_lightning import Callback, Trainer  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

PROC = Path("/proc/self")


def status_mib(key):
    lines = (PROC / "status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def restore(model, source, result):
    work = large_file_processing(
        root=source, model=model, window_size=(128, 128), factor=4, overlap=12, eliminate_border_px=2,
        device="cpu", output_path=result, overwrite=True, output_units="normalized",
    )  # fmt: skip
    work.run()


class Clock(Callback):
    """Times every batch of a training."""

    def __init__(self):
        self.seconds = []

    def on_train_batch_start(self, *_):
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_):
        self.seconds.append(time.perf_counter() - self.start)


def train(steps, batch, crop):
    """Train on random numbers with Lightning's trainer, without logging; return the median second per batch."""
    module = load_from_config(config, None, mode="train")
    rng = torch.Generator().manual_seed(0)
    hr = torch.rand(batch * steps, 4, crop, crop, generator=rng)
    pairs = TensorDataset(torch.nn.functional.avg_pool2d(hr, 4), hr)
    clock = Clock()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[clock],
    )  # fmt: skip
    trainer.fit(module, DataLoader(pairs, batch_size=batch))
    return sorted(clock.seconds)[len(clock.seconds) // 2]


def main():
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = load_from_config(config, None, mode="eval").eval()
    if not checkpoint.exists():
        torch.save(
            {"state_dict": {f"generator.{k}": v for k, v in model.generator.state_dict().items()}}, checkpoint
        )
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        with redirect_stdout(sys.stderr):
            if "scene" in asked:
                gc.collect()
                (PROC / "clear_refs").write_text("5")
                before, start, cpu = status_mib("VmRSS"), time.perf_counter(), time.process_time()
                restore(model, asked["scene"], asked["result"])
                answer = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
                answer["peak_mib"] = status_mib("VmHWM") - before
            else:
                answer = {"seconds": train(asked["steps"], asked["batch"], asked["crop"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
