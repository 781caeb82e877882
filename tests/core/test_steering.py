"""Kernel density steering does what its formula promises, whatever the numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.diffusion.edits.steering import Steering, nearest_to_mean
from hypir_core.diffusion.samplers.base import Step
from hypir_core.errors import ConfigError

ONLY = Step(index=0, of=1, t=999, a_bar=0.005, a_bar_next=1.0)
SIZES = st.tuples(st.integers(2, 6), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))


def particles(n: int, c: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, c, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(size=SIZES, patch=st.integers(1, 3), seed=st.integers(0, 99))
def test_what_holds_for_any_particles(size, patch, seed):
    x0 = particles(*size, seed)
    mean = x0.mean(0, keepdim=True)
    whole = Steering(strength=1.0, begins=0.0, patch=patch)

    assert torch.equal(whole(x0[:1], ONLY), x0[:1])
    assert torch.equal(Steering(strength=0.0)(x0, ONLY), x0)
    equal = mean.expand(size[0], -1, -1, -1)
    torch.testing.assert_close(whole(equal, ONLY), equal, atol=1e-12, rtol=0)
    # A kernel that is flat for them all leads to their mean, δ of the way.
    wide = Steering(strength=0.4, begins=0.0, bandwidth=1e6, patch=patch)(x0, ONLY)
    torch.testing.assert_close(wide, x0 + 0.4 * (mean - x0), atol=1e-6, rtol=0)
    # A kernel that sees nobody else leaves everyone where it is.
    narrow = Steering(strength=1.0, begins=0.0, bandwidth=1e-6, patch=patch)(x0, ONLY)
    torch.testing.assert_close(narrow, x0, atol=1e-9, rtol=0)
    # Who is called first does not matter, nor where zero lies.
    order = torch.randperm(size[0], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(whole(x0[order], ONLY), whole(x0, ONLY)[order], atol=1e-9, rtol=0)
    torch.testing.assert_close(whole(x0 + 3, ONLY), whole(x0, ONLY) + 3, atol=1e-9, rtol=0)


def test_the_larger_cluster_draws():
    """Seven particles near +1 and three near −1: each goes to its own, and with a wide kernel to the larger one."""
    noise = 0.05 * particles(10, 4, 4, 4)
    x0 = noise + torch.tensor([1.0] * 7 + [-1.0] * 3, dtype=torch.float64).view(10, 1, 1, 1)
    own = Steering(strength=1.0, begins=0.0, bandwidth=0.5)(x0, ONLY)
    assert own[:7].mean() > 0.95
    assert own[7:].mean() < -0.95
    assert own[:7].std(0).mean() < 0.2 * x0[:7].std(0).mean()
    shared = Steering(strength=1.0, begins=0.0, bandwidth=50.0)(x0, ONLY)
    assert shared.mean((1, 2, 3)).min() > 0.35  # the mean of all is 0.4
    assert nearest_to_mean(x0) < 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_does_not_choose_between_two(dtype):
    """Both are as near to their mean as the other: the first is kept, whatever the last digits say."""
    for seed in range(20):
        assert nearest_to_mean(particles(2, 4, 5, 7, seed).to(dtype)) == 0
    three = particles(3, 4, 5, 7)
    three[2] = three[:2].mean(0)
    assert nearest_to_mean(three.to(dtype)) == 2


@pytest.mark.parametrize(
    ("index", "of", "steers"), [(0, 1, True), (0, 4, False), (1, 4, False), (2, 4, True)]
)
def test_steering_begins_late_and_one_step_always_steers(index, of, steers):
    x0 = particles(3, 1, 4, 4)
    step = Step(index=index, of=of, t=500, a_bar=0.5, a_bar_next=0.6)
    assert (Steering(begins=0.5)(x0, step) is not x0) is steers


def test_numbers_that_make_no_sense_are_named_together():
    with pytest.raises(ConfigError) as caught:
        Steering(strength=2, begins=-1, bandwidth=0.0, patch=0)
    for words in (
        "strength must lie in 0 … 1, got 2",
        "begins",
        "bandwidth must be above 0",
        "1 cell or more",
    ):
        assert words in str(caught.value)
