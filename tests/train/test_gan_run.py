"""The loop with discriminators in it."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hypir_core.errors import ConfigError, SpecMismatchError
from tests.train.tiny_runs import tiny
from train.config import TrainConfig, load_config
from train.losses import Compared
from train.players import trained_state
from train.run import recipe
from train.run.building import Run, build
from train.run.checkpoint import newest_checkpoint
from train.run.logbook import StepLog
from train.run.meter import Meter
from train.run.recipe import discriminator_step, generator_losses, generator_step, train

pytestmark = pytest.mark.tiny

UNET = "discriminators.judge={name: unet, options: {features: 4, depth: 2}, optimiser: {lr: 1e-3}, weight: 0.1%s}"
PATCH = (
    "discriminators.patch={name: patch, options: {features: 4, layers: 2}, loss: relativistic, weight: 0.1}"
)
NO_POOL = ("data.pool.size=0", "data.pool.reuse=1")


def gan(photos: Path, out: Path, steps: int, *assignments: str, judge: str = "") -> TrainConfig:
    common = [f"data.root={photos}", f"output_dir={out}", f"max_steps={steps}", UNET % judge]
    return load_config("tiny_cpu_pixel", [*common, *assignments])


def players_of(config: TrainConfig) -> dict:
    newest = newest_checkpoint(config.output_dir)
    assert newest is not None
    return torch.load(newest / "players.pt", weights_only=True)


def assert_equal(left, right) -> None:
    torch.testing.assert_close(left, right, atol=0, rtol=0)


def state_of(run: Run, name: str) -> dict[str, torch.Tensor]:
    return copy.deepcopy(trained_state(run.players[name].module))


def log() -> StepLog:
    return StepLog(Meter(torch.device("cpu")))


def test_stopped_and_resumed_equals_straight_with_two_discriminators(photos, tmp_path, monkeypatch):
    extras = ", feature_matching: {weight: 0.5}, r1: {gamma: 1, every: 3}, ramp: {shape: linear, start: 1, length: 4}"
    straight = gan(photos, tmp_path / "straight", 8, PATCH, judge=extras)
    train(straight)
    resumed = gan(photos, tmp_path / "resumed", 8, PATCH, judge=extras)
    real_step, done = recipe.generator_step, []

    def step_then_signal(*arguments):
        shots = real_step(*arguments)
        done.append(1)
        if len(done) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return shots

    monkeypatch.setattr(recipe, "generator_step", step_then_signal)
    train(resumed)
    stopped = newest_checkpoint(resumed.output_dir)
    assert stopped is not None
    assert stopped.name == "step-00000005"
    monkeypatch.undo()
    train(resumed)
    ours, expected = players_of(resumed), players_of(straight)
    assert set(ours) == {"generator", "judge", "patch"}
    assert "up.0.parametrizations.weight.0._u" in ours["judge"]["weights"]
    assert_equal(ours, expected)


def test_generator_step_leaves_the_discriminator_alone(photos, tmp_path):
    run = build(gan(photos, tmp_path, 4))
    before = state_of(run, "judge")
    shots = generator_step(run, 0, log())
    assert_equal(state_of(run, "judge"), before)
    judge = run.players["judge"].module
    assert judge.training
    assert all(p.requires_grad and p.grad is None for p in judge.parameters())

    generator = state_of(run, "generator")
    discriminator_step(run, run.rivals[0], 0, shots, log())
    after = state_of(run, "judge")
    assert not torch.equal(after["tail.weight"], before["tail.weight"])
    assert not torch.equal(
        after["up.0.parametrizations.weight.0._u"], before["up.0.parametrizations.weight.0._u"]
    )
    assert_equal(state_of(run, "generator"), generator)
    assert all(p.grad is None for p in run.player.module.parameters())


def test_the_adversarial_term_reaches_the_generator_and_nothing_else(photos, tmp_path):
    run = build(gan(photos, tmp_path, 4, "losses.gradient.weight=0"))
    batch = next(run.stream)
    attempt = run.task.attempt(run.player.module, batch, 0)
    assert attempt.compared is not None
    losses, image_01 = generator_losses(run, 0, attempt), attempt.compared.image
    assert set(losses.terms) == {"l1", "judge"}
    expected = losses.terms["l1"] + 0.1 * losses.terms["judge"]
    torch.testing.assert_close(losses.total, expected)
    judge = run.players["judge"].module.eval()
    torch.testing.assert_close(losses.terms["judge"], -judge(image_01 * 2 - 1).logits[0].mean())
    slopes = torch.autograd.grad(losses.terms["judge"], list(run.player.module.parameters()))
    assert sum(float(slope.norm()) for slope in slopes) > 0


@pytest.mark.parametrize(
    ("loss", "passes"), [("hinge", 1), ("bce", 1), ("least_squares", 1), ("relativistic", 2)]
)
def test_the_target_is_judged_only_where_the_loss_asks_for_it(photos, tmp_path, loss, passes):
    run = build(gan(photos, tmp_path, 4, judge=f", loss: {loss}"))
    seen = []
    run.players["judge"].module.register_forward_hook(lambda *_: seen.append(1))
    generator_step(run, 0, log())
    assert len(seen) == passes


def test_cadence_warm_up_and_schedule(photos, tmp_path, monkeypatch):
    """The discriminator moves at every second step from 3 on: 4, 6, 8 of 0 … 9; its cosine ends there."""
    config = gan(
        photos, tmp_path, 10,
        "discriminators.judge.optimiser={lr: 1e-3, every: 2, lr_schedule: cosine, lr_end: 1e-5}",
        judge=", ramp: {shape: linear, start: 3, length: 4}",
    )  # fmt: skip
    moved = []
    real_step = recipe.discriminator_step

    def step_and_note(run, rival, step, *rest):
        moved.append(step)
        real_step(run, rival, step, *rest)

    monkeypatch.setattr(recipe, "discriminator_step", step_and_note)
    train(config)
    assert moved == [4, 6, 8]
    (lr, *_) = players_of(config)["judge"]["lr_schedule"]["_last_lr"]
    assert lr == pytest.approx(1e-5)


def test_features_are_not_matched_before_the_discriminator_learns(photos, tmp_path):
    judge = "discriminators.judge={name: unet, options: {features: 4, depth: 2}, feature_matching: {weight: 1}, %s}"
    ramp = "ramp: {shape: linear, start: 3, length: 4}"
    run = build(tiny(photos, tmp_path, 9, judge % ramp))
    batch = next(run.stream)
    pair = Compared(image=batch.hq, target=batch.hq)
    names = [set(run.rivals[0].generator_terms(step, pair, run.accelerator)) for step in range(6)]
    assert names == [set()] * 4 + [{"judge", "judge_features"}] * 2
    alone = build(tiny(photos, tmp_path, 9, judge % "weight: 0, ramp: {start: 2}"))
    names = [set(alone.rivals[0].generator_terms(step, pair, alone.accelerator)) for step in range(4)]
    assert names == [set(), set(), {"judge_features"}, {"judge_features"}]


def test_own_batches_are_drawn_when_nothing_is_shared(photos, tmp_path):
    shared = gan(photos, tmp_path / "shared", 2, PATCH, *NO_POOL)
    own = gan(photos, tmp_path / "own", 2, PATCH, *NO_POOL, "share_batch=false")
    train(shared)
    train(own)
    batches = [
        torch.load(newest_checkpoint(c.output_dir) / "rank-0.pt", weights_only=True)["data"]["batches"]
        for c in (shared, own)
    ]
    assert batches == [2, 6]


def test_a_generator_that_rests_still_feeds_its_discriminators_once(photos, tmp_path):
    config = gan(photos, tmp_path, 4, PATCH, *NO_POOL, "generator.optimiser.every=2")
    train(config)
    rank = torch.load(newest_checkpoint(tmp_path) / "rank-0.pt", weights_only=True)
    assert rank["data"]["batches"] == 4
    state = players_of(config)
    assert float(state["generator"]["optimiser"]["state"][0]["step"]) == 2
    assert float(state["judge"]["optimiser"]["state"][0]["step"]) == 4


def test_accumulation_equals_a_larger_batch_for_both_sides(photos, tmp_path):
    common = [*NO_POOL, "losses.gradient.weight=0"]
    judge = ", loss: bce"
    whole = gan(photos, tmp_path / "whole", 1, "data.batch_size=4", *common, judge=judge)
    parts = gan(photos, tmp_path / "parts", 1, "data.batch_size=2", "accumulation=2", *common, judge=judge)
    runs = [build(whole), build(parts)]
    for run in runs:
        run.players["judge"].module.eval()  # power iterations are per pass, not per sample
        discriminator_step(run, run.rivals[0], 0, generator_step(run, 0, log()), log())
    for name in ("generator", "judge"):
        one, two = (state_of(run, name) for run in runs)
        for key, tensor in one.items():
            torch.testing.assert_close(two[key], tensor, atol=2e-5, rtol=0)


def test_every_term_and_logit_is_written_down(photos, tmp_path):
    config = gan(
        photos, tmp_path, 4, "tracking.every=2", "tracking.loss_gradients_every=1",
        judge=", feature_matching: {weight: 0.5}, r1: {gamma: 1, every: 2}",
    )  # fmt: skip
    train(config)
    rows = (tmp_path / "scalars.csv").read_text().splitlines()[1:]
    names = {row.split(",")[1] for row in rows}
    assert {
        "loss/judge", "loss/judge_features", "loss/judge_own", "loss/judge_r1",
        "logits/judge_fake", "logits/judge_real",
        "gradient/judge", "gradient/judge_features", "gradient/judge_own", "gradient/generator",
        "lr/judge",
    } <= names  # fmt: skip


def test_r1_is_lazy_and_counts_for_the_moves_between(photos, tmp_path):
    run = build(gan(photos, tmp_path, 4, judge=", r1: {gamma: 2, every: 3}"))
    (shot,) = generator_step(run, 0, log())
    assert shot.compared is not None
    weights = [
        {name: weight for name, (weight, _) in run.rivals[0].own_terms(step, shot.compared)[0].items()}
        for step in range(4)
    ]
    assert [w.get("judge_r1") for w in weights] == [6.0, None, None, 6.0]


def test_another_run_goes_on_from_the_discriminators_file(photos, tmp_path):
    first = gan(photos, tmp_path / "first", 2)
    train(first)
    file = first.output_dir / "discriminator_judge.safetensors"
    run = build(gan(photos, tmp_path / "second", 2, judge=f", weights: {file}"))
    assert_equal(state_of(run, "judge"), players_of(first)["judge"]["weights"])
    assert "up.0.weight_orig" in load_file(file)
    wider = gan(
        photos, tmp_path / "third", 2, "discriminators.judge.options.features=6", judge=f", weights: {file}"
    )
    with pytest.raises(SpecMismatchError, match=r"discriminators\.judge\.weights: .*set the options"):
        build(wider)


def test_names_that_are_taken_and_options_that_do_not_exist(photos, tmp_path):
    with pytest.raises(ConfigError, match=r"discriminators\.l1: .* rename it"):
        build(gan(photos, tmp_path, 1, "discriminators.l1={name: unet}"))
    with pytest.raises(ConfigError, match=r"discriminators\.generator: .* rename it"):
        build(gan(photos, tmp_path, 1, "discriminators.generator={name: unet}"))
    with pytest.raises(ConfigError, match=r"discriminators\.judge\.options: .*'sizes'.*known: features"):
        build(gan(photos, tmp_path, 1, "discriminators.judge.options.sizes=2"))
    with pytest.raises(ConfigError, match=r"discriminators\.judge\.loss_options: .*'real_label'"):
        build(gan(photos, tmp_path, 1, "discriminators.judge.loss_options.real_label=0.8"))
