"""The command for a GPU runs where there is none, on a tiny model, and holds numbers against their marks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_check import MARKS, verdicts

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_runs_a_part_and_writes_what_it_found(tmp_path):
    out = tmp_path / "gpu.json"
    words = ["-m", "benchmarks.gpu_check", "--tiny", "--device", "cpu", "--only", "memory"]
    done = subprocess.run(
        [sys.executable, *words, "--json", out], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [row["side_px"] for row in found["parts"]["memory"]] == [256, 512]
    assert all(row["seconds"] > 0 for row in found["parts"]["memory"])
    assert found["failed"] == {}


def test_marks_are_held_against_the_worst_of_each_format():
    parts = {
        "parity": [
            {"case": "a", "dtype": "float32", "max": 1e-5, "psnr_db": 90.0},
            {"case": "b", "dtype": "float32", "max": 1.0, "psnr_db": 3.0},
            {"case": "a", "dtype": "float16", "max": 1e-2, "psnr_db": 50.0},
        ],
        "speed": [{"side_px": 2048, "times": 5.9, "share": 0.5}, {"side_px": 128, "share": 0.1}],
        "memory": [{"side_px": 1024, "peak_mib": 100}, {"side_px": 2048, "peak_mib": None}],
    }
    reached = {what: yes for what, _, _, yes in verdicts(parts)}
    assert reached == {
        "parity float32, largest difference": False,
        "parity float16, PSNR dB": True,
        "2048²: × the original": False,
        "2048²: share of matrix rate": True,
        "128²: share of matrix rate": False,
        "1024²: MiB above the weights": True,
    }
    assert set(MARKS["times the original"]) == {1024, 2048, 4096}
