"""The benchmark of the tiled nodes beside ComfyUI's own runs from end to end, on a thin VAE."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.comfyui.server import ROOT

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

SIDE_PX = 896
"""The plugin needs two tiles for it: a tile may grow to 864 px."""


def test_both_nodes_are_timed_and_their_seams_measured(comfyui_here):
    script = ROOT / "benchmarks" / "comfyui_tiles.py"
    done = subprocess.run(
        [comfyui_here.python, str(script), str(comfyui_here.folder), str(SIDE_PX), "32"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    facts = json.loads(done.stdout)
    assert facts["side_px"] == SIDE_PX
    assert "2×2 tiles" in facts["tiles_ours"]
    for step in ("encode", "decode"):
        for whose in ("ours", "core"):
            found = facts["results"][f"{step}, {whose}"]
            assert found["wall_s"] >= 0
            assert 0.5 < found["seam"] < 2, found
