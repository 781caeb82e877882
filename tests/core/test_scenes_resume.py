"""A killed run goes on where it was, and what comes out is the same file; strips in a file are strips in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core import Request, Runtime, TileWish
from hypir_core.errors import Cancelled
from hypir_core.tiling.canvas import StripCanvas
from hypir_core.tiling.geometry import Box
from tests.core.scene_samples import Enlarge, engine, ramp, restored

tifffile = pytest.importorskip("tifffile", reason="needs the extra scenes (tifffile)")

TILES = Request(tile=TileWish(tile_px=32, overlap_px=8))
ONE = Runtime(batch_tiles=1)

HERE = """
import sys, types
sys.path.insert(0, {root!r})
tests = types.ModuleType("tests")  # other packages bring a folder of that name
tests.__path__ = [{root!r} + "/tests"]
sys.modules["tests"] = tests
"""

CHILD = (
    HERE
    + """
from pathlib import Path
from tests.core.test_scenes_resume import Slow, ONE, TILES, engine, restored
restored(engine({scale}, {channels}, net=Slow({scale}, {kill_at})), Path({source!r}), Path({out!r}), TILES,
         key="k" * 32, runtime=ONE)
"""
)


class Slow(Enlarge):
    """Kills its own process at one of its calls, as a power cut would."""

    def __init__(self, scale, kill_at):
        super().__init__(scale)
        self.kill_at, self.calls = kill_at, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("scale", "shape", "axes"), [((2, 2), (3, 120, 60), "CYX"), ((2, 2, 2), (80, 20, 20), "ZYX")]
)
def test_a_killed_run_goes_on_and_its_file_is_the_same(tmp_path, scale, shape, axes, request):
    source, channels = tmp_path / "in.tif", shape[0] if axes == "CYX" else 1
    tifffile.imwrite(source, ramp(*shape), imagej=True, metadata={"axes": axes})
    out, whole = tmp_path / "out.h5", tmp_path / "whole.h5"
    counted = Slow(scale, 0)
    restored(engine(scale, channels, net=counted), source, whole, TILES, runtime=ONE)
    code = CHILD.format(
        root=str(request.config.rootpath),
        scale=scale,
        channels=channels,
        kill_at=counted.calls * 5 // 6,
        source=str(source),
        out=str(out),
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(tmp_path.glob(".out.h5*"))) == 2
    again = Slow(scale, 0)
    restored(engine(scale, channels, net=again), source, out, TILES, key="k" * 32, runtime=ONE)
    assert again.calls <= counted.calls / 2
    assert not list(tmp_path.glob(".*"))
    h5py = pytest.importorskip("h5py")
    with h5py.File(out) as a, h5py.File(whole) as b:
        assert (a["data"][:] == b["data"][:]).all()


def test_strips_of_another_key_are_swept(tmp_path):
    source = tmp_path / "in.tif"
    tifffile.imwrite(source, ramp(3, 40, 40), imagej=True, metadata={"axes": "CYX"})
    for name in (".out.ome.tif.aaaa.strips", ".out.ome.tif.aaaa.journal"):
        (tmp_path / name).write_text('{"key": "aaaa", "rows": 40, "facts": {}}')
    restored(engine((2, 2), 3), source, tmp_path / "out.ome.tif", TILES, key="b" * 32)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "out.ome.tif"]


def test_a_stopped_run_leaves_nothing(tmp_path):
    source = tmp_path / "in.tif"
    tifffile.imwrite(source, ramp(3, 90, 40), imagej=True, metadata={"axes": "CYX"})
    answers = iter([False] * 9 + [True] * 99)
    stopping = Runtime(batch_tiles=1, should_stop=lambda: next(answers))
    with pytest.raises(Cancelled):
        restored(engine((2, 2), 3), source, tmp_path / "out.zarr", TILES, key="k" * 32, runtime=stopping)
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


@settings(max_examples=20, deadline=None)
@given(
    rest=st.lists(st.integers(1, 6), min_size=1, max_size=2),
    channels=st.integers(1, 3),
    heights=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    known=st.integers(0, 6),
)
def test_a_strip_in_a_file_is_a_strip_in_memory(rest, channels, heights, known):
    """Tiles of any height that overlap by half, with the first rows known already."""
    starts = [sum(heights[:i]) for i in range(len(heights))]
    length = sum(heights) + heights[-1]
    known = min(known, length)
    shape = (1, channels, length, *rest)
    ends = [min(length, start + 2 * h) for start, h in zip(starts, heights, strict=True)]
    rows = max(end - start for start, end in zip(starts, ends, strict=True))
    found = []
    for budget, first in ((None, 0), (1, 0), (1, known), (None, known)):
        got = torch.full(shape, torch.nan)
        rng = torch.Generator().manual_seed(7)

        def emit(at, part, got=got):
            got[:, :, at : at + part.shape[2]] = part

        canvas = StripCanvas(emit, shape, (1,) * (1 + len(rest)), rows, first_row=first, budget_bytes=budget)
        for start, end in zip(starts, ends, strict=True):
            tile = torch.rand(1, channels, end - start, *rest, generator=rng)
            canvas.add(Box((start, *[0] * len(rest)), (end - start, *rest)), tile)
        canvas.finish()
        assert got[:, :, :first].isnan().all()
        found.append(got)
    whole = found[0]
    assert torch.equal(found[1], whole)
    assert all(torch.equal(part[:, :, known:], whole[:, :, known:]) for part in found[2:])


MEMORY = (
    HERE
    + """
import resource, tempfile
from pathlib import Path
import numpy as np, rasterio
from tests.core.scene_samples import engine, restored
with tempfile.TemporaryDirectory(dir={folder!r}) as folder:
    source, out = Path(folder) / "in.tif", Path(folder) / "out.tif"
    profile = dict(driver="GTiff", width={side}, height={side}, count=4, dtype="uint16", nodata=0, tiled=True)
    with rasterio.open(source, "w", **profile) as file:
        for top in range(0, {side}, 512):
            rows = np.full((4, 512, {side}), 1000 + top, "uint16")
            file.write(rows, window=rasterio.windows.Window(0, top, {side}, 512))
    made = engine((2, 2), 4)
    restored(made, source, out)
    assert out.stat().st_size > 1000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_scene(tmp_path, request):
    """A result of 4096² × 4 is 128 MiB as uint16 and 256 MiB as float32."""
    pytest.importorskip("rasterio", reason="needs the extra scenes (rasterio)")
    pytest.importorskip("resource", reason="needs a system that tells memory")
    peaks = []
    for side in (512, 2048):
        code = MEMORY.format(root=str(request.config.rootpath), side=side, folder=str(tmp_path))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 100, peaks
