"""What lies in a run folder, how a run goes on from it, and what can be taken out of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.errors import ConfigError, HypirError, SpecMismatchError
from hypir_core.weights.spec import GeneratorSpec, spec_from_metadata
from hypir_core.weights.tensors import read_tensors
from tests.train.equality import assert_equal
from train.__main__ import main
from train.config import TrainConfig, load_config
from train.run import best, recipe
from train.run.building import build
from train.run.checkpoint_folders import checkpoints, newest_checkpoint, read_about
from train.run.recipe import train

pytestmark = pytest.mark.tiny

NO_POOL = ("data.pool.size=0", "data.pool.reuse=1")
JUDGE = "discriminators.judge={name: unet, options: {features: 4, depth: 2}, weight: 0.1}"


def words(photos: Path, out: Path, steps: int, *assignments: str) -> list[str]:
    common = [f"data.root={photos}", f"output_dir={out}", f"max_steps={steps}", "checkpoint.every=2"]
    return ["tiny_cpu_pixel", *common, *assignments]


def tiny(photos: Path, out: Path, steps: int, *assignments: str) -> TrainConfig:
    preset, *rest = words(photos, out, steps, *assignments)
    return load_config(preset, rest)


def validating(photos: Path, *more: str) -> list[str]:
    return [f"validation.root={photos}", "validation.count=1", "validation.recipes=[light]", *more]


def players_at(run_dir: Path, step: int) -> dict:
    return torch.load(run_dir / "checkpoints" / f"step-{step:08d}" / "players.pt", weights_only=True)


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> Path:
    """A run of four steps with its checkpoints after two and four."""
    return train(tiny(photos, tmp_path_factory.mktemp("trained") / "run", 4))


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize(
    "name",
    [
        "step-00000004 (copy)", "step-00000004.bak", "step-4", "step-latest", "step-", "step-00000009", "best",
        "Copy of step-00000004",
    ],
)  # fmt: skip
def test_a_copied_or_renamed_checkpoint_is_left_alone(photos, copy, name):
    """step-00000009 is a copy under a name that its own about.json contradicts."""
    shutil.copytree(copy / "checkpoints" / "step-00000004", copy / "checkpoints" / name)
    assert newest_checkpoint(copy).name == "step-00000004"
    train(tiny(photos, copy, 8, "checkpoint.keep_last=1"))
    assert [folder.name for folder in checkpoints(copy)] == ["step-00000008"]
    assert (copy / "checkpoints" / name / "players.pt").exists()


def test_stray_files_and_empty_folders_are_no_checkpoints(photos, copy):
    (copy / "checkpoints" / "step-00000077").touch()
    (copy / "checkpoints" / "step-00000078").mkdir()
    train(tiny(photos, copy, 5))
    assert newest_checkpoint(copy).name == "step-00000005"


def test_what_a_killed_process_left_is_removed(photos, copy):
    for name in (".part-step-00000006", ".part-step-00000004"):
        (copy / "checkpoints" / name).mkdir()
        (copy / "checkpoints" / name / "players.pt").write_bytes(b"half")
    train(tiny(photos, copy, 5))
    assert not [path.name for path in (copy / "checkpoints").iterdir() if path.name.startswith(".")]


def test_a_checkpoint_that_was_being_replaced_comes_back(photos, copy):
    inside = copy / "checkpoints"
    (inside / "step-00000004").rename(inside / ".old-step-00000004")
    train(tiny(photos, copy, 5))
    assert read_about(inside / "step-00000005")["step"] == 5
    assert (inside / "step-00000004").is_dir()


def test_a_checkpoint_comes_before_the_validation_of_its_step(photos, tmp_path, monkeypatch):
    """A process that is killed in the validation loses no step, and the validation is made up for."""
    config = tiny(photos, tmp_path / "run", 4, *validating(photos, "validation.every=2"))
    real, calls = recipe.validate_average, []

    def killed(run, done):
        calls.append(done)
        if done == 2:
            raise KeyboardInterrupt
        return real(run, done)

    monkeypatch.setattr(recipe, "validate_average", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert newest_checkpoint(config.output_dir).name == "step-00000002"
    monkeypatch.setattr(recipe, "validate_average", lambda run, done: calls.append(done) or real(run, done))
    train(config)
    assert calls == [0, 2, 2, 4]
    about = read_about(newest_checkpoint(config.output_dir))
    assert about["validated"] == 4
    assert about["best"]["step"] in {2, 4}
    train(tiny(photos, tmp_path / "run", 5, *validating(photos, "validation.every=2")))
    assert calls == [0, 2, 2, 4, 5]


def test_scores_of_other_metrics_or_pairs_are_not_compared(photos, tmp_path):
    """SSIM is below 1, PSNR in the tens: after a change of metric nothing was ever the best again."""
    run = tmp_path / "run"
    train(tiny(photos, run, 2, *validating(photos, "validation.every=2")))
    train(tiny(photos, run, 4, *validating(photos, "validation.every=2", "validation.best=ssim")))
    found = read_about(newest_checkpoint(run))["best"]
    assert (found["step"], found["metric"]) == (4, "ssim")
    harder = validating(photos, "validation.every=2", "validation.best=ssim", "validation.seed=5")
    train(tiny(photos, run, 6, *harder))
    other = read_about(newest_checkpoint(run))["best"]
    assert other["step"] == 6
    assert other["pairs"] != found["pairs"]


def test_a_lower_score_on_the_same_pairs_is_still_no_best(photos, tmp_path, monkeypatch):
    run, every = tmp_path / "run", validating(photos, "validation.every=2")
    real, scores = best.validate, iter([0.0, 30.0, 20.0, 31.0])

    def scored(pairs, restore, checks):
        found = real(pairs, restore, checks)
        return type(found)(found.scalars, next(scores), found.shown)

    monkeypatch.setattr(best, "validate", scored)
    train(tiny(photos, run, 6, *every))
    assert read_about(newest_checkpoint(run))["best"]["step"] == 6
    assert read_about(checkpoints(run)[-2])["best"]["step"] == 2


def test_a_changed_setting_goes_on_when_asked_and_is_listed(photos, copy, caplog):
    changed = ["generator.optimiser.lr=1e-4", *NO_POOL, "data.batch_size=2", "losses.gradient.weight=0"]
    with pytest.raises(ConfigError, match=r"generator\.optimiser\.lr: .*checkpoint\.resume=all"):
        train(tiny(photos, copy, 6, *changed))
    caplog.set_level("INFO")
    train(tiny(photos, copy, 6, *changed, "checkpoint.resume=all", "checkpoint.keep_last=5"))
    said = "\n".join(caplog.messages)
    for line in (
        "generator.optimiser.lr: 0.002 → 0.0001",
        "data.batch_size: 4 → 2",
        "data.pool.size: 16 → 0",
    ):
        assert f"changed: {line}" in said
    after = players_at(copy, 6)["generator"]
    assert after["lr_schedule"]["base_lrs"] == [1e-4, 1e-4]
    assert after["optimiser"]["param_groups"][0]["initial_lr"] == 1e-4
    assert float(after["optimiser"]["state"][0]["step"]) == 6
    caplog.clear()
    train(tiny(photos, copy, 7, *changed))
    assert "changed:" not in "\n".join(caplog.messages)


def test_resume_all_without_a_change_is_exact(photos, copy, tmp_path):
    exact = Path(shutil.copytree(copy, tmp_path / "exact"))
    train(tiny(photos, exact, 6))
    train(tiny(photos, copy, 6, "checkpoint.resume=all"))
    assert_equal(players_at(copy, 6), players_at(exact, 6))


def test_more_pictures_and_other_players_go_on_when_asked(photos, copy, tmp_path, caplog):
    more = Path(shutil.copytree(photos, tmp_path / "more"))
    shutil.copy(more / "0.png", more / "9.png")
    caplog.set_level("INFO")
    train(tiny(more, copy, 6, JUDGE, "generator.ema=null", "checkpoint.resume=all"))
    assert any("changed: judge: is new and starts untrained" in line for line in caplog.messages)
    assert any("data.root (hash of names and sizes)" in line for line in caplog.messages)
    assert set(players_at(copy, 6)) == {"generator", "judge"}
    train(tiny(more, copy, 8, "checkpoint.resume=all"))
    assert any("changed: judge: is left out" in line for line in caplog.messages)
    assert any(
        "changed: generator: its moving average starts at its weights" in line for line in caplog.messages
    )


def test_another_optimiser_starts_anew_and_the_schedule_goes_on(photos, copy, caplog):
    caplog.set_level("INFO")
    train(tiny(photos, copy, 6, "generator.optimiser.kind=adam", "checkpoint.resume=all"))
    assert any("changed: generator: its optimiser starts anew" in line for line in caplog.messages)
    after = players_at(copy, 6)["generator"]
    assert float(after["optimiser"]["state"][0]["step"]) == 2
    assert after["lr_schedule"]["last_epoch"] == 6


def test_a_generator_of_another_size_is_refused_in_words(photos, copy):
    other = ["generator.options.features=12", "checkpoint.resume=all"]
    with pytest.raises(
        SpecMismatchError, match=r"the generator of .* does not fit: .* is 8 there and 12 here"
    ):
        train(tiny(photos, copy, 6, *other))


def test_weights_only_start_anew_once(photos, copy):
    """The same command, given again by a cluster's queue, goes on instead of starting anew again."""
    before = players_at(copy, 4)["generator"]
    request = ["generator.optimiser.lr=1e-4", "checkpoint.resume=weights"]
    run = build(tiny(photos, copy, 3, *request))
    assert (run.start, run.stream.position.batches) == (0, 0)
    assert_equal(dict(run.player.module.state_dict()), before["weights"])
    assert_equal(run.player.ema.shadow, before["ema"]["shadow"])
    assert [folder.name for folder in checkpoints(copy)] == ["step-00000002", "step-00000004"]
    train(tiny(photos, copy, 3, *request))
    assert [folder.name for folder in checkpoints(copy)] == ["step-00000002", "step-00000003"]
    kept = {folder.name for folder in (copy / "checkpoints").glob("aside-*")}
    assert kept == {"aside-step-00000002", "aside-step-00000004"}
    assert build(tiny(photos, copy, 9, *request)).start == 3


