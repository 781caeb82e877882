"""Photon thinning: two measurements of one light that know nothing of each other, and a score without a truth."""

from __future__ import annotations

import pytest
import torch

from hypir_core.errors import ConfigError
from hypir_core.physics.data_terms import Measurement
from hypir_core.physics.operator import PsfOperator
from hypir_core.physics.psf import gaussian_psf
from hypir_core.physics.thinning import deviance, thinned


def test_halves_add_up_and_are_independent_counts():
    counts = torch.poisson(torch.full((1, 1, 200, 200), 7.0), generator=torch.Generator().manual_seed(0))
    first, second = thinned(counts, 0.8, torch.Generator().manual_seed(1))
    assert torch.equal(first + second, counts)
    for half, mean in ((first, 5.6), (second, 1.4)):
        assert float(half.mean()) == pytest.approx(mean, rel=0.02)
        assert float(half.var()) == pytest.approx(mean, rel=0.03)  # Poisson
    together = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]
    assert abs(float(together)) < 0.02


def test_what_is_no_number_stays_none():
    y = torch.tensor([[[[3.0, float("nan")], [-2.0, 4.4]]]])
    first, second = thinned(y, 0.5, torch.Generator().manual_seed(0))
    assert first.isnan().tolist() == second.isnan().tolist() == y.isnan().tolist()
    assert float(first[0, 0, 1, 0]) == 0
    assert float((first + second)[0, 0, 1, 1]) == 4
    with pytest.raises(ConfigError, match="between 0 and 1, got 1"):
        thinned(y, 1.0, torch.Generator())


@pytest.mark.parametrize("level", [0.1, 2.0, 40.0])
def test_the_true_light_explains_most_however_few_the_counts(level):
    operator = PsfOperator(gaussian_psf((1.0, 1.0)))
    light = torch.full((1, 1, 150, 150), level)
    y = torch.poisson(operator.A(light) + 0.05, generator=torch.Generator().manual_seed(2))
    measured = Measurement(y=y, operator=operator, background_e=0.05)
    at = {factor: float(deviance(factor * light, measured)) for factor in (0.8, 1.0, 1.25)}
    assert at[1.0] < min(at[0.8], at[1.25])
    if level == 40:
        assert at[1.0] == pytest.approx(1, abs=0.05)
    masked = Measurement(y=y.masked_fill(y > y.median(), float("nan")), operator=operator)
    assert deviance(light, masked).isfinite().all()
