"""Validation: which pairs count, what is measured on them, and the pictures that are written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from hypir_core.config import build as build_settings
from hypir_core.errors import ConfigError
from tests.train.tiny_runs import tiny
from train.config import ValidationConfig
from train.run.building import build
from train.run.recipe import train
from train.run.validation import fixed_pairs, validate


@pytest.mark.tiny
def test_scale_1_is_validated_on_damaged_pictures(photos, tmp_path):
    same_size = ["generator.options.scale=1", f"validation.root={photos}", "validation.count=2"]
    config = tiny(photos, tmp_path, 1, *same_size)
    run = build(config)
    assert run.pairs is not None
    assert set(run.pairs.by_recipe) == {"realesrgan"}
    assert all(0 < values["psnr_y"] < 60 for values in run.pairs.bicubic.values())
    with pytest.raises(ConfigError, match="bicubic only shrinks"):
        build(tiny(photos, tmp_path, 1, *same_size, "validation.recipes=[bicubic, realesrgan]"))
    doubled = tiny(photos, tmp_path, 1, f"validation.root={photos}", "validation.count=1")
    assert set(build(doubled).pairs.by_recipe) == {"realesrgan", "bicubic"}


@pytest.mark.tiny
def test_pairs_with_nothing_to_restore_do_not_count(photos, tmp_path, caplog):
    """A plain colour and a partner that is a copy have an infinite PSNR from the start."""
    for name in ("hq", "lq"):
        (tmp_path / name).mkdir()
    good = Image.open(photos / "0.png")
    for folder, picture in (("hq", good), ("lq", good.quantize(8).convert("RGB"))):
        picture.save(tmp_path / folder / "a.png")
        Image.new("RGB", good.size, "red").save(tmp_path / folder / "b.png")
    given = [
        "generator.options.scale=1", f"validation.root={tmp_path / 'hq'}",
        f"validation.source.lq_root={tmp_path / 'lq'}",
    ]  # fmt: skip
    run = build(tiny(photos, tmp_path / "run", 1, *given))
    assert [len(pairs) for pairs in run.pairs.by_recipe.values()] == [1]
    assert "1 of 2 pictures are left out for given" in "\n".join(caplog.messages)
    (tmp_path / "hq" / "a.png").unlink()
    with pytest.raises(ConfigError, match="leaves nothing to restore in any of the 1 pictures"):
        build(tiny(photos, tmp_path / "run", 1, *given))


@pytest.mark.tiny
def test_validation_pictures_are_files_from_before_the_first_step_on(photos, tmp_path, monkeypatch):
    validation = [
        f"validation.root={photos}",
        "validation.every=2",
        "validation.count=2",
        "validation.images=1",
    ]
    train(tiny(photos, tmp_path, 3, *validation, "validation.recipes=[light]", "tracking.csv=true"))
    folder = tmp_path / "validation" / "light-0"
    assert {path.name for path in folder.iterdir()} == {
        "low_quality.png", "bicubic.png", "target.png",
        "step-00000000.png", "step-00000002.png", "step-00000003.png",
    }  # fmt: skip
    with Image.open(folder / "target.png") as target, Image.open(folder / "step-00000003.png") as restored:
        assert target.size == restored.size == (80, 64)
        assert target.tobytes() == Image.open(photos / "0.png").convert("RGB").tobytes()
    steps = {
        line.split(",")[0] for line in (tmp_path / "scalars.csv").read_text().splitlines() if "val/" in line
    }
    assert steps == {"0", "2", "3"}


@pytest.mark.tiny
def test_validation_pictures_of_other_channels_are_written_too(tmp_path):
    from train.run.validation import Shown
    from train.run.validation_pictures import write_pictures

    for channels in (1, 2, 4):
        band = torch.rand(channels, 4, 6)
        write_pictures(tmp_path, 3, [Shown(f"own.yaml-{channels}", band, band, band, band)])
        with Image.open(tmp_path / "validation" / f"own-{channels}" / "step-00000003.png") as picture:
            assert (picture.size, picture.mode) == ((6, 4), "RGB")


def test_validation_measures_bands_and_takes_less_for_better(photos):
    config = build_settings(
        ValidationConfig,
        {
            "root": photos,
            "count": 2,
            "recipes": ["bicubic"],
            "metrics": ["sam", "ergas", "consistency"],
            "best": "sam",
        },
    )
    pairs = fixed_pairs(config, scale=2, grain_px=2)
    perfect, dyed = (
        validate(pairs, each)
        for each in (lambda b: b.hq, lambda b: b.hq * torch.tensor([1.0, 0.8, 0.5]).view(1, 3, 1, 1))
    )
    assert perfect.scalars["val/bicubic/sam"] == pytest.approx(0, abs=1e-6)
    assert perfect.scalars["val/bicubic/ergas"] == 0
    assert 0 < perfect.scalars["val/bicubic/consistency"] < 0.02 < dyed.scalars["val/bicubic/consistency"]
    assert dyed.scalars["val/bicubic/sam_gain"] < 0 < perfect.scalars["val/bicubic/ergas_gain"]
    assert perfect.score > dyed.score
    with pytest.raises(ConfigError, match=r"got 'ergas'; name it in metrics as well"):
        ValidationConfig(root=Path(), best="ergas")