def test_a_run_goes_back_to_a_named_checkpoint_once(photos, copy, tmp_path):
    straight = train(tiny(photos, tmp_path / "straight", 3, "checkpoint.every=1", "checkpoint.keep_last=9"))
    back = "checkpoint.resume_from=step-00000002"
    train(tiny(photos, copy, 3, back))
    assert_equal(players_at(copy, 3), players_at(straight, 3))
    assert [folder.name for folder in checkpoints(copy)] == ["step-00000002", "step-00000003"]
    assert (copy / "checkpoints" / "aside-step-00000004" / "players.pt").exists()
    assert build(tiny(photos, copy, 5, back)).start == 3
    assert build(tiny(photos, copy, 5, back, "seed=9", "checkpoint.resume=all")).start == 2


def test_another_run_s_checkpoint_can_be_named_by_its_path(photos, copy, tmp_path):
    source = copy / "checkpoints" / "step-00000002"
    run = build(tiny(photos, tmp_path / "other", 6, f"checkpoint.resume_from={source}"))
    assert run.start == 2
    with pytest.raises(
        ConfigError, match=r"checkpoint\.resume_from: .*did you mean 'step-00000002'.*step-00000004"
    ):
        build(tiny(photos, copy, 6, "checkpoint.resume_from=step-0000002"))


