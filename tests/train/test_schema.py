"""JSON schemas: what is printed describes the settings that are read, and refuses what they refuse."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from hypir_core.cli import main as hypir
from hypir_core.config import load_yaml
from hypir_core.engines.catalog import ENGINES
from train.__main__ import main as train
from train.config import TrainConfig
from train.config.presets import PRESETS


@pytest.fixture(scope="module")
def schema() -> dict:
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert train(["schema"]) == 0
    return json.loads(said.getvalue())


def at(schema: dict, part: dict) -> list[dict]:
    """Return what a part may be, references followed."""
    if "$ref" in part:
        return at(schema, schema["$defs"][part["$ref"].rpartition("/")[2]])
    return [each for one in part["anyOf"] for each in at(schema, one)] if "anyOf" in part else [part]


def unknown(schema: dict, part: dict, data: object, place: str = "") -> list[str]:
    """Return the keys of settings that no object of the schema has."""
    if not isinstance(data, dict):
        return []
    objects = [each for each in at(schema, part) if each.get("type") == "object"]
    if not objects:
        return [place]
    found: list[list[str]] = []
    for each in objects:
        rest = each.get("additionalProperties", True)
        problems = []
        for key, value in data.items():
            below = each.get("properties", {}).get(key, rest)
            if below is False:
                problems.append(f"{place}.{key}")
            elif isinstance(below, dict):
                problems += unknown(schema, below, value, f"{place}.{key}")
        found.append(problems)
    return min(found, key=len)


def test_every_preset_fits_and_a_letter_too_many_does_not(schema):
    presets = sorted(PRESETS.glob("*.yaml"))
    assert len(presets) > 10
    for path in presets:
        assert unknown(schema, schema, load_yaml(path)) == [], path
    small = load_yaml(PRESETS / "pixel_small_cpu.yaml")
    small["data"]["physics"]["photon"] = [1, 2]
    assert unknown(schema, schema, small) == [".data.physics.photon"]


def test_every_setting_says_what_it_means(schema):
    assert {field.name for field in fields(TrainConfig)} < set(schema["properties"])
    physics = schema["$defs"]["PhysicsConfig"]["properties"]["read_noise_e"]
    assert physics["description"].startswith("σ: deviation of the camera's reading")
    assert physics["default"] == 0.0
    assert schema["$defs"]["Prediction"]["enum"] == ["eps", "v", "x0", "difference"]


@pytest.mark.parametrize("name", [*ENGINES.names(), "request"])
def test_the_settings_of_engines_are_there(name, capsys):
    assert hypir(["schema", name]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["additionalProperties"] is False
    if name != "request":
        own = {field.name for field in fields(ENGINES.get(name).options)}
        assert set(found["properties"]) == own
    if name == "pixel":
        assert found["required"] == ["weights"]
        assert found["properties"]["samples"]["default"] == 1
        assert "Electrons per pixel" in found["properties"]["background_e"]["description"]


def test_no_such_schema(capsys):
    assert hypir(["schema", "pixl"]) == 2
    assert "did you mean 'pixel'" in capsys.readouterr().err
