"""Pictures get the channels of the generator, of any number, or are left out or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from hypir_core.errors import ImageFileError
from tests.train.pair_streams import SCALE, data, levels, stream
from train.__main__ import main
from train.config import Crop
from train.data.channels import read_channels
from train.data.opening import open_source
from train.data.source import Channels


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("ending", [".npy", ".tif"])
def test_batches_have_the_channels_of_the_generator(tmp_path, channels, ending):
    pixels = levels(0, channels=channels)
    for index in range(2):
        if ending == ".tif":
            # planar, as raster files are
            photometric = "rgb" if channels == 3 else "minisblack"
            tifffile.imwrite(
                tmp_path / f"{index}.tif",
                pixels.transpose(2, 0, 1) if channels > 1 else pixels[..., 0],
                photometric=photometric,
                planarconfig="separate" if channels > 1 else None,
            )
        else:
            np.save(tmp_path / f"{index}.npy", (pixels / 65535).astype(np.float32))
    config = data(tmp_path, crop=Crop.center)
    batch = next(stream(config, channels=Channels(hq=channels, lq=channels)))
    assert batch.hq.shape == (4, channels, 16, 16)
    assert batch.lq.shape == (4, channels, 8, 8)
    middle = torch.from_numpy(pixels[12:28, 16:32].astype(np.float32) / 65535).permute(2, 0, 1)
    torch.testing.assert_close(batch.hq[0], middle, atol=1e-6, rtol=0)


def test_another_number_of_bands_is_left_out_with_both_sides_named(tmp_path):
    np.save(tmp_path / "four.npy", np.zeros((40, 48, 4), np.float32))
    np.save(tmp_path / "five.npy", np.zeros((40, 48, 5), np.float32))
    Image.new("RGB", (48, 40)).save(tmp_path / "colour.png")
    source = open_source(data(tmp_path), scale=SCALE, channels=Channels(hq=4, lq=4))
    assert [source.name(n) for n in range(len(source))] == ["four.npy"]
    assert set(source.skipped) == {
        "colour.png: holds no bands; expected a TIFF or npy file",
        "five.npy: has 5 bands, the generator asks for 4",
    }
    with pytest.raises(ImageFileError, match=r"five\.npy: has 5 bands, the generator asks for 4"):
        read_channels(tmp_path / "five.npy", 4)


def test_colour_becomes_grey_by_luma_and_grey_becomes_colour(tmp_path):
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / "colour.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    assert int(read_channels(tmp_path / "colour.png", 1)[0, 0, 0]) == round(
        0.299 * 200 + 0.587 * 100 + 0.114 * 50
    )
    assert read_channels(tmp_path / "grey.png", 1).unique().tolist() == [77]
    assert read_channels(tmp_path / "grey.png", 3).shape == (3, 8, 8)


BANDS = [
    "generator.options={in_channels: 4, out_channels: 4, features: 4, blocks: 1, scale: 2}", "data.crop_px=32",
    "data.degrade=[{recipe: bicubic}]", "max_steps=2", "tracking.images_every=1",
]  # fmt: skip


def band_run(tmp_path: Path, *more: str) -> list[str]:
    root = tmp_path / "bands"
    root.mkdir(exist_ok=True)
    for index in range(3):
        pixels = levels(index, height=70, width=72, channels=4)
        np.save(root / f"{index}.npy", (pixels / 65535).astype(np.float32))
    return ["tiny_cpu_pixel", f"data.root={root}", f"output_dir={tmp_path / 'run'}", *BANDS, *more]


@pytest.mark.tiny
def test_four_bands_train_with_discriminators_lpips_and_validation(tmp_path):
    lpips = "{net: alex, pretrained: false, channels: [2, 1, 0]}"
    command = band_run(
        tmp_path,
        "data.crop_px=64",
        f"losses.lpips={{weight: 0.1, options: {lpips}}}",
        "discriminators={p: {name: patch, options: {features: 4, layers: 2}}, "
        "u: {name: unet, options: {features: 4, depth: 1}}}",
        f"validation={{root: {tmp_path / 'bands'}, count: 1, every: 2, recipes: [bicubic], lpips: {lpips}}}",
    )
    assert main(command) == 0
    assert (tmp_path / "run" / "generator.safetensors").is_file()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("losses.lpips={options: {net: alex, pretrained: false}}", "losses.lpips.options.channels: what sees three"),
        ("losses.lpips={options: {net: alex, channels: [0, 1, 4]}}", "expected three numbers from 0 to 3, got [0, 1"),
        ("discriminators={c: {name: clip_convnext}}", "discriminators.c.options.channels: what sees three colours"),
        ("discriminators={p: {name: patch, options: {in_channels: 3}}}", "is 3, and the generator makes 4 channels"),
        ("data.degrade=[{recipe: realesrgan}]", "the recipe realesrgan is made for grey and colour"),
        ("generator.options.out_channels=3", "4 channels cannot become 3"),
        ("generator={name: rrdb, options: {in_channels: 4, out_channels: 3}}", "takes 4 channels and makes 3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_channels_is_refused_at_the_start(tmp_path, capsys, setting, message):
    assert main(band_run(tmp_path, setting)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
