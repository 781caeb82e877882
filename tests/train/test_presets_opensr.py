"""Presets for rasters, volumes and grey pictures: each says what its parts have, and a smaller one takes steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hypir_core.files.writing import write_picture
from hypir_core.weights.spec import GeneratorSpec, spec_from_metadata
from hypir_core.weights.tensors import read_tensors
from train.config import load_config
from train.options import check_options
from train.run.recipe import train

SMALL = [
    "precision=fp32",
    "cpu=true",
    "max_steps=2",
    "data.workers=0",
    "data.batch_size=2",
    "tracking.tensorboard=false",
]

PRESETS = {
    "opensr_10m": [
        "losses.vgg19=null", "generator.options={channels: 8, blocks: 1, growth: 4}", "data.crop_px=64",
        "discriminators.judge.options={features: 4, hidden: 8}", "discriminators.judge.ramp.start=0",
    ],
    "opensr_20m": [
        "losses.vgg19=null", "generator.options={channels: 8, blocks: 1}", "data.crop_px=64",
        "discriminators.judge.options={features: 4, hidden: 8}", "discriminators.judge.ramp.start=0",
    ],
    "volume_x2": [
        "generator.options={channels: 4, blocks: 1}", "data.crop_px=[12, 24, 24]",
        "discriminators.patches.options={features: 4}", "discriminators.patches.ramp.start=0",
    ],
    "gray_x4": [
        "generator.options={channels: 4, blocks: 1}", "data.crop_px=64",
        "discriminators.patches.options={features: 4}", "discriminators.patches.ramp.start=0",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a folder of made-up data for each preset."""
    rng = np.random.default_rng(0)
    found = {name: tmp_path_factory.mktemp(name) for name in PRESETS}
    np.save(found["volume_x2"] / "a.npy", rng.normal(0, 30, (16, 32, 32)).cumsum(2).astype(np.float32))
    for name in "ab":
        write_picture(found["gray_x4"] / f"{name}.png", torch.rand(1, 80, 80))
    rasterio = pytest.importorskip("rasterio", reason="needs the extra scenes")
    for preset, bands in (("opensr_10m", "B02 B03 B04 B08"), ("opensr_20m", "B05 B06 B07 B8A B11 B12")):
        names = bands.split()
        values = (2000 + rng.normal(0, 30, (len(names), 72, 72)).cumsum(2)).clip(1, 9000).astype(np.uint16)
        place = rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)
        profile = {
            "transform": place,
            "driver": "GTiff",
            "count": len(names),
            "height": 72,
            "width": 72,
            "dtype": "uint16",
        }
        with rasterio.open(found[preset] / "a.tif", "w", **profile) as file:
            file.write(values)
            for number, name in enumerate(names, 1):
                file.set_band_description(number, name)
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_the_preset_as_shipped_says_only_what_its_parts_have(name):
    check_options(load_config(name, ["data.root=x", "output_dir=y", "max_steps=1"]))


@pytest.mark.parametrize("name", PRESETS)
def test_a_smaller_one_takes_steps(name, folders, tmp_path):
    words = [f"data.root={folders[name]}", f"output_dir={tmp_path / 'run'}", *SMALL, *PRESETS[name]]
    folder = train(load_config(name, words))
    spec = spec_from_metadata(read_tensors(folder / "generator.safetensors").metadata, folder)
    assert isinstance(spec, GeneratorSpec)
    assert spec.name == name
    expected = {
        "opensr_10m": ("B04", "B03", "B02", "B08"),
        "opensr_20m": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    }
    assert spec.bands == expected.get(name, ())
