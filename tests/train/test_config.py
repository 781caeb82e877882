from __future__ import annotations

from pathlib import Path

import pytest

from hypir_core.errors import ConfigError
from train.config import PRESETS, load_config

NEEDED = ["data.root=photos", "output_dir=out", "max_steps=10"]


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_builds_and_starts_with_its_command(path: Path):
    config = load_config(str(path), NEEDED)
    assert config.max_steps == 10
    assert path.read_text(encoding="utf-8").startswith(f"# python -m train train/presets/{path.name} ")


def test_typos_are_listed_all_at_once_with_the_nearest_key():
    with pytest.raises(ConfigError) as caught:
        load_config(
            "tiny_cpu_pixel", [*NEEDED, "seeed=1", "data.crop_pixels=3", "generator.optimiser.lr=fast"]
        )
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "'seeed' (did you mean 'seed'?)" in text
    assert "data.crop_pixels" in text
    assert "generator.optimiser.lr" in text


def test_a_preset_alone_says_what_is_missing():
    with pytest.raises(ConfigError) as caught:
        load_config("compact_pixel", [])
    assert {"output_dir", "max_steps", "data.root"} <= set(" ".join(caught.value.problems).split())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("data.pool.reuse=3", "batch_size must divide by pool.reuse"),
        ("data.shrink=[0.5, 1.5]", "shrink must be"),
        ("data.degrade=[]", "at least one recipe"),
        ("losses.l1.ramp.start=-2", "start must be 0 or more"),
        ("generator.ema.decay=1", "decay must lie"),
    ],
)
def test_bad_values_are_explained(item, message):
    with pytest.raises(ConfigError, match=message):
        load_config("tiny_cpu_pixel", [*NEEDED, item])
