"""Presets of networks of pixels: the sizes they promise, and no key that nobody reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hypir_core.config import PRESETS, load_yaml, preset_names
from hypir_core.diffusion.samplers import SAMPLERS
from hypir_core.engines.pixel.network import build_network
from hypir_core.engines.pixel.preset import FOLDER, pixel_preset
from hypir_core.errors import ConfigError, HypirError, UnknownNameError

PARAMETERS = {"microscopy_2p": 62, "fast_inference": 16, "high_quality": 221, "microscopy_small": 3.5}
"""In millions."""

NAMES = preset_names(FOLDER)


def test_there_are_four():
    assert set(NAMES) == PARAMETERS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_network_of_its_size(name):
    found = pixel_preset(name)
    with torch.device("meta"):
        net = build_network(found.spec(name=name), where=name)
    millions = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert millions == pytest.approx(PARAMETERS[name], rel=0.02)
    assert found.options(Path("w")).solver in SAMPLERS


def leaves(data: dict, above: tuple[str, ...] = ()):
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key)


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_read(name):
    """A letter more in any key of the file is an error that names it."""
    data = load_yaml(PRESETS / FOLDER / f"{name}.yaml")
    for path in leaves(data):
        if path[:2] == ("training", "losses"):
            continue  # names of losses are training's
        wrong: dict = {f"{path[-1]}x": 1}
        for part in reversed(path[:-1]):
            wrong = {part: wrong}
        with pytest.raises(HypirError, match=f"{path[-1]}x"):
            pixel_preset(name, wrong)


def test_values_are_read_too():
    """What a preset says of the schedule reaches it: the ceiling of β is there, not at its default."""
    from hypir_core.engines.pixel.network import build_schedule

    highest = [
        float(build_schedule(pixel_preset(name).spec(name=name), where=name).get_betas().max())
        for name in ("microscopy_2p", "fast_inference")
    ]
    assert highest == pytest.approx([0.999, 0.9999])
    smaller = pixel_preset("fast_inference", {"schedule_options": {"max_beta": 0.5}})
    assert float(build_schedule(smaller.spec(name="x"), where="x").get_betas().max()) == 0.5


def test_overrides_are_laid_over_the_file():
    found = pixel_preset("microscopy_2p", {"training": {"image_size": 512}, "sampling": {"steps": 7}})
    assert (found.training.image_size, found.training.batch) == (512, 8)
    assert (found.options(Path("w")).steps, found.options(Path("w")).step_times.value) == (7, "strided")
    assert found.spec(name="x").options["attention"] == (
        3,
    )  # where attention stands is not the size's business


def test_a_wrong_preset_says_what_is_wrong():
    with pytest.raises(UnknownNameError, match="did you mean 'microscopy_2p'"):
        pixel_preset("microscopy_2")
    with pytest.raises(ConfigError, match="learning_rate must be above 0"):
        pixel_preset("microscopy_small", {"training": {"learning_rate": 0.0}})
