"""A training that diverges ends with an error that says how to go on, and none that goes well does."""

from __future__ import annotations

import pytest
import torch

from hypir_core.errors import TrainingDivergedError
from tests.train.tiny_runs import tiny
from train.run import recipe
from train.run.building import build
from train.run.checkpoint_folders import newest_checkpoint
from train.run.divergence import LEAST_REMEMBERED, PATIENCE, Watch
from train.run.recipe import generator_step, train

pytestmark = pytest.mark.tiny


def test_a_finite_explosion_is_no_success(photos, tmp_path):
    explosive = [
        "generator.optimiser.lr=1e6",
        "generator.optimiser.warmup_steps=0",
        "generator.optimiser.clip_norm=0",
    ]
    with pytest.raises(TrainingDivergedError, match="start again with a lower learning rate"):
        train(tiny(photos, tmp_path, 40, *explosive, "checkpoint.every=100"))
    assert not (tmp_path / "generator.safetensors").exists()


def test_a_loss_far_above_its_median_is_found_after_some_patience():
    watch = Watch(image_losses=frozenset({"l1"}))
    for step in range(LEAST_REMEMBERED):
        watch.check(step, {"l1": torch.tensor(0.02), "judge": torch.tensor(0.0)})
    for step in range(PATIENCE - 1):
        watch.check(step, {"l1": torch.tensor(300.0), "judge": torch.tensor(5000.0)})
    watch.check(0, {"l1": torch.tensor(0.02)})  # it came back
    for step in range(PATIENCE - 1):
        watch.check(step, {"l1": torch.tensor(300.0)})
    with pytest.raises(TrainingDivergedError, match=r"step 7: l1, which was 0\.02 before, = 300"):
        watch.check(7, {"l1": torch.tensor(300.0)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e17, -2e8])
def test_any_term_beyond_all_bounds_is_found_at_once(value):
    with pytest.raises(TrainingDivergedError, match="step 3: judge_r1 = "):
        Watch(image_losses=frozenset()).check(3, {"l1": torch.tensor(0.1), "judge_r1": torch.tensor(value)})


def test_losses_as_they_are_do_not_alarm():
    """Falling to nothing, crossing zero, one bad batch, a penalty of thousands."""
    watch = Watch(image_losses=frozenset({"l2"}))
    for step in range(400):
        l2 = 3.0 if step % 50 == 49 else 1.0 / (1 + step) ** 2
        judge = (-1) ** step * 40.0
        watch.check(step, {"l2": torch.tensor(l2), "judge": torch.tensor(judge), "r1": torch.tensor(9e3)})


def test_weights_that_are_not_finite_never_reach_a_checkpoint(photos, tmp_path, monkeypatch):
    def poisoned(run, *rest):
        generated = generator_step(run, *rest)
        with torch.no_grad():
            next(run.player.module.parameters()).fill_(float("inf"))
        return generated

    monkeypatch.setattr(recipe, "generator_step", poisoned)
    with pytest.raises(TrainingDivergedError, match="weights of generator"):
        train(tiny(photos, tmp_path, 1))
    assert newest_checkpoint(tmp_path) is None


def test_the_way_out_of_a_divergence_is_accepted(photos, tmp_path, monkeypatch):
    """Every command that the message gives goes on."""
    common = ["checkpoint.every=1", "checkpoint.keep_last=5"]
    real = recipe.generator_step

    def diverging(run, step, step_log):
        if step == 3:
            raise TrainingDivergedError(step, "l1", float("nan"))
        return real(run, step, step_log)

    monkeypatch.setattr(recipe, "generator_step", diverging)
    with pytest.raises(TrainingDivergedError) as caught:
        train(tiny(photos, tmp_path, 6, *common))
    said = str(caught.value)
    assert "step-00000003 is whole" in said
    advised = [word.rstrip(".") for word in said.split() if word.startswith(("checkpoint.", "generator."))]
    assert advised == [
        "checkpoint.resume=all", "generator.optimiser.lr=0.001", "checkpoint.resume_from=step-00000001",
    ]  # fmt: skip
    monkeypatch.undo()
    assert build(tiny(photos, tmp_path, 6, *common, *advised)).start == 1
    train(tiny(photos, tmp_path, 6, *common, *advised[:2]))
    assert newest_checkpoint(tmp_path).name == "step-00000006"
