"""opensr-srgan with opensr-utils beside this project, on the same machine and weights, in turns.

    uv run --extra scenes python -m benchmarks.original_opensr PYTHON WORK --sizes 512 1024 --json RESULT

PYTHON is of an environment of its own (3.12: `pip install opensr-srgan==0.5.1 opensr-utils==2.1.0`), WORK a folder for
files. A ×4 network of 16 blocks with channel attention, 64 channels, 4 bands, random weights, restores made-up
scenes of the given sides (input pixels): their `large_file_processing` with its windows of Sentinel-2, ours in float32
and bfloat16, each from file to file, in seconds and processor seconds, and the peak memory above what was there. With
--train also a step of the same GAN: their Lightning module, and `python -m train` on what `import-opensr` made of their
settings. Memory of large scenes (ours alone, a small network: its tiles take the same memory, so it only saves time):

    … original_opensr PYTHON WORK --sizes 512 --ours-sizes 512 2048 8192 --blocks 1 --channels 16 --json RESULT
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml

from hypir_core import Request, Runtime, load_engine
from hypir_core.allocator import give_back_freed_memory
from hypir_core.batch.naming import Job
from hypir_core.batch.scene_chain import wanted_of
from hypir_core.batch.scene_files import restore_scene_file
from hypir_core.measure.machine import describe_machine
from hypir_core.measure.memory import MIB, PeakMemory

from .scenes_walk import raster, write_geotiff

RUNNER = Path(__file__).with_name("original_opensr_process.py")
BANDS = ("B02", "B03", "B04", "B08")

CONFIG: dict[str, Any] = {
    "Data": {"normalization": "normalise_10k"},
    "Model": {"in_bands": 4},
    "Training": {
        "pretrain_g_only": False,
        "g_pretrain_steps": 0,
        "adv_loss_ramp_steps": 1,
        "label_smoothing": True,
        "EMA": {"enabled": True, "decay": 0.999, "use_num_updates": True, "update_after_step": 0},
        "Losses": {
            "adv_loss_beta": 0.001,
            "adv_loss_schedule": "cosine",
            "l1_weight": 1.0,
            "sam_weight": 0.05,
            "perceptual_weight": 0.0,
            "tv_weight": 0.0,
        },
    },
    "Generator": {
        "model_type": "SRResNet",
        "block_type": "rcab",
        "n_channels": 64,
        "n_blocks": 16,
        "large_kernel_size": 9,
        "small_kernel_size": 3,
        "scaling_factor": 4,
    },
    "Discriminator": {"model_type": "standard", "n_blocks": 8},
    "Optimizers": {
        "optim_g_lr": 1e-4,
        "optim_d_lr": 1e-4,
        "gradient_clip_val": 0.0,
        "betas": [0.0, 0.99],
        "eps": 1e-7,
        "weight_decay_g": 0.0,
        "weight_decay_d": 0.0,
    },
    "Schedulers": {
        "g_warmup_steps": 0,
        "g_warmup_type": "linear",
        "metric_g": "val_metrics/l1",
        "metric_d": "val_metrics/l1",
        "patience_g": 10,
        "patience_d": 10,
        "factor_g": 0.5,
        "factor_d": 0.5,
    },
    "Logging": {"num_val_images": 0, "wandb": {"enabled": False}},
}
"""In their words; both sides are made from it."""


class Original:
    """Their process; ask it for one thing after the other."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def ask(self, **question: Any) -> dict[str, float]:
        """Return what it answers; its end is an error."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the original ended with code {self.process.wait()}; its words stand above")
        return json.loads(answer)


@contextmanager
def original(python: Path, work: Path, threads: int) -> Iterator[Original]:
    """Start their process; it ends with the block."""
    (work / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    words = [python, RUNNER, work / "config.yaml", work / "model.ckpt", threads]
    with subprocess.Popen(
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line.strip() != "ready":
            pass
        try:
            yield Original(process)
        finally:
            process.terminate()


def ours(engine: Any, source: Path, result: Path) -> dict[str, float]:
    """Restore a scene from file to file."""
    memory = PeakMemory(torch.device("cpu"))
    memory.start()
    start, cpu_start = time.perf_counter(), time.process_time()
    runtime = Runtime(tidy=give_back_freed_memory)
    wanted = wanted_of(engine.spec, bands=(), axes="", dataset="")
    restore_scene_file(
        engine,
        Job(source=source, output=result),
        Request(),
        runtime,
        wanted=wanted,
        format_name="geotiff",
        force=True,
    )
    seconds, peak = time.perf_counter() - start, memory.above_start_bytes()
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu_start,
        "peak_mib": (peak or 0) / MIB,
    }


def made_up(work: Path, side: int) -> Path:
    """Write a scene of four bands."""
    scene = work / f"scene{side}.tif"
    tile = raster(min(side, 512), side)[[1, 2, 3, 7]]
    times = -(-side // tile.shape[1])
    write_geotiff(scene, tile.repeat(1, times, times)[:, :side, :side], pixel_m=10.0, names=BANDS)
    return scene


def row_of(who: str, side: int, runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return what is printed of some runs over one scene."""
    seconds = median(run["seconds"] for run in runs)
    cpu_seconds = median(run["cpu_seconds"] for run in runs)
    return {
        "side_px": side,
        "who": who,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "input_px_per_s": round(side * side / seconds),
        "input_px_per_cpu_s": round(side * side / cpu_seconds),
        "peak_mib": round(max(run["peak_mib"] for run in runs)),
    }


