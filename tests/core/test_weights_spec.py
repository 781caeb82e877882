"""The spec that travels in a weight file's metadata."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.errors import ConfigError, SpecMismatchError, SpecMissingError, WeightsError
from hypir_core.weights.spec import (
    METADATA_KEY,
    SCHEMA,
    GeneratorSpec,
    LoraSpec,
    Prediction,
    ValueRange,
    spec_from_metadata,
    spec_to_metadata,
)

GENERATOR = GeneratorSpec(
    name="tiny x4",
    architecture="compact",
    scale=4,
    features=24,
    blocks=8,
    value_range=ValueRange.unit,
    trained_on="public-domain photos",
    trained_with="train 0123abc",
    licence="Apache-2.0",
)


@settings(deadline=None)
@given(
    rank=st.integers(1, 512),
    alpha=st.floats(1e-3, 1e4),
    model_t=st.integers(0, 999),
    prediction=st.sampled_from(Prediction),
    revision=st.none() | st.text(max_size=40),
    licence=st.text(max_size=40),
)
def test_a_lora_spec_survives_the_metadata(rank, alpha, model_t, prediction, revision, licence):
    spec = LoraSpec(
        rank=rank,
        alpha=alpha,
        model_t=model_t,
        prediction=prediction,
        base_revision=revision,
        licence=licence,
    )
    assert spec_from_metadata(spec_to_metadata(spec), "x") == spec


def test_a_generator_spec_survives_the_metadata():
    for spec in (GENERATOR, replace(GENERATOR, growth=16, in_channels=1, value_range=ValueRange.pm1)):
        assert spec_from_metadata(spec_to_metadata(spec), "x") == spec


def test_the_metadata_is_one_json_object_with_kind_and_schema():
    data = json.loads(spec_to_metadata(LoraSpec(rank=256, alpha=256))["hypir.spec"])
    assert (data["kind"], data["schema"]) == ("lora", 1)
    assert data.keys() == {"kind", *(field.name for field in fields(LoraSpec))}
    assert json.loads(spec_to_metadata(GENERATOR)["hypir.spec"])["kind"] == "generator"


def test_the_defaults_are_the_published_lora():
    spec = LoraSpec(rank=256, alpha=256)
    assert (spec.model_t, spec.coeff_t, spec.prediction, spec.scaling_factor) == (
        200,
        200,
        Prediction.eps,
        0.18215,
    )
    assert spec.base_model == "stabilityai/stable-diffusion-2-1-base"
    assert len(spec.target_modules) == 13


def test_no_spec_names_the_file_and_the_command():
    with pytest.raises(SpecMissingError, match=r"some/file\.safetensors: .*hypir convert some/file"):
        spec_from_metadata({"format": "pt"}, "some/file.safetensors")


def changed(**changes: object) -> dict[str, str]:
    data = json.loads(spec_to_metadata(LoraSpec(rank=4, alpha=4))[METADATA_KEY]) | changes
    return {METADATA_KEY: json.dumps({key: value for key, value in data.items() if value != "(removed)"})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({METADATA_KEY: "{"}, "not valid JSON"),
        ({METADATA_KEY: "[]"}, "must be a JSON object, got list"),
        (changed(kind="lorra"), r"unknown hypir\.spec kind 'lorra' \(did you mean 'lora'\?\)"),
        (changed(kind="(removed)"), "kind 'None'"),
        (changed(schema="(removed)"), "schema must be a whole number, got None"),
        (changed(rnk=4), r"unknown key 'rnk' \(did you mean 'rank'\?\)"),
        (changed(rank="(removed)"), "rank is required"),
        (changed(rank="many"), "rank: "),
        (changed(prediction="flow"), "prediction: "),
        (
            changed(model_t=1000, rank=0),
            "rank must be 1 or more, got 0.*model_t must lie in 0 … 999, got 1000",
        ),
    ],
)
def test_a_wrong_spec_is_explained_in_one_line(metadata: dict[str, str], message: str):
    with pytest.raises(WeightsError, match=message) as caught:
        spec_from_metadata(metadata, "a.safetensors")
    assert str(caught.value).startswith("a.safetensors: ")
    assert "\n" not in str(caught.value)


def test_a_newer_schema_asks_for_an_update_before_anything_else():
    with pytest.raises(SpecMismatchError, match=rf"got {SCHEMA + 1}; update"):
        spec_from_metadata(changed(schema=SCHEMA + 1, something_new=True), "a.safetensors")


@pytest.mark.parametrize(
    "bad",
    [{"alpha": 0}, {"alpha": float("nan")}, {"scaling_factor": -1}, {"coeff_t": -1}, {"target_modules": ()}],
)
def test_impossible_values_are_refused(bad: dict[str, object]):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        replace(LoraSpec(rank=4, alpha=4), **bad)


@pytest.mark.parametrize("name", ["scale", "features", "blocks", "in_channels", "growth"])
def test_impossible_generator_sizes_are_refused(name: str):
    with pytest.raises(ConfigError, match=f"{name} must be 1 or more, got 0"):
        replace(GENERATOR, **{name: 0})
