"""A scene against opensr-utils 2.1.0 (`tests/golden/opensr/scene.md`)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from hypir_core import Request, TileWish
from hypir_core.image.ranges import RangeConfig, RangeKind
from tests.core.scene_samples import Enlarge, engine, restored

rasterio = pytest.importorskip("rasterio", reason="needs the extra scenes (rasterio)")
pytestmark = pytest.mark.parity


def transposed(weight: np.ndarray) -> nn.Module:
    net = nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1, bias=False)
    net.weight.data = torch.from_numpy(weight)
    return net.requires_grad_(False)


@pytest.mark.parametrize(("case", "factor"), [("conv_x2", 2), ("bilinear_x4", 4)])
def test_the_scene(tmp_path, golden, case, factor):
    numbers = load_file(golden / "opensr" / "scene.safetensors")
    facts = json.loads((golden / "opensr" / "scene.json").read_text())
    values, before, after = numbers["input"].astype(np.uint16), facts["input"], facts[case]
    profile = {
        "width": 70,
        "height": 57,
        "count": 3,
        "dtype": "uint16",
        "nodata": before["nodata"],
        "crs": before["crs"],
    }
    place = rasterio.Affine(*before["transform"])
    with rasterio.open(tmp_path / "in.tif", "w", driver="GTiff", transform=place, **profile) as file:
        file.write(values)
    net = transposed(numbers["conv_x2/weight"]) if case == "conv_x2" else Enlarge((4, 4))
    white = RangeConfig(kind=RangeKind.white, white=10000)
    made = engine((factor, factor), 3, net=net, value_range=white)
    tiles = TileWish(tile_px=32 * factor, overlap_px=8 * factor)
    restored(made, tmp_path / "in.tif", tmp_path / "out.tif", Request(tile=tiles))
    with rasterio.open(tmp_path / "out.tif") as file:
        out, mask = file.read().astype(int), file.dataset_mask()
        assert tuple(file.transform)[:6] == pytest.approx(after["transform"], rel=1e-15)
        assert str(file.crs) == after["crs"]
        assert file.nodata == after["nodata"]
        assert list(file.shape) == after["size"]
        assert file.dtypes[0] == after["dtype"]
        assert [[str(flag.value) for flag in band] for band in file.mask_flag_enums] == after["mask_flags"]
    assert (mask == numbers[f"{case}/mask"]).all()
    assert (out[:, mask == 0] == 0).all()
    assert (out[:, mask > 0] > 0).all()
    if case != "conv_x2":
        return
    hole = np.pad((values == 0).any(0), 1)
    near = np.any([hole[y : y + 57, x : x + 70] for y in range(3) for x in range(3)], 0)
    off = np.abs(np.minimum(out, 10000) - numbers["conv_x2/output"])[:, ~near.repeat(2, 0).repeat(2, 1)]
    assert off.size > 40000
    assert off.max() <= 1
