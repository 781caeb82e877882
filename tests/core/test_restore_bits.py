"""``--bits``: the number format of a result where it is not the input's."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest
import torch
import typer

from hypir_core.batch.naming import Job
from hypir_core.batch.restoring import Writing, restore_file
from hypir_core.engines.catalog import load_engine
from hypir_core.engines.feed_forward.load import load_upscaler
from hypir_core.engines.feed_forward.options import UpscalerOptions
from hypir_core.errors import ConfigError
from hypir_core.files.reading import read_picture
from hypir_core.image.size import TargetSize
from hypir_core.request import Request
from hypir_core.runtime import Runtime
from tests.core.scene_samples import ramp, restored, write_weights

rasterio = pytest.importorskip("rasterio", reason="scenes need rasterio")


def test_a_scene_of_whole_numbers_is_written_as_floats_without_rounding(tmp_path):
    weights = write_weights(tmp_path / "w.safetensors", 4, white=10000)
    made = load_upscaler(UpscalerOptions(weights=weights), torch.device("cpu"), "float32")
    values, path = ramp(4, 20, 24), tmp_path / "in.tif"
    values[:, 3, 5] = 0
    profile = {"driver": "GTiff", "height": 20, "width": 24, "count": 4, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as file:
        file.write(values)
    restored(made, path, tmp_path / "whole.tif")
    restored(made, path, tmp_path / "float.tif", bits=32)
    with rasterio.open(tmp_path / "whole.tif") as whole, rasterio.open(tmp_path / "float.tif") as exact:
        assert exact.dtypes == ("float32",) * 4
        assert exact.nodata == 0
        found, rounded = exact.read(), whole.read()
        held = (found >= 1) & (found <= 65535)
        assert np.array_equal(np.floor(found[held] + 0.5), rounded[held])
        assert (found % 1 != 0).any()
        assert np.array_equal(exact.dataset_mask(), whole.dataset_mask())
    with pytest.raises(ConfigError, match="keeps its number format, or has 32 bits"):
        restored(made, path, tmp_path / "x.tif", bits=16)


@pytest.mark.parametrize(("bits", "dtype"), [(16, np.uint16), (None, np.uint8)])
def test_a_picture_has_the_bits_that_are_asked_for(tmp_path, bits, dtype):
    from PIL import Image

    Image.effect_noise((20, 16), 30).convert("RGB").save(tmp_path / "in.png")
    small = load_engine("built-in", device=torch.device("cpu"))
    job, request = Job(tmp_path / "in.png", tmp_path / "out.png"), Request(target=TargetSize(scale=1))
    restore_file(small, job, request, Runtime(), writing=Writing(bits=bits))
    assert read_picture(tmp_path / "out.png").color_hwc.dtype == dtype


def test_the_flag_of_a_result_is_not_that_of_a_camera(tmp_path):
    """`--bits` once meant the depth of a camera to every engine, and no picture could be asked for 16 bits."""
    from PIL import Image

    from hypir_core.cli import main

    Image.effect_noise((20, 16), 30).convert("RGB").save(tmp_path / "in.png")
    words = ["restore", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--bits", "16"]
    assert main(words) == 0
    assert read_picture(tmp_path / "out.png").color_hwc.dtype == np.uint16


def test_an_engine_cannot_take_a_flag_of_a_command():
    from hypir_core.cli.engine_options import with_engine_options

    def command(
        depth: Annotated[int | None, typer.Option("--camera-bits")] = None, *, engine_flags: dict
    ) -> None: ...

    with pytest.raises(AssertionError, match="command and an engine both have --camera-bits"):
        with_engine_options(command)
