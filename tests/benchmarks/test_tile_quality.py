"""The tile quality script looks where the tiles really end."""

from __future__ import annotations

import pytest
import torch

from benchmarks.tile_quality import GOLDEN, one_step, tile_edges
from hypir_core import Request, TargetSize


@pytest.mark.parametrize(
    ("reference_mode", "edges"),
    [(False, [496, 528]), (True, [256, 512, 768])],
    ids=["default", "the original's"],
)
def test_edges_are_where_tiles_begin_and_end(reference_mode, edges):
    engine = one_step(GOLDEN / "model", GOLDEN / "lora.pth", reference_mode=reference_mode)
    request = Request(target=TargetSize(scale=4))
    rows, columns, plan = tile_edges(engine, torch.rand(1, 3, 256, 256), request)
    assert rows == columns == edges
    assert plan.startswith(f"{'3×3' if reference_mode else '2×2'} tiles")
