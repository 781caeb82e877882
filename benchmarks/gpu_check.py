"""Everything that only a GPU can show, in one command and at most nine minutes; prints a table and writes JSON.

    uv run python -m benchmarks.gpu_check --against CHECKOUT --json gpu.json
    uv run python -m benchmarks.gpu_check --tiny --device cpu          (does it run at all? a tiny model, half a minute)

Six parts, each in a process of its own, so that none keeps another's memory or dies of its error:

- tests: `pytest -m gpu`;
- parity: the golden cases of tests/golden/hypir in float32, bfloat16 and float16;
- speed: 1024², 2048² and 4096² px beside the original (CHECKOUT of XPixelGroup/HYPIR, else ours alone), as a multiple,
  and as a share of the card's own rate of matrix products;
- compiled: 1024² and 2048² px with the transformer blocks through torch.compile, beside the same without;
- memory: the peak above the weights up to 8192² px with tiles of 512 px;
- training: seconds and peak of a step of `hypir_sd2` in full size, at 1, 2, 4 and 8 pictures.

Weights are random: speed and memory do not depend on them. A part for which no time is left is not started, and the
table says so. Marks that the numbers are held against stand in `MARKS`. The exit code is 1 if a part failed.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file

from hypir_core import Request, Runtime, TargetSize, load_engine, pick_device, restore
from hypir_core.measure.against import original
from hypir_core.measure.machine import describe_machine
from hypir_core.measure.run import Case, load, measure
from hypir_core.tiling.plan import TileWish

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "hypir"

PARTS = ("tests", "parity", "speed", "compiled", "memory", "training")

MARKS: Mapping[str, Any] = {
    "parity float32, largest difference": 2e-3,
    "parity bfloat16, PSNR dB": 30.0,
    "parity float16, PSNR dB": 40.0,
    "times the original": {1024: 4.0, 2048: 6.0, 4096: 8.0},
    "share of the matrix rate": 0.45,
    "MiB above the weights": 2560,
}

LONGEST_S = 540


def parity(device: torch.device, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Restore the golden cases in every format, and say how far they are from the original's float32 on a CPU."""
    del given
    for dtype in ("float32", "bfloat16", "float16"):
        options = {"lora": GOLDEN / "lora.pth", "base_model": str(GOLDEN / "model"), "reference_mode": True}
        engine = load_engine("one-step", options, device=device, dtype=dtype)
        for case in json.loads((GOLDEN / "cases.json").read_text())["cases"]:
            data = load_file(GOLDEN / case["file"])
            request = Request(
                target=TargetSize(scale=case.get("upscale"), longest_side_px=case.get("target_longest_side")),
                prompt=case["prompt"],
                tile=TileWish(tile_px=case["patch_size"], overlap_px=case["patch_size"] - case["stride"]),
            )
            image_01 = data["lq_uint8"].float() / 255
            got = restore(engine, image_01, request, Runtime(device=device)).image_01.cpu()
            apart = (got - data["restored"]).abs()
            psnr = -10 * float(apart.double().square().mean().clamp_min(1e-20).log10())
            yield {
                "case": case["file"],
                "dtype": dtype,
                "max": float(apart.max()),
                "psnr_db": round(psnr, 1),
            }


def _case(
    device: torch.device, side_px: int, given: argparse.Namespace, *, compiled: bool = False, **more: Any
) -> Case:
    options = {"random_weights": "tiny" if given.tiny else "sd21", "compile": compiled}
    dtype = "float32" if given.tiny else "bfloat16"
    return Case(
        engine="one-step", options=options, size_px=(side_px, side_px), dtype=dtype, device=device, **more
    )


