from __future__ import annotations

import math

import pytest
import torch

from train.ema import Ema


def test_closed_form_for_constant_weights():
    start, weights = torch.tensor([0.0, 2.0]), torch.tensor([1.0, -1.0])
    ema = Ema({"w": start}, decay=0.9, warmup=False)
    for _ in range(7):
        ema.update({"w": weights})
    torch.testing.assert_close(ema.shadow["w"], weights + 0.9**7 * (start - weights))


def test_warmup_uses_the_smaller_decay():
    ema = Ema({"w": torch.zeros(1)}, decay=0.5, warmup=True)
    decays = []
    for _ in range(12):
        decays.append(ema.decay_now())
        ema.update({"w": torch.ones(1)})
    assert decays == pytest.approx([min(0.5, (1 + n) / (10 + n)) for n in range(12)])
    assert float(ema.shadow["w"]) == pytest.approx(1 - math.prod(decays), rel=1e-6)


def test_start_is_a_copy_and_whole_numbers_are_copied():
    weights = {"w": torch.zeros(2), "steps": torch.tensor(0)}
    ema = Ema(weights, decay=0.9, warmup=False)
    weights["w"] += 1
    weights["steps"] += 5
    assert ema.shadow["w"].tolist() == [0, 0]
    ema.update(weights)
    assert int(ema.shadow["steps"]) == 5


def test_state_round_trip():
    ema = Ema({"w": torch.zeros(2)}, decay=0.9, warmup=True)
    ema.update({"w": torch.ones(2)})
    other = Ema({"w": torch.full((2,), 9.0)}, decay=0.9, warmup=True)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.shadow["w"], ema.shadow["w"])
    assert other.decay_now() == ema.decay_now()