def train_ours(work: Path, *, steps: int, batch: int, crop: int, threads: int) -> float:
    """Return the median seconds per step of `python -m train`."""
    done = subprocess.run(
        [sys.executable, "-m", "train", "import-opensr", work / "config.yaml"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (work / "mine.yaml").write_text(done.stdout)
    words = [f"data.root={work / 'train'}", "data.source.kind=scenes", "data.degrade=[{recipe: area}]"]
    words += [
        "data.source.lq_root=null",
        f"data.batch_size={batch}",
        f"data.crop_px={crop}",
        f"max_steps={steps}",
    ]
    words += [
        f"output_dir={work / 'run'}",
        f"threads={threads}",
        "cpu=true",
        "tracking.every=1",
        "tracking.csv=true",
    ]
    words += [
        "data.workers=0",
        "tracking.images_every=0",
        "tracking.tensorboard=false",
        "checkpoint.every=1000",
    ]
    words += ["checkpoint.resume=exact", "generator.optimiser.plateau=null", "validation=null"]
    command = [sys.executable, "-m", "train", work / "mine.yaml", *words]
    subprocess.run(command, check=True, stdout=sys.stderr)
    with next((work / "run").rglob("scalars.csv")).open(newline="") as file:
        return median(
            [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "speed/step_s"][1:]
        )


def main() -> None:
    """Read the command line, take turns, print rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sizes", nargs="*", type=int, default=[512, 1024], help="sides of the input, px")
    parser.add_argument("--ours-sizes", nargs="*", type=int, default=[], help="sides for ours alone, float32")
    parser.add_argument("--channels", type=int, default=64, help="of every feature map")
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--train", type=int, default=0, metavar="STEPS")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    CONFIG["Generator"] |= {"n_channels": given.channels, "n_blocks": given.blocks}
    rows: list[dict[str, Any]] = []
    with original(given.python, given.work.resolve(), given.threads) as theirs:
        weights = given.work / "model.safetensors"
        words = [
            "convert",
            given.work / "model.ckpt",
            weights,
            "--config",
            given.work / "config.yaml",
            "--force",
        ]
        hypir = Path(sys.executable).with_name("hypir")
        subprocess.run([hypir, *map(str, words)], check=True, stdout=sys.stderr)
        engines = {
            dtype: load_engine("upscaler", {"weights": weights}, device=torch.device("cpu"), dtype=dtype)
            for dtype in ("float32", "bfloat16")
        }
        for side in given.sizes:
            scene = made_up(given.work, side)
            found: dict[str, list[dict[str, float]]] = {"original": [], "float32": [], "bfloat16": []}
            for _ in range(given.repeats):
                found["original"].append(
                    theirs.ask(scene=str(scene.resolve()), result=str((given.work / "theirs.tif").resolve()))
                )
                for dtype, engine in engines.items():
                    found[dtype].append(ours(engine, scene, given.work / f"{dtype}.tif"))
            for name, runs in found.items():
                rows.append(row_of(name, side, runs))
                print(json.dumps(rows[-1]), flush=True)
        for side in given.ours_sizes:
            runs = [ours(engines["float32"], made_up(given.work, side), given.work / "float32.tif")]
            rows.append(row_of("float32", side, runs))
            print(json.dumps(rows[-1]), flush=True)
        if given.train:
            size = {"steps": given.train, "batch": 4, "crop": 96}
            write_geotiff(
                given.work / "train" / "a.tif", raster(768, 1)[[1, 2, 3, 7]], pixel_m=10.0, names=BANDS
            )
            row = {"train": size, "original": theirs.ask(**size)["seconds"]}
            row["ours"] = train_ours(given.work.resolve(), **size, threads=given.threads)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "machine": describe_machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
