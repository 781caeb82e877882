"""Peak memory of restoring a long clip against a short one.

    uv run benchmarks/clip_memory.py [--minutes 1 10] [--size 640x360] [--rate 25] [--strength 0]

Each clip is made here, and restored by `hypir restore` in a process of its own, at the clip's own size. With strength 0
the network is left out: what could grow with the length is reading, steadying, packing and writing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RESTORE = (
    "import resource, sys; from hypir_core.cli import main; code = main(sys.argv[1:]); "
    "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def make(path: Path, *, seconds: float, size: tuple[int, int], rate: int) -> int:
    """Write a clip of moving stripes with sound; return its frames."""
    width, height = size
    frames = round(seconds * rate)
    ramp = np.arange(width + 512, dtype=np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=44100)
        for number in range(frames):
            moved = np.ascontiguousarray(ramp[:, number % 512 : number % 512 + width])
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(video.encode(frame))
            for begin in range(number * 44100 // rate // 1024, (number + 1) * 44100 // rate // 1024):
                tone = np.sin(np.arange(begin * 1024, (begin + 1) * 1024) / 20).astype(np.float32)[None] / 4
                heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = 44100, begin * 1024, Fraction(1, 44100)
                container.mux(sound.encode(heard))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return frames


def peak_bytes(clip: Path, out: Path, *, strength: float) -> int:
    """Restore a clip in a process of its own; return the most memory that it took."""
    wish = ["--scale", "1", "--strength", str(strength), "--device", "cpu"]
    command = [sys.executable, "-c", RESTORE, "restore", str(clip), "-o", str(out), *wish]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, kib = map(int, done.stdout.split()[-2:])
    if code:
        raise SystemExit(done.stderr)
    return kib * 1024


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--rate", type=int, default=25)
    parser.add_argument("--strength", type=float, default=0.0)
    asked = parser.parse_args()
    width, height = map(int, asked.size.split("x"))
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for minutes in asked.minutes:
            clip = Path(folder, f"{minutes:g}.mp4")
            frames = make(clip, seconds=60 * minutes, size=(width, height), rate=asked.rate)
            peak = peak_bytes(clip, clip.with_name(f"{minutes:g}-restored.mp4"), strength=asked.strength)
            first = first or peak
            print(
                f"{minutes:6g} min {frames:6} frames: peak {peak / 1e6:7.1f} MB, ×{peak / first:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
