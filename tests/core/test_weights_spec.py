"""The spec that travels in a weight file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core import Request, Runtime, load_engine, restore
from hypir_core.errors import ConfigError, ShapeError, SpecMismatchError, SpecMissingError, WeightsError
from hypir_core.files.source import ArraySource
from hypir_core.image.histogram import Statistics
from hypir_core.image.ranges import RangeConfig, RangeKind, fit
from hypir_core.image.size import TargetSize
from hypir_core.models.architectures.compact import Compact, CompactOptions
from hypir_core.models.architectures.rrdb import RRDBNet, RrdbOptions
from hypir_core.pipeline import Restored
from hypir_core.streaming import restore_stream
from hypir_core.weights.spec import (
    METADATA_KEY,
    GeneratorSpec,
    LoraSpec,
    Prediction,
    spec_from_metadata,
    spec_to_metadata,
)
from hypir_core.weights.tensors import write_tensors

GENERATOR = GeneratorSpec(
    name="tiny x4",
    architecture="compact",
    scale=4,
    options={"features": 24, "blocks": 8},
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
    for spec in (
        GENERATOR,
        replace(
            GENERATOR, options={"growth": 16, "norm": "none", "slope": 0.2, "bias": False}, in_channels=1
        ),
        replace(GENERATOR, dims=3, scale=(1, 4, 4), value_range=RangeConfig(kind=RangeKind.pm1)),
        replace(GENERATOR, value_range=RangeConfig(kind=RangeKind.percentile, percents=(1, 99), clip=True)),
    ):
        assert spec_from_metadata(spec_to_metadata(spec), "x") == spec
    assert replace(GENERATOR, dims=3, scale=(1, 4, 4)).scales == (1, 4, 4)
    assert GENERATOR.scales == (4, 4)


@pytest.mark.parametrize("growth", [None, 16])
@pytest.mark.parametrize("value_range", ["unit", "pm1"])
def test_a_generator_of_schema_1_is_still_read(growth, value_range):
    data = {
        "kind": "generator",
        "schema": 1,
        "name": "tiny x4",
        "architecture": "compact",
        "scale": 4,
        "in_channels": 3,
        "out_channels": 3,
        "features": 24,
        "blocks": 8,
        "growth": growth,
        "value_range": value_range,
        "trained_on": "public-domain photos",
        "trained_with": "train 0123abc",
        "licence": "Apache-2.0",
    }
    grown = {} if growth is None else {"growth": growth}
    assert spec_from_metadata({METADATA_KEY: json.dumps(data)}, "x") == replace(
        GENERATOR, options={"features": 24, "blocks": 8, **grown}, value_range=RangeConfig(kind=value_range)
    )
    for wrong, said in (({"value_range": "pm2"}, "value_range"), ({"depth": 1}, "unknown key 'depth'")):
        with pytest.raises(WeightsError, match=said):
            spec_from_metadata({METADATA_KEY: json.dumps(data | wrong)}, "x")
    del data["blocks"]
    with pytest.raises(WeightsError, match=r"x: hypir\.spec: blocks is required"):
        spec_from_metadata({METADATA_KEY: json.dumps(data)}, "x")


def test_the_metadata_is_one_json_object_with_kind_and_schema():
    data = json.loads(spec_to_metadata(LoraSpec(rank=256, alpha=256))["hypir.spec"])
    assert (data["kind"], data["schema"]) == ("lora", LoraSpec.newest)
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
        (changed(prediction="y0"), "prediction: "),
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


def test_a_lora_of_schema_1_reads_as_hypirs_with_no_noise():
    data = json.loads(spec_to_metadata(LoraSpec(rank=4, alpha=8, model_t=150))[METADATA_KEY])
    old = {key: value for key, value in data.items() if key not in {"recipe", "noise_t"}} | {"schema": 1}
    read = spec_from_metadata({METADATA_KEY: json.dumps(old)}, "a.safetensors")
    assert read == LoraSpec(rank=4, alpha=8, model_t=150)
    assert (read.recipe, read.noise_t) == ("hypir", None)


def test_a_newer_schema_asks_for_an_update_before_anything_else():
    with pytest.raises(SpecMismatchError, match=rf"got {LoraSpec.newest + 1}; update"):
        spec_from_metadata(changed(schema=LoraSpec.newest + 1, something_new=True), "a.safetensors")


@pytest.mark.parametrize(
    "bad",
    [{"alpha": 0}, {"alpha": float("nan")}, {"scaling_factor": -1}, {"coeff_t": -1}, {"target_modules": ()}],
)
def test_impossible_values_are_refused(bad: dict[str, object]):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        replace(LoraSpec(rank=4, alpha=4), **bad)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"scale": 0}, "scale must be 1 or more, got 0"),
        ({"in_channels": 0}, "in_channels must be 1 or more, got 0"),
        ({"out_channels": -1}, "out_channels must be 1 or more, got -1"),
        ({"dims": 4}, "dims must lie in 1 … 3, got 4"),
        ({"scale": (1, 4, 4)}, "scale must be one number or 2, one for each axis, got 3"),
    ],
)
def test_impossible_generators_are_refused(bad: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=said):
        replace(GENERATOR, **bad)


def exported(path: Path, net: torch.nn.Module, **changes: object) -> Path:
    """Write a network as a training run exports it."""
    spec = replace(GENERATOR, scale=2, options={"features": 8, "blocks": 2}, **changes)
    write_tensors(path, net.state_dict(), spec_to_metadata(spec))
    return path


def compact(**sizes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    net = Compact(CompactOptions(features=8, blocks=2, scale=2, **sizes))
    for weight in net.parameters():  # far from linear, so that a wrong range shows
        torch.nn.init.normal_(weight, std=0.3)
    return net


class Rows:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self.text: Mapping[str, str] = {}
        self.rows: list[torch.Tensor] = []

    def write(self, start_row: int, rows: torch.Tensor) -> None:
        assert start_row == sum(part.shape[2] for part in self.rows)
        self.rows.append(rows.clone())

    def commit(self) -> None:
        """Nothing is kept elsewhere."""

    def abort(self) -> None:
        self.rows.clear()


def ran(path: Path, image_01: torch.Tensor) -> Restored:
    engine = load_engine(
        "upscaler", options={"weights": str(path)}, device=torch.device("cpu"), dtype="float32"
    )
    return restore(engine, image_01, Request(target=TargetSize(scale=2)), Runtime())


def test_a_network_of_another_range_runs_at_its_range(tmp_path):
    net, image_01 = compact(), torch.rand(1, 3, 21, 17)
    right = ((net(image_01 * 2 - 1) + 1) / 2).clamp(0, 1)
    assert (right - net(image_01).clamp(0, 1)).abs().max() > 0.1
    new = ran(
        exported(tmp_path / "new.safetensors", net, value_range=RangeConfig(kind=RangeKind.pm1)), image_01
    )
    torch.testing.assert_close(new.image_01, right, atol=1e-5, rtol=0)
    assert new.report.settings["value_range"]["kind"] == "pm1"

    metadata = json.loads(spec_to_metadata(replace(GENERATOR, scale=2))[METADATA_KEY])
    del metadata["options"], metadata["dims"]
    old = metadata | {"schema": 1, "features": 8, "blocks": 2, "growth": None, "value_range": "pm1"}
    write_tensors(tmp_path / "old.safetensors", net.state_dict(), {METADATA_KEY: json.dumps(old)})
    torch.testing.assert_close(ran(tmp_path / "old.safetensors", image_01).image_01, right, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "kind", [RangeKind.minmax, RangeKind.percentile, RangeKind.zscore, RangeKind.histogram]
)
def test_a_fitted_range_is_fitted_on_the_whole_picture(tmp_path, kind):
    net, config = compact(), RangeConfig(kind=kind, percents=(1, 99))
    image_01 = 0.3 + 0.2 * torch.rand(1, 3, 300, 40)  # more than a tile
    statistics = Statistics()
    statistics.add(image_01)
    values = fit(config, statistics)
    right = values.undo(net(values.apply(image_01))).clamp(0, 1)
    done = ran(exported(tmp_path / "x.safetensors", net, value_range=config), image_01)
    assert done.report.stages[0].redundancy > 1  # of several tiles, which overlap
    torch.testing.assert_close(done.image_01, right, atol=1e-5, rtol=0)
    sink = Rows()
    engine = load_engine("upscaler", options={"weights": str(tmp_path / "x.safetensors")}, dtype="float32")
    source = ArraySource(image_01[0].permute(1, 2, 0).numpy())
    restore_stream(engine, source, sink, Request(target=TargetSize(scale=2)), Runtime())
    torch.testing.assert_close(torch.cat(sink.rows, 2), right, atol=1e-5, rtol=0)
    flat = ran(tmp_path / "x.safetensors", torch.full((1, 3, 9, 9), 0.5))
    assert any("all equal" in note for note in flat.report.notes)
    with pytest.raises(ShapeError, match="got 2 at once; give one by one"):
        ran(tmp_path / "x.safetensors", image_01.expand(2, -1, -1, -1))


def test_a_network_may_give_other_channels_than_it_takes(tmp_path):
    sizes, channels = {"features": 8, "blocks": 1, "growth": 4}, {"in_channels": 4, "out_channels": 1}
    net = RRDBNet(RrdbOptions(**sizes, **channels, scale=2))
    image_01 = torch.rand(1, 4, 22, 18)
    spec = replace(GENERATOR, architecture="rrdb", scale=2, options=sizes, **channels)
    write_tensors(tmp_path / "x.safetensors", net.state_dict(), spec_to_metadata(spec))
    done = ran(tmp_path / "x.safetensors", image_01)
    torch.testing.assert_close(done.image_01, net(image_01).clamp(0, 1), atol=1e-5, rtol=0)
    with pytest.raises(ShapeError, match="takes 4 channels, the picture has 3"):
        ran(tmp_path / "x.safetensors", image_01[:, :3])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dims": 1}, "compact: dims must be 2 or 3, got 1"),
        ({"dims": 3}, r"body.0.weight.: expected \(8, 3, 3, 3, 3\), got \(8, 3, 3, 3\)"),
        ({"scale": (1, 2)}, r"body.6.bias.: expected \(6,\), got \(12,\)"),
        ({"in_channels": 4, "out_channels": 1}, "4 channels cannot become 1"),
        (
            {"options": {"features": 8, "blocks": 2, "growth": 4}},
            "compact: unknown key 'growth'; known: .*features",
        ),
        (
            {"architecture": "rrdb", "scale": 3, "options": {}},
            "rrdb has the scales 1, 2 and 4 along all axes alike, got 3",
        ),
        (
            {"in_channels": 4, "out_channels": 1, "value_range": RangeConfig(kind=RangeKind.zscore)},
            "cannot be undone where 4 channels become 1",
        ),
    ],
)
def test_a_spec_that_cannot_be_built_is_refused(tmp_path, changes, said):
    spec = replace(GENERATOR, **({"scale": 2, "options": {"features": 8, "blocks": 2}} | changes))
    write_tensors(tmp_path / "x.safetensors", compact().state_dict(), spec_to_metadata(spec))
    with pytest.raises(SpecMismatchError, match=said) as caught:
        ran(tmp_path / "x.safetensors", torch.rand(1, 3, 8, 8))
    assert str(caught.value).count("x.safetensors") == 1
    assert "\n" not in str(caught.value)
