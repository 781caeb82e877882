from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from hypir_core.errors import ConfigError, HypirError, MissingDependencyError
from train.config import CheckpointConfig, EmaConfig, LrShape, Optimiser, OptimiserConfig
from train.data.stream import Position
from train.players import Player, build_player, lr_factor, optimiser_step, trained_state
from train.run import checkpoint
from train.run.checkpoint import Best, load_checkpoint, newest_checkpoint, save_checkpoint


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def make_player(accelerator: Accelerator, *, steps: int) -> Player:
    torch.manual_seed(0)
    module = nn.Sequential(
        spectral_norm(nn.Linear(4, 3)), nn.BatchNorm1d(3).requires_grad_(False), nn.Linear(3, 2)
    )
    config = OptimiserConfig(lr=1e-2, lr_schedule=LrShape.linear)
    player = build_player(
        "generator", module, config, ema=EmaConfig(decay=0.5), accelerator=accelerator, max_steps=20
    )
    for step in range(steps):
        player.module(torch.ones(2, 4)).square().sum().backward()
        optimiser_step(player, accelerator, step)
    return player


def save(root: Path, player: Player, accelerator: Accelerator, step: int, **changes) -> Path:
    options = {
        "position": Position(batches=step, fresh=9, pool=(1, 5)),
        "best": None,
        "settings": {"seed": 1, "data.batch_size": 4},
        "keep": CheckpointConfig(keep_last=2),
    } | changes
    return save_checkpoint(root, step=step, players={"generator": player}, accelerator=accelerator, **options)


def test_only_what_is_trained_and_its_buffers_are_kept(accelerator):
    names = set(trained_state(make_player(accelerator, steps=0).module))
    assert "0.parametrizations.weight.original" in names
    assert "0.parametrizations.weight.0._u" in names
    assert not any(name.startswith("1.") for name in names)


def test_everything_comes_back(tmp_path, accelerator):
    player = make_player(accelerator, steps=3)
    torch.rand(3)
    best = Best(step=2, metric="psnr_y", value=30.0)
    folder = save(tmp_path, player, accelerator, 3, best=best)
    expected_draw = torch.rand(4)
    other = make_player(accelerator, steps=7)
    resumed = load_checkpoint(
        folder,
        players={"generator": other},
        settings={"seed": 1, "data.batch_size": 4},
        accelerator=accelerator,
    )
    assert resumed.step == 3
    assert resumed.position == Position(batches=3, fresh=9, pool=(1, 5))
    assert resumed.best == best
    assert torch.equal(torch.rand(4), expected_draw)
    for restored, original in (
        (trained_state(other.module), trained_state(player.module)),
        (other.ema.shadow, player.ema.shadow),
    ):
        assert all(torch.equal(restored[name], original[name]) for name in original)
    assert other.lr_schedule.get_last_lr() == player.lr_schedule.get_last_lr()


@pytest.mark.parametrize("interrupted_by", [KeyboardInterrupt, OSError("No space left on device")])
def test_an_interrupted_write_leaves_the_previous_one_whole(
    tmp_path, accelerator, monkeypatch, interrupted_by
):
    player = make_player(accelerator, steps=1)
    save(tmp_path, player, accelerator, 1)
    real_write = checkpoint._write

    def write_half(path: Path, content):
        real_write(path, content)
        if path.name == "players.pt":
            path.write_bytes(path.read_bytes()[:100])
            raise interrupted_by

    monkeypatch.setattr(checkpoint, "_write", write_half)
    with pytest.raises((HypirError, KeyboardInterrupt)) as caught:
        save(tmp_path, player, accelerator, 2)
    if isinstance(interrupted_by, OSError):
        assert "step-00000001 is whole" in str(caught.value)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000001"
    monkeypatch.undo()
    load_checkpoint(
        newest,
        players={"generator": player},
        settings={"seed": 1, "data.batch_size": 4},
        accelerator=accelerator,
    )


def test_keeps_the_last_ones_and_the_best(tmp_path, accelerator):
    player = make_player(accelerator, steps=1)
    for step in range(1, 6):
        save(
            tmp_path,
            player,
            accelerator,
            step,
            best=Best(step=2, metric="psnr_y", value=1.0) if step >= 2 else None,
        )
    left = sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir())
    assert left == ["step-00000002", "step-00000004", "step-00000005"]


def test_other_settings_are_refused_key_by_key(tmp_path, accelerator):
    player = make_player(accelerator, steps=1)
    folder = save(tmp_path, player, accelerator, 1)
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(
            folder,
            players={"generator": player},
            settings={"seed": 2, "data.batch_size": 8},
            accelerator=accelerator,
        )
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["data.batch_size", "seed"]


def test_lr_follows_warmup_then_the_curve():
    config = OptimiserConfig(lr=1e-3, lr_end=1e-4, lr_schedule=LrShape.cosine, warmup_steps=4)
    factors = [lr_factor(config, move, 24) for move in (0, 3, 4, 14, 24, 99)]
    assert factors == pytest.approx([0.25, 1.0, 1.0, 0.55, 0.1, 0.1])


def test_the_8_bit_optimiser_says_what_it_needs(accelerator, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(
        MissingDependencyError, match=r"optimiser\.kind=adamw8bit of generator .* pip install bitsandbytes"
    ):
        eight_bit_player(accelerator)


def test_the_8_bit_optimiser_goes_on_where_it_stopped(accelerator, tmp_path):
    pytest.importorskip("bitsandbytes")
    player = eight_bit_player(accelerator)
    step_on_ones(player, accelerator, 3)
    torch.save(player.state_dict(accelerator), tmp_path / "state.pt")
    again = eight_bit_player(accelerator)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), accelerator)
    for each in (player, again):
        step_on_ones(each, accelerator, 1)
    assert torch.equal(player.module.weight, again.module.weight)


def eight_bit_player(accelerator: Accelerator) -> Player:
    torch.manual_seed(0)
    config = OptimiserConfig(kind=Optimiser.adamw8bit, lr=1e-3)
    return build_player(
        "generator", nn.Linear(128, 128), config, ema=None, accelerator=accelerator, max_steps=9
    )


def step_on_ones(player: Player, accelerator: Accelerator, steps: int) -> None:
    for step in range(steps):
        player.module(torch.ones(2, 128)).square().sum().backward()
        optimiser_step(player, accelerator, step)


def test_a_gradient_is_clipped_and_its_own_norm_reported(accelerator):
    player = make_player(accelerator, steps=0)
    (1e3 * player.module(torch.ones(2, 4))).sum().backward()
    reported = optimiser_step(player, accelerator, 0)
    assert float(reported) > 100