def speed(device: torch.device, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Time both in turns, so that both see the same machine."""
    sides = (128, 256) if given.tiny else (1024, 2048, 4096)
    engine = load(_case(device, sides[0], given))
    repeats = 1 if given.tiny else 3
    if given.against is None:
        for side in sides:
            yield _speed_row(measure(_case(device, side, given), engine, repeats=repeats), None)
        return
    with original(given.against, device=device) as theirs:
        theirs.run((sides[0], sides[0]))  # its first picture pays for its kernels
        for side in sides:
            size = (side, side)
            turns = 1 if side >= 4096 else repeats
            case = _case(device, side, given)
            ours = measure(case, engine, repeats=turns, between=lambda size=size: theirs.run(size))
            yield _speed_row(ours, theirs.result(size))


def compiled(device: torch.device, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Time both kinds one after the other, each three times: the median leaves out the first run, which compiles."""
    sides = (128,) if given.tiny else (1024, 2048)
    engines = {blocks: load(_case(device, sides[0], given, compiled=blocks)) for blocks in (False, True)}
    for side in sides:
        plain, made = (
            measure(_case(device, side, given, compiled=blocks), engine, repeats=3).seconds
            for blocks, engine in engines.items()
        )
        yield {
            "side_px": side,
            "seconds": made,
            "plain_seconds": plain,
            "times_plain": round(plain / made, 2),
        }


def _speed_row(ours: Any, theirs: Any) -> dict[str, Any]:
    row = {
        "side_px": ours.size,
        "seconds": ours.seconds,
        "all_seconds": ours.all_seconds,
        "share": ours.share_of_matrix_rate,
        "tflops": ours.tflops,
        "matrix_tflops": ours.matrix_tflops,
        "peak_mib": ours.peak_mib,
        "stages": {name: [f.seconds, f.tflops, f.tiles, f.batch] for name, f in ours.stages.items()},
        "notes": ours.notes,
    }
    if theirs is not None:
        row |= {
            "original_seconds": theirs.seconds,
            "original_peak_mib": theirs.peak_mib,
            "times": round(theirs.seconds / ours.seconds, 2),
        }
    return row


def memory(device: torch.device, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Restore once with tiles of 512 px, one at a time: what a small card would be asked for."""
    engine = load(_case(device, 1024, given))
    for side in (256, 512) if given.tiny else (1024, 2048, 4096, 8192):
        case = _case(device, side, given, tile_px=128 if given.tiny else 512, batch_tiles=1)
        found = measure(case, engine, repeats=1)
        yield {
            "side_px": side,
            "peak_mib": found.peak_mib,
            "buffers_mib": found.buffers_mib,
            "seconds": found.seconds,
        }


def training(device: torch.device, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run `python -m train` as a user does, for a few steps, at growing batches until memory is out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        photos.mkdir()
        rng = torch.Generator().manual_seed(0)
        for i in range(8):
            noise = torch.randint(0, 256, (512, 512, 3), dtype=torch.uint8, generator=rng)
            Image.fromarray(noise.numpy()).save(photos / f"{i}.png")
        base = GOLDEN / "model" if given.tiny else _full_size_base(folder / "base")
        for batch in (1, 2) if given.tiny else (1, 2, 4, 8):
            row = _train(folder / f"batch{batch}", base, photos, batch, device, given)
            yield row
            if "error" in row:
                return


def _full_size_base(folder: Path) -> Path:
    """Write Stable Diffusion 2.1 with random numbers as a diffusers folder."""
    from hypir_core.models.sd.random_sd21 import random_backbone

    made = random_backbone()
    for part in ("unet", "vae", "text_encoder"):
        net: Any = getattr(made, part)
        net.to(torch.bfloat16).save_pretrained(folder / part)
    for part in ("scheduler", "tokenizer"):
        shutil.copytree(GOLDEN / "model" / part, folder / part)
    return folder


def _train(
    into: Path, base: Path, photos: Path, batch: int, device: torch.device, given: argparse.Namespace
) -> dict[str, Any]:
    words = ["tiny_cpu"] if given.tiny else ["hypir_sd2", "losses.lpips.options.pretrained=false"]
    if not given.tiny:
        words += [
            "discriminators.clip.options.pretrained=null",
            "data.pool.size=16",
            "tracking.images_every=0",
        ]
        words += ["tracking.loss_gradients_every=0"]
    if device.type != "cpu":
        words += ["cpu=false"]
    words += [f"base_model={base}", f"data.root={photos}", f"output_dir={into}", f"data.batch_size={batch}"]
    words += [
        "max_steps=8",
        "tracking.every=2",
        "tracking.csv=true",
        "checkpoint.every=1000",
        "data.workers=0",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "train", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"batch": batch, "error": done.stderr.strip().splitlines()[-1:] or done.returncode}
    with next(into.rglob("scalars.csv")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [float(row["value"]) for row in rows if row["name"] == "speed/step_s"]
    peaks = [float(row["value"]) for row in rows if "mib" in row["name"] or "memory" in row["name"]]
    return {"batch": batch, "seconds_per_step": min(steps[1:]), "peak": max(peaks, default=None)}


def tests(given: argparse.Namespace) -> dict[str, Any]:
    """Run the tests marked gpu; on a CPU they skip, and say so."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        raise RuntimeError("\n".join(lines[-40:]))
    del given
    return {"said": lines[-1]}


def verdicts(parts: Mapping[str, Any]) -> list[tuple[str, Any, Any, bool]]:
    """Return what was measured beside each mark: name, mark, number, reached."""
    found: list[tuple[str, Any, Any, bool]] = []
    for dtype in ("float32", "bfloat16", "float16"):
        if rows := [row for row in parts.get("parity", ()) if row["dtype"] == dtype]:
            if dtype == "float32":
                name, worst = "parity float32, largest difference", max(row["max"] for row in rows)
                found.append((name, MARKS[name], worst, worst <= MARKS[name]))
            else:
                name, worst = f"parity {dtype}, PSNR dB", min(row["psnr_db"] for row in rows)
                found.append((name, MARKS[name], worst, worst >= MARKS[name]))
    for row in parts.get("speed", ()):
        if "times" in row:
            mark = MARKS["times the original"].get(row["side_px"], 0.0)
            found.append((f"{row['side_px']}²: × the original", mark, row["times"], row["times"] >= mark))
        mark = MARKS["share of the matrix rate"]
        found.append((f"{row['side_px']}²: share of matrix rate", mark, row["share"], row["share"] >= mark))
    for row in parts.get("memory", ()):
        mark, peak = MARKS["MiB above the weights"], row["peak_mib"]
        if peak is not None:
            found.append((f"{row['side_px']}²: MiB above the weights", mark, peak, peak <= mark))
    return found


def run_part(name: str, given: argparse.Namespace) -> None:
    """Be one part: print a line of JSON per row."""
    if name == "tests":
        print(json.dumps(tests(given)), flush=True)
        return
    device = pick_device(given.device)
    for row in globals()[name](device, given):
        print(json.dumps(row), flush=True)


def start_part(name: str, given: argparse.Namespace, seconds: float) -> tuple[list[Any], str]:
    """Start a part, and return its rows and why there are no more; what it had said before it was ended counts."""
    words = [sys.executable, "-m", "benchmarks.gpu_check", "--part", name, "--device", given.device]
    words += ["--tiny"] if given.tiny else []
    words += ["--against", str(given.against)] if given.against else []
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as wrong:
        process = subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=wrong, text=True)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = None
        for file in (said, wrong):
            file.seek(0)
        rows = [json.loads(line) for line in said.read().splitlines() if line.startswith("{")]
        if code == 0:
            return rows, ""
        return rows, f"ended after {seconds:.0f} s" if code is None else wrong.read()[-2000:]


def main() -> int:
    """Read the command line; run the parts while there is time, or be one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, help="a checkout of github.com/XPixelGroup/HYPIR")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="a tiny model and small pictures, on any device")
    parser.add_argument("--seconds", type=float, default=LONGEST_S, help="for all parts together")
    parser.add_argument("--part", choices=PARTS, help="one part in this process, as lines of JSON")
    given = parser.parse_args()
    if given.part:
        run_part(given.part, given)
        return 0
    begun = time.monotonic()
    parts: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name in given.only:
        left = given.seconds - (time.monotonic() - begun)
        if left < 10:
            wrong[name] = "not started: no time left"
            continue
        parts[name], why = start_part(name, given, left)
        if why:
            wrong[name] = why
        print(f"{name}: {len(parts[name])} rows, {time.monotonic() - begun:.0f} s so far", flush=True)
    held = verdicts(parts)
    print("| what | mark | measured | reached |", "|---|---|---|---|", sep="\n")
    for what, mark, number, reached in held:
        print(f"| {what} | {mark} | {number:.4g} | {'yes' if reached else '**no**'} |")
    for row in parts.get("training", ()):
        print(f"training: {row}")
    for name, why in wrong.items():
        print(f"{name} failed: {why}", file=sys.stderr)
    if given.json:
        result = {"machine": describe_machine(), "parts": parts, "failed": wrong, "verdicts": held}
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
