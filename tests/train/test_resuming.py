"""Checkpoints whose settings are not quite today's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.errors import ConfigError
from tests.train.equality import assert_equal
from train.config import TrainConfig, load_config
from train.run.recipe import train
from train.run.resuming import BASE_HASH, refusals, resume_settings

pytestmark = pytest.mark.tiny

HALF_WAY = Path("checkpoints", "step-00000002")


def tiny(photos: Path, out: Path, *assignments: str) -> TrainConfig:
    common = [f"data.root={photos}", f"output_dir={out}", "max_steps=4", "checkpoint.every=2"]
    return load_config("tiny_cpu_pixel", [*common, *assignments])


def settings_of(photos: Path, out: Path, *assignments: str) -> dict:
    return resume_settings(tiny(photos, out, *assignments), data_hash="d", base_hash="b")


def without(settings: dict, *keys: str) -> dict:
    assert settings.keys() >= set(keys)
    return {key: value for key, value in settings.items() if key not in keys}


@pytest.fixture(scope="module")
def straight(photos, tmp_path_factory) -> Path:
    """A run of four steps with a checkpoint after two."""
    return train(tiny(photos, tmp_path_factory.mktemp("run") / "straight"))


@pytest.fixture
def half_way(straight, tmp_path):
    """Return a function from what happens to the settings of the checkpoint after two steps to its run folder."""

    def make(change) -> Path:
        shutil.copytree(straight / HALF_WAY, tmp_path / "run" / HALF_WAY)
        file = tmp_path / "run" / HALF_WAY / "about.json"
        about = json.loads(file.read_text())
        about["settings"] = change(about["settings"])
        file.write_text(json.dumps(about))
        return tmp_path / "run"

    return make


def test_a_checkpoint_from_before_a_setting_goes_on_to_the_last_bit(photos, straight, half_way):
    def older(settings):
        for share in settings["data.degrade"]:
            assert share.pop("weight") == 1
        return without(
            settings, "share_batch", "data.prompt_dropout", "generator.optimiser.eps", "discriminators"
        )

    run = train(tiny(photos, half_way(older)))
    for name in ("generator.safetensors", "generator_ema.safetensors"):
        assert_equal(load_file(run / name), load_file(straight / name))
    players = Path("checkpoints", "step-00000004", "players.pt")
    assert_equal(load(run / players), load(straight / players))


def load(players: Path) -> dict:
    return torch.load(players, weights_only=True)


def test_a_setting_that_the_checkpoint_lacks_must_be_at_its_default(photos, half_way):
    run = half_way(lambda settings: without(settings, "share_batch", "data.pool.size"))
    with pytest.raises(ConfigError) as caught:
        train(tiny(photos, run, "share_batch=false"))
    assert caught.value.problems == (
        "data.pool.size: the checkpoint step-00000002 was made with 0, now it is 16; set it back, or go on all "
        "the same with checkpoint.resume=all, or use another output_dir",
        "share_batch: the checkpoint step-00000002 was made with True, now it is False; set it back, or go "
        "on all the same with checkpoint.resume=all, or use another output_dir",
    )


def test_a_setting_that_this_release_does_not_know_is_named(photos, half_way):
    run = half_way(lambda settings: settings | {"seed": 8, "generator.optimiser.nesterov": True})
    with pytest.raises(ConfigError) as caught:
        train(tiny(photos, run))
    unknown, changed = caught.value.problems
    assert unknown.startswith(
        "generator.optimiser.nesterov: the checkpoint step-00000002 was made with True, and"
    )
    assert "go on with the release that made it" in unknown
    assert changed.startswith("seed: the checkpoint step-00000002 was made with 8, now it is 7;")


JUDGE = "discriminators.judge={name: unet, optimiser: {lr: 1e-3}%s}"


@pytest.mark.parametrize(
    "absent",
    [
        ["discriminators.judge.r1.every", "discriminators.judge.r1.ramp.shape"],
        [f"discriminators.judge.r1.ramp.{name}" for name in ("shape", "start", "length")],
        ["discriminators.judge.feature_matching", "discriminators.judge.options"],
        ["share_batch", "data.crop", "losses.l1.weight", "losses.l1.ramp.shape"],
    ],
)
def test_defaults_are_found_below_names_and_optional_parts(photos, tmp_path, absent):
    now = settings_of(photos, tmp_path, JUDGE % ", r1: {gamma: 10}")
    assert refusals(without(now, *absent), now, checkpoint="c") == []


def test_an_optional_part_is_not_taken_for_set_because_its_own_settings_have_defaults(photos, tmp_path):
    """R1 with its default strength against no R1, in both directions, and against a time before there was R1."""
    without_r1, with_r1 = (settings_of(photos, tmp_path, JUDGE % part) for part in ("", ", r1: {gamma: 10}"))
    prefix = "discriminators.judge.r1"
    parts = [
        f"{prefix}.{name}"
        for name in ("every", "gamma", "over", "ramp.ahead", "ramp.length", "ramp.shape", "ramp.start")
    ]
    for then, now in (
        (without_r1, with_r1),
        (without(without_r1, prefix), with_r1),
        (with_r1, without_r1),
    ):
        found = refusals(then, now, checkpoint="c")
        assert [line.split(":")[0] for line in found] == parts
    assert "was made with 10" in found[1]
    assert "now it is not set" in found[1]


def test_what_may_change_today_may_have_been_anything(photos, tmp_path):
    now = settings_of(photos, tmp_path)
    assert refusals(now | {"threads": 3, "export.licence": "CC0"}, now, checkpoint="c") == []


def test_a_base_model_where_there_is_none_now_differs_and_is_not_unknown(photos, tmp_path):
    now = resume_settings(tiny(photos, tmp_path), data_hash="d")
    (found,) = refusals(now | {BASE_HASH: "b"}, now, checkpoint="c")
    assert found.startswith(f"{BASE_HASH}: the checkpoint c was made with 'b', now it is not set;")
