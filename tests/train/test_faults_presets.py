"""What a person types: names of presets, removed parts, paths from anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hypir_core.errors import ConfigError, UnknownNameError
from train.__main__ import main
from train.config import PRESETS, load_config

NEEDED = ["data.root=photos", "output_dir=out", "max_steps=10"]


@pytest.mark.parametrize("given", ["hypir_sd", "presets/hypir_sd.yaml", "hypir_sd.yaml"])
def test_an_unknown_preset_gets_the_nearest_name_and_the_list(given, capsys):
    with pytest.raises((UnknownNameError, ConfigError)) as caught:
        load_config(given, NEEDED)
    said = str(caught.value)
    assert "did you mean 'hypir_sd2'?" in said
    assert all(path.stem in said for path in PRESETS.glob("*.yaml"))
    assert main([given, *NEEDED]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_folder_that_is_called_like_a_preset_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "compact_pixel").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("compact_pixel", NEEDED).generator.name == "compact"


def test_null_removes_one_part_of_a_preset():
    assert load_config("compact_gan", [*NEEDED, "discriminators.unet=null"]).discriminators == {}
    config = load_config("compact_gan", [*NEEDED, "losses.fourier=null"])
    assert set(config.losses) == {"charbonnier", "gradient", "checkerboard"}


def test_an_empty_mapping_replaces_what_was_there():
    assert load_config("compact_gan", [*NEEDED, "discriminators={}"]).discriminators == {}
    config = load_config("compact_gan", [*NEEDED, "losses={}", "losses.l1.weight=2"])
    assert {name: loss.weight for name, loss in config.losses.items()} == {"l1": 2.0}
    assert load_config("compact_gan", [*NEEDED, "data.pool={}"]).data.pool.size == 0
    with pytest.raises(ConfigError, match="losses must have a weight above 0"):
        load_config("compact_gan", [*NEEDED, "losses={}"])


def test_words_hold_in_their_order():
    mine = "discriminators.mine={name: patch}"
    assert set(load_config("compact_gan", [*NEEDED, mine]).discriminators) == {"unet", "mine"}
    assert set(load_config("compact_gan", [*NEEDED, "discriminators={}", mine]).discriminators) == {"mine"}
    assert load_config("compact_gan", [*NEEDED, mine, "discriminators={}"]).discriminators == {}
    assert set(load_config("compact_gan", [*NEEDED, mine, "discriminators.mine=null"]).discriminators) == {
        "unet"
    }


def test_null_of_what_is_not_there_is_a_typo():
    with pytest.raises(ConfigError, match=r"no discriminators\.unit to remove \(did you mean 'unet'\?\)"):
        load_config("compact_gan", [*NEEDED, "discriminators.unit=null"])


def test_null_elsewhere_still_means_none():
    config = load_config("compact_gan", [*NEEDED, "generator.ema=null", "base_model=null"])
    assert (config.generator.ema, config.base_model) == (None, None)
    clip = load_config("tiny_cpu", [*NEEDED, "discriminators.clip.options.pretrained=null"])
    assert clip.discriminators["clip"].options["pretrained"] is None


def test_the_paths_of_a_shipped_preset_hold_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("compact_gan", NEEDED)
    assert config.base_model is not None
    assert Path(config.base_model).is_file()


def test_paths_of_a_preset_start_from_its_folder_and_those_typed_from_the_present_one(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    (folder / "photos").mkdir(parents=True)
    for name in ("own.yaml", "judge.safetensors"):
        (folder / name).touch()
    preset = {
        "generator": {"name": "compact"},
        "losses": {"l1": {}},
        "discriminators": {"d": {"name": "patch", "weights": "judge.safetensors"}},
        "data": {"root": "photos", "degrade": [{"recipe": "own.yaml"}, {"recipe": "light"}]},
        "validation": {"root": "photos", "recipes": ["own.yaml", "light"]},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(preset))
    monkeypatch.chdir(tmp_path)
    config = load_config("recipes/mine.yaml", ["output_dir=out", "max_steps=1"])
    assert config.data.root == folder / "photos"
    assert config.discriminators["d"].weights == folder / "judge.safetensors"
    assert [share.recipe for share in config.data.degrade] == [str(folder / "own.yaml"), "light"]
    assert config.validation is not None
    assert config.validation.recipes == (str(folder / "own.yaml"), "light")
    assert config.output_dir == Path("out")
    typed = load_config("recipes/mine.yaml", ["output_dir=out", "max_steps=1", "data.root=photos"])
    assert typed.data.root == Path("photos")
