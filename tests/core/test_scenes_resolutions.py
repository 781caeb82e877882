"""Rasters of two resolutions in one run: refused before the work, or where they are read if not all are looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hypir_core.batch.carrying import LocalDisk
from hypir_core.batch.ferry import LOOKS_ELSEWHERE
from hypir_core.batch.store import Store
from hypir_core.cli import main
from tests.core.scene_samples import ramp, write_weights

rasterio = pytest.importorskip("rasterio", reason="needs the extra scenes (rasterio)")
pytest.importorskip("fsspec", reason="needs the extra cloud")

ODD = "01.tif: expected rasters of one resolution, got cells of 10 m (00.tif …) and of 60 m; restore these by a command"


def write_rasters(folder: Path, *cells: float) -> Path:
    """Write rasters of four bands, 00.tif and so on, with cells of these lengths in metres."""
    folder.mkdir()
    for number, cell in enumerate(cells):
        place = rasterio.Affine(cell, 0, 5e5, 0, -cell, 4e6)
        profile = {"driver": "GTiff", "width": 16, "height": 12, "count": 4, "dtype": "int16"}
        with rasterio.open(
            folder / f"{number:02}.tif", "w", crs="EPSG:32632", transform=place, **profile
        ) as file:
            file.write(ramp(4, 12, 16, dtype=np.int16))
    return folder


def words_for(tmp_path: Path, source: object, out: object) -> list[str]:
    weights = write_weights(tmp_path / "w.safetensors", 4, white=10000)
    words = ["restore", source, "-o", out, "--engine", "upscaler", "--weights", weights, "--device", "cpu"]
    return [str(word) for word in words]


def results(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.tif"))


def test_a_few_in_a_bucket_are_refused_before_the_work(tmp_path, capsys):
    source = write_rasters(tmp_path / "in", 10, 20, 10)
    assert main(words_for(tmp_path, f"file://{source}", f"file://{tmp_path}/out")) == 2
    said = capsys.readouterr().err
    assert f"got cells of 10 m (00.tif …) and of 20 m (file://{source}/01.tif); restore these by" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("behind", ["", "file://"])
def test_of_many_the_odd_one_fails_when_it_is_read(tmp_path, capsys, monkeypatch, behind):
    """In every run anew: what is held against it does not depend on what is left to do."""
    fetched = []
    real = Store.fetch
    monkeypatch.setattr(Store, "fetch", lambda self, a, b: fetched.append(a) or real(self, a, b))
    monkeypatch.setattr(LocalDisk, "looks", LOOKS_ELSEWHERE)
    source, out = write_rasters(tmp_path / "in", 10, 60, *[10] * 5, 10.5, 10), tmp_path / "out"
    words = words_for(tmp_path, f"{behind}{source}", f"{behind}{out}")
    others = [f"{number:02}.tif" for number in range(9) if number != 1]
    for _ in range(2):
        assert main(words) == 1
        assert ODD in capsys.readouterr().err
        assert results(out) == others
    rasters = sorted(name for name in fetched if name.endswith(".tif"))
    assert len(rasters) == (9 + 3 + 3 + 1 if behind else 0)  # each once, and those that were looked at
