"""A streamed result is that of the pipeline, and is never whole in memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from hypir_core import ColorFix, Request, Runtime, TargetSize, TileWish, load_engine, restore
from hypir_core.errors import ConfigError, ShapeError
from hypir_core.files.source import ArraySource
from hypir_core.streaming import restore_stream
from tests.core.scene_samples import write_weights
from tests.core.toy_diffusion import toy_engine

CPU = torch.device("cpu")


class Rows:
    """A sink that keeps what it is given, and checks the order."""

    def __init__(self):
        self.rows: list[torch.Tensor] = []

    def write(self, start_row, rows):
        assert start_row == sum(part.shape[2] for part in self.rows)
        self.rows.append(rows.clone())

    def picture(self):
        return torch.cat(self.rows, 2)


@pytest.fixture(scope="module")
def engines():
    return {name: load_engine(name, device=CPU, dtype="float32") for name in ("built-in", "built-in-sharp")}


def pixels(h, w, channels=3, dtype=np.uint8):
    rng = np.random.default_rng(h * w)
    coarse = rng.random((h // 8 + 2, w // 8 + 2, channels))
    big = np.kron(coarse, np.ones((8, 8, 1)))[:h, :w]
    return (big * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("name", ["built-in", "built-in-sharp"])
@pytest.mark.parametrize("scale", [1, 2, 2.7, 4, 5])
def test_the_stream_equals_the_pipeline(engines, name, scale):
    engine, array = engines[name], pixels(150, 90)
    request = Request(target=TargetSize(scale=scale), tile=TileWish(tile_px=256, overlap_px=64))
    source = ArraySource(array)
    whole = restore(engine, torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255, request, Runtime())
    sink = Rows()
    report = restore_stream(engine, source, sink, request, Runtime())
    torch.testing.assert_close(sink.picture(), whole.image_01, atol=1e-4, rtol=0)
    assert len(sink.rows) >= 1
    assert report.output_px == whole.report.output_px
    assert replace(report, seconds=0, stages=()) == replace(whole.report, seconds=0, stages=())


def test_strength_grey_and_16_bit(engines):
    array = pixels(120, 70, channels=1, dtype=np.uint16)
    request = Request(
        target=TargetSize(scale=2), strength=0.4, color_fix=ColorFix.wavelet, color_strength=0.6
    )
    engine = engines["built-in"]
    image = torch.from_numpy(array.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    sink = Rows()
    restore_stream(engine, ArraySource(array), sink, request, Runtime())
    whole = restore(engine, image, request, Runtime()).image_01
    torch.testing.assert_close(sink.picture(), whole, atol=2e-5, rtol=0)


def test_what_cannot_be_streamed_is_refused(engines):
    source = ArraySource(pixels(16, 16))
    with pytest.raises(ConfigError, match="looks at whole pictures"):
        restore_stream(toy_engine(), source, Rows(), Request(), Runtime())
    with pytest.raises(ConfigError, match="none or wavelet, got lab"):
        restore_stream(engines["built-in"], source, Rows(), Request(color_fix=ColorFix.lab), Runtime())
    with pytest.raises(ShapeError, match="takes 3 channels, the picture has 4"):
        restore_stream(engines["built-in"], ArraySource(pixels(16, 16, 4)), Rows(), Request(), Runtime())


MEMORY = """
import resource, sys
import torch
from hypir_core import Request, Runtime, load_engine
from hypir_core.allocator import give_back_freed_memory
from hypir_core.streaming import restore_stream

class Ramp:
    sizes_px, channels, white = (1500, 2500), 3, 255.0
    def read(self, box):
        rows = torch.arange(box.starts[0], box.ends[0])[:, None] % 256 / 255.0
        return rows.expand(1, 3, *box.sizes).clone()

class Nowhere:
    rows = 0
    def write(self, start, rows): self.rows += rows.shape[2]

engine = load_engine("upscaler", {"weights": sys.argv[1]}, device=torch.device("cpu"), dtype="float32")
restore_stream(engine, type("Small", (Ramp,), {"sizes_px": (300, 300)})(), Nowhere(), Request(), Runtime())
give_back_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sink = Nowhere()
restore_stream(engine, Ramp(), sink, Request(), Runtime())
print(sink.rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_long_result_takes_no_more_memory_than_a_strip(tmp_path):
    """6000×10000 px in float32 are 687 MiB; a strip of a tile row and the band are 160. The network is a small one."""
    weights = write_weights(tmp_path / "small.safetensors", 3, scale=4)
    done = subprocess.run([sys.executable, "-c", MEMORY, weights], capture_output=True, text=True, check=True)
    rows, mib = map(int, done.stdout.split())
    assert rows == 6000
    assert mib < 600