def test_never_refuses_a_folder_with_a_checkpoint(photos, copy):
    with pytest.raises(ConfigError, match="already holds step-00000004"):
        build(tiny(photos, copy, 6, "checkpoint.resume=never"))


def test_another_number_of_processes_goes_on_when_asked(photos, copy, caplog):
    file = copy / "checkpoints" / "step-00000004" / "about.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"processes": 2}))
    with pytest.raises(ConfigError, match=r"was made by 2 processes, now there is 1; .*resume=all"):
        build(tiny(photos, copy, 6))
    run = build(tiny(photos, copy, 6, "checkpoint.resume=all"))
    assert "processes: 2 → 1" in run.changed
    used = torch.load(copy / "checkpoints" / "step-00000004" / "rank-0.pt", weights_only=True)["data"][
        "fresh"
    ]
    assert run.stream.position.fresh == 2 * used
    assert run.stream.position.pool == ()
    train(tiny(photos, copy, 6, "checkpoint.resume=all"))


def test_a_checkpoint_that_does_not_fit_is_refused_before_the_generator_is_made(photos, copy, monkeypatch):
    from train.run import building

    def heavy(*_):
        raise AssertionError("the generator was made first")

    monkeypatch.setattr(building, "build_generator", heavy)
    with pytest.raises(ConfigError, match="seed: the checkpoint"):
        build(tiny(photos, copy, 6, "seed=9"))


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("given", ["", "checkpoints/step-00000004"])
def test_weights_come_out_of_a_checkpoint(photos, copy, tmp_path, capsys, raw, given):
    out = tmp_path / "mine.safetensors"
    assert main(["export", str(copy / given), *(["--raw"] if raw else []), "-o", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    expected = copy / ("generator.safetensors" if raw else "generator_ema.safetensors")
    assert_equal(load_file(out), load_file(expected))
    file = read_tensors(out)
    spec = spec_from_metadata(file.metadata, out)
    assert spec == spec_from_metadata(read_tensors(expected).metadata, expected)
    assert isinstance(spec, GeneratorSpec)


def test_a_checkpoint_without_its_spec_says_what_to_do(copy, tmp_path):
    file = copy / "checkpoints" / "step-00000004" / "about.json"
    about = json.loads(file.read_text())
    del about["weights"]
    file.write_text(json.dumps(about))
    from train.run.export import export_checkpoint

    with pytest.raises(HypirError, match="max_steps=4"):
        export_checkpoint(copy, tmp_path / "x.safetensors", raw=False)
    with pytest.raises(ConfigError, match="is no checkpoint"):
        export_checkpoint(tmp_path, tmp_path / "x.safetensors", raw=False)
