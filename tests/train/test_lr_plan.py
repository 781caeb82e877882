"""Learning rates: the original's warm-up and plateau, torch's one cycle, clipping by value."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from hypir_core.errors import ConfigError
from train.config import Least, LrShape, Optimiser, OptimiserConfig, PlateauConfig, Warmup
from train.lr_plan import Plateau, lr_factor
from train.optimisers import build_optimiser
from train.players import build_player, optimiser_step


@pytest.mark.parity
def test_warm_up_and_plateau_are_the_originals(golden):
    about = json.loads((golden / "opensr" / "training.json").read_text())["lr"]
    for name, rates in about["warmup"].items():
        shape, steps = name.split("_")
        config = OptimiserConfig(
            lr=about["base_lr"], warmup=Warmup(shape), warmup_steps=int(steps), warmup_floor=0.05
        )
        found = [config.lr * lr_factor(config, move, 10_000) for move in range(len(rates))]
        assert found == pytest.approx(rates, rel=1e-6), name
    said = about["plateau"]
    names = {
        "patience": "patience",
        "cooldown": "cooldown",
        "factor": "factor",
        "threshold": "threshold",
        "min_lr": "least",
    }
    plateau = Plateau(
        PlateauConfig(**{ours: said[theirs] for theirs, ours in names.items()}), about["base_lr"]
    )
    seen = []
    for number, value in enumerate(said["metric"]):
        if number == 6:  # as after a resume
            again = Plateau(plateau.config, plateau.lr)
            again.load_state_dict(json.loads(json.dumps(plateau.state_dict())))
            plateau = again
        plateau.look(value)
        seen.append(about["base_lr"] * plateau.factor)
    assert seen == pytest.approx(said["lr_after"], rel=1e-6)


def test_more_may_be_better_and_the_rate_has_a_floor():
    plateau = Plateau(PlateauConfig(better=Least.more, patience=0, factor=0.1, least=2e-4), 1e-3)
    assert [plateau.look(value) for value in (1.0, 2.0, 1.9, 1.9)] == [False, False, True, False]
    assert plateau.factor == pytest.approx(0.2)


def test_one_cycle_is_torchs():
    config = OptimiserConfig(lr=1.0, lr_schedule=LrShape.onecycle)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1.0, total_steps=40, cycle_momentum=False)
    for move in range(40):
        assert lr_factor(config, move, 40) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-6)
        optimiser.step()
        if move < 39:
            torchs.step()


def test_a_plateau_lowers_what_the_curve_gives_and_lives_in_checkpoints():
    config = OptimiserConfig(lr=0.1, warmup_steps=2, plateau=PlateauConfig(metric="val/l1", patience=0))
    make = lambda: build_player(  # noqa: E731
        "generator", nn.Linear(1, 1), config, ema=None, accelerator=Accelerator(cpu=True), max_steps=9
    )
    player = make()
    rate = lambda p: float(p.optimiser.param_groups[0]["lr"])  # noqa: E731
    assert not player.look_at({"val/l1": 1.0})
    assert player.look_at({"val/l1": 1.0})
    assert rate(player) == pytest.approx(0.1 * 0.5 * 0.5)
    player.module(torch.ones(1, 1)).sum().backward()
    optimiser_step(player, Accelerator(cpu=True), 0)
    assert rate(player) == pytest.approx(0.1 * 1.0 * 0.5)
    other = make()
    other.load_state_dict(player.state_dict(Accelerator(cpu=True)), Accelerator(cpu=True))
    assert other.plateau is not None
    assert (rate(other), other.plateau.factor) == (pytest.approx(0.05), 0.5)
    with pytest.raises(ConfigError, match=r"generator: val/l1 is not measured .*there is: val/sam"):
        player.look_at({"val/sam": 1.0})


def test_gradients_are_cut_by_value_and_slopes_decay_on_request():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.PReLU())
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    config = OptimiserConfig(
        kind=Optimiser.adam, clip_norm=0, clip_value=0.25, weight_decay=0.1, decay_slopes=True
    )
    player = build_player("generator", net, config, ema=None, accelerator=Accelerator(cpu=True), max_steps=1)
    assert len(build_optimiser("g", net, config).param_groups[0]["params"]) == 2
    seen = []
    player.optimiser.optimizer.register_step_pre_hook(
        lambda optimiser, *_: seen.extend(
            p.grad.abs().max() for g in optimiser.param_groups for p in g["params"]
        )
    )
    (100 * player.module(torch.full((1, 1), -1.0))).sum().backward()
    assert float(optimiser_step(player, Accelerator(cpu=True), 0)) > 10
    assert [round(float(each), 6) for each in seen] == [0.25, 0.25]
    with pytest.raises(ConfigError, match="clip_norm must be 0 with clip_value"):
        OptimiserConfig(clip_value=1.0)


def test_every_player_has_a_threshold_of_its_own_and_0_is_none():
    """What the optimiser gets, not what is reported: that is the norm before."""
    accelerator = Accelerator(cpu=True)
    given = {}
    for name, threshold in (("generator", 0.5), ("judge", 2.0), ("free", 0.0)):
        net = nn.Linear(3, 1, bias=False)
        config = OptimiserConfig(clip_norm=threshold)
        player = build_player(name, net, config, ema=None, accelerator=accelerator, max_steps=1)
        player.optimiser.optimizer.register_step_pre_hook(
            lambda *_, name=name, net=net: given.update({name: float(net.weight.grad.norm())})
        )
        (30 * player.module(torch.ones(1, 3))).sum().backward()
        assert float(optimiser_step(player, accelerator, 0)) == pytest.approx(30 * 3**0.5)
    assert given == {
        "generator": pytest.approx(0.5),
        "judge": pytest.approx(2.0),
        "free": pytest.approx(30 * 3**0.5),
    }
