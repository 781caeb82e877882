"""Operator, camera, data terms, guidance, point spreads and deconvolution: laws, any axes, bad pixels, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypir_core.diffusion.samplers.base import Step
from hypir_core.errors import ConfigError, FileError, ShapeError
from hypir_core.image.ranges.line import Range
from hypir_core.physics.camera import Camera
from hypir_core.physics.data_terms import Measurement, Term, chi_squared, gradient, value
from hypir_core.physics.deconvolve import richardson_lucy
from hypir_core.physics.guidance import Guidance, Rule
from hypir_core.physics.operator import Boundary, PsfOperator
from hypir_core.physics.psf import gaussian_psf, off_centre_px, psf_from_beads, read_psf, sigma_px

DOUBLE = torch.float64
STEP = Step(index=1, of=4, t=500, a_bar=0.5, a_bar_next=0.8)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), boundary=st.sampled_from(list(Boundary)))
def test_the_adjoint_is_exact(data, boundary):
    psf = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    size = [data.draw(st.integers(5, 9)) for _ in psf]
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    operator = PsfOperator(torch.rand(psf, generator=rng, dtype=DOUBLE) + 0.1, boundary=boundary)
    x, z = torch.randn(2, 2, 1, *size, generator=rng, dtype=DOUBLE)
    left, right = (operator.A(x) * z).sum(), (x * operator.At(z)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12, abs=1e-12)
    if boundary is not Boundary.zero:
        torch.testing.assert_close(operator.A(torch.ones_like(x)), torch.ones_like(x))


@pytest.mark.parametrize("boundary", list(Boundary))
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_blur_and_larger_pixels_have_an_exact_adjoint_too(rng, boundary, axes):
    """Light is counted, not averaged: what a large pixel sees is the sum of the small ones."""
    psf = torch.rand((3, 2, 4)[:axes], generator=rng, dtype=DOUBLE) + 0.1
    fine, operator = PsfOperator(psf, boundary=boundary), PsfOperator(psf, boundary=boundary, shrink=3)
    x = torch.rand(2, 1, *(12, 9, 6)[:axes], generator=rng, dtype=DOUBLE)
    seen = operator.A(x)
    assert seen.shape == (2, 1, *(4, 3, 2)[:axes])
    assert float(seen.sum()) == pytest.approx(float(fine.A(x).sum()), rel=1e-12)
    assert float(seen.flatten()[0]) == pytest.approx(
        float(fine.A(x)[(0, 0, *[slice(0, 3)] * axes)].sum()), rel=1e-12
    )
    z = torch.randn(seen.shape, generator=rng, dtype=DOUBLE)
    assert float((seen * z).sum()) == pytest.approx(float((x * operator.At(z)).sum()), rel=1e-12)
    with pytest.raises(ShapeError, match="sums over 3 px need sides that it divides"):
        operator.A(x[:, :, 1:])
    with pytest.raises(ConfigError, match="shrink must be a whole number of 1 or more"):
        PsfOperator(psf, shrink=0)


@pytest.mark.parametrize("term", list(Term))
def test_a_measurement_of_larger_pixels_leads_to_a_finer_picture(rng, term):
    """The gradient is that of the value, and a few steps explain the measurement better."""
    truth = torch.rand(1, 1, 12, 12, generator=rng, dtype=DOUBLE).square() * 40
    operator = PsfOperator(gaussian_psf((1.0, 1.0), size_px=(5, 5)), shrink=2)
    measured = Measurement(
        y=torch.poisson(operator.A(truth) + 2, generator=rng), operator=operator, background_e=2.0
    )
    x = torch.full_like(truth, 10.0).requires_grad_()
    value(term, x, measured).sum().backward()
    torch.testing.assert_close(gradient(term, x.detach(), measured), x.grad, rtol=1e-9, atol=1e-9)
    found = richardson_lucy(measured, steps=30)
    assert found.shape == truth.shape
    assert chi_squared(found, measured) < 0.7 * chi_squared(
        torch.full_like(truth, float(truth.mean())), measured
    )


def test_convention_a_point_comes_out_as_the_point_spread(rng):
    psf = torch.rand(3, 4, generator=rng, dtype=DOUBLE)
    x = torch.zeros(1, 1, 9, 9, dtype=DOUBLE)
    x[..., 4, 5] = 1
    for boundary in Boundary:
        y = PsfOperator(psf, boundary=boundary).A(x)
        torch.testing.assert_close(y[0, 0, 3:6, 3:7], psf / psf.sum(), rtol=1e-12, atol=1e-12)
        assert float(y.sum()) == pytest.approx(1)


def test_boundaries_go_on_as_they_say():
    line = torch.tensor([1.0, 2, 3, 4], dtype=DOUBLE)[None, None]
    from_the_right = torch.tensor([1.0, 0, 0], dtype=DOUBLE)
    expected = {"reflect": 3, "edge": 4, "zero": 0, "periodic": 1}
    for name, last in expected.items():
        assert PsfOperator(from_the_right, boundary=Boundary(name)).A(line)[0, 0].tolist() == pytest.approx(
            [2, 3, 4, last], abs=1e-12
        )


def _measured(
    rng, boundary=Boundary.edge, *, size=(1, 1, 12, 12), read=1.2
) -> tuple[torch.Tensor, Measurement]:
    truth = torch.rand(size, generator=rng, dtype=DOUBLE).square() * 40
    operator = PsfOperator(
        gaussian_psf((1.0,) * (len(size) - 2), size_px=(5,) * (len(size) - 2)), boundary=boundary
    )
    y = torch.poisson(operator.A(truth).clamp(min=0) + 2, generator=rng)
    y = y + read * torch.randn(size, generator=rng, dtype=DOUBLE)
    return truth, Measurement(y=y, operator=operator, background_e=2.0, read_variance=read**2)


@pytest.mark.parametrize("term", list(Term))
def test_gradients_are_those_of_the_values_with_masked_pixels_and_in_3d(rng, term):
    truth, measured = _measured(rng, size=(2, 1, 6, 7, 6))
    measured.y[0, 0, 2, 3, 1] = math.nan
    measured.y[1, 0, 0, 0, 0] = math.inf
    x = (truth + 1).requires_grad_()
    value(term, x, measured).sum().backward()
    torch.testing.assert_close(gradient(term, x.detach(), measured), x.grad, rtol=1e-9, atol=1e-9)


def test_masked_pixels_say_nothing(rng):
    truth, measured = _measured(rng)
    other = measured.y.clone()
    measured.y[..., 3:5, 3:5] = math.nan
    for term in Term:
        one = gradient(term, truth, measured)
        assert one.isfinite().all()
        assert not torch.equal(
            one, gradient(term, truth, Measurement(y=other, operator=measured.operator, background_e=2.0))
        )
    assert richardson_lucy(measured, steps=20).isfinite().all()
    assert chi_squared(truth, measured).isfinite().all()


def test_chi_squared_is_one_for_the_truth_and_poisson_is_unbiased(rng):
    """With reading noise: without σ² on both sides the estimate of a flat picture would be off by σ²."""
    flat = torch.full((1, 1, 200, 200), 20.0, dtype=DOUBLE)
    operator = PsfOperator(torch.ones(1, 1))
    y = torch.poisson(flat, generator=rng) + 3 * torch.randn(flat.shape, generator=rng, dtype=DOUBLE)
    measured = Measurement(y=y, operator=operator, read_variance=9.0)
    assert float(chi_squared(flat, measured)) == pytest.approx(1, abs=0.03)
    assert float(gradient(Term.pkl, flat, measured).mean()) == pytest.approx(0, abs=0.01)
    assert float(chi_squared(flat * 1.5, measured)) > 2


@pytest.mark.parametrize("term", list(Term))
@pytest.mark.parametrize("rule", [Rule.prox, Rule.seed])
def test_guidance_lowers_its_distance(rng, term, rule):
    truth, measured = _measured(rng)
    units = Range(middle=(20.0,), width=(20.0,))
    x0 = (truth * 0.4 + 5 - 20) / 20
    guided = Guidance(measured=measured, units=units, term=term, rule=rule, strength=1.0, repeats=3)(x0, STEP)
    before, after = (float(value(term, x * 20 + 20, measured)) for x in (x0, guided))
    assert after < before
    assert (guided * 20 + 20 >= -1e-9).all()


def test_multiplicative_with_strength_one_is_richardson_lucy(rng):
    truth, measured = _measured(rng)
    units = Range(middle=(20.0,), width=(20.0,))
    start = torch.full_like(truth, 3.0)
    guided = Guidance(measured=measured, units=units, strength=1.0, repeats=4)((start - 20) / 20, STEP)
    torch.testing.assert_close(guided * 20 + 20, richardson_lucy(measured, steps=4, start=start))


def test_guidance_waits_keeps_images_apart_and_passes_over_bad_numbers(rng, caplog):
    truth, measured = _measured(rng, size=(2, 1, 12, 12))
    units = Range(middle=(20.0,), width=(20.0,))
    x0 = (truth * 0.4 - 15) / 20
    for rule in Rule:
        edit = Guidance(measured=measured, units=units, rule=rule)
        one = Measurement(
            y=measured.y[:1],
            operator=measured.operator,
            background_e=2.0,
            read_variance=measured.read_variance,
        )
        alone = Guidance(measured=one, units=units, rule=rule)(x0[:1], STEP)
        torch.testing.assert_close(edit(x0, STEP)[:1], alone)
        assert torch.equal(Guidance(measured=measured, units=units, rule=rule, begins=0.5)(x0, STEP), x0)
    bad = x0.clone()
    bad[1, 0, 0, 0] = math.nan
    guided = Guidance(measured=measured, units=units)(bad, STEP)
    assert guided[0].isfinite().all()
    assert "guidance gave" in caplog.text


def test_guided_is_nearer_to_the_truth(rng):
    truth = torch.full((1, 1, 16, 16), 5.0, dtype=DOUBLE)
    truth[..., 3, 3:12] = truth[..., 8:13, 8] = 400
    operator = PsfOperator(gaussian_psf((1.2, 1.2)))
    blurred = operator.A(truth)
    measured = Measurement(y=torch.poisson(blurred + 2, generator=rng), operator=operator, background_e=2.0)
    units = Range(middle=(200.0,), width=(200.0,))
    for rule in (Rule.multiplicative, Rule.prox):
        edit = Guidance(measured=measured, units=units, rule=rule, repeats=5)
        guided = edit(blurred / 200 - 1, STEP) * 200 + 200
        assert (guided - truth).square().mean() < 0.8 * (blurred - truth).square().mean(), rule


def test_richardson_lucy_equals_scikit_image(rng):
    restoration = pytest.importorskip("skimage.restoration", reason="scikit-image is not installed")
    truth = torch.zeros(24, 24, dtype=DOUBLE)
    truth[8:16, 9:14] = torch.rand(8, 5, generator=rng, dtype=DOUBLE) + 0.5
    psf = gaussian_psf((1.0, 1.0), size_px=(5, 5))
    operator = PsfOperator(psf, boundary=Boundary.zero)
    y = operator.A(truth[None, None])
    theirs = restoration.richardson_lucy(y[0, 0].numpy(), psf.numpy(), num_iter=10, clip=False)
    ours = richardson_lucy(Measurement(y=y, operator=operator), steps=10, start=torch.full_like(y, 0.5))
    # theirs does not divide by Aᵀ1, which differs from 1 near the edges only; ours has a floor under the rate
    inside = ours[0, 0, 6:18, 6:18]
    torch.testing.assert_close(inside, torch.from_numpy(theirs)[6:18, 6:18], rtol=1e-3, atol=1e-3)


def test_a_camera_writes_what_it_says_and_comes_back(rng):
    camera = Camera(offset_adu=100, gain=2.2, read_noise_e=1.6)
    for electrons, mean, variance in ((0.0, 100.0, 12.39), (5.0, 111.0, 36.59), (1000.0, 2300.0, 4852.39)):
        adu = camera.expose(torch.full((40000,), electrons, dtype=DOUBLE), rng)
        assert float(adu.mean()) == pytest.approx(mean, abs=4 * (variance / 40000) ** 0.5 + 0.01)
        assert float(adu.var()) == pytest.approx(variance + 1 / 12, rel=0.04)
    e = torch.tensor([0.0, 3.5, math.nan], dtype=DOUBLE)
    torch.testing.assert_close(camera.to_electrons(camera.to_adu(e)), e, equal_nan=True)
    eight = Camera(bits=8)
    assert eight.written(torch.tensor([-3.0, 12.4, 300.0])).tolist() == [0, 12, 255]
    assert eight.saturated(torch.tensor([254, 255])).tolist() == [False, True]
    with pytest.raises(ConfigError) as problems:
        Camera(gain=0, offset_adu=70000)
    assert len(problems.value.problems) == 2


def test_widths(tmp_path):
    import numpy as np
    import tifffile

    assert sigma_px(fwhm_nm=235.482, pixel_nm=50) == pytest.approx(2, rel=1e-5)
    assert sigma_px(sigma_nm=100, pixel_nm=50) == 2
    assert gaussian_psf((1.0, 2.0, 0.5)).shape == (9, 17, 5)
    stack = np.stack([np.full((5, 7), 1), np.eye(5, 7) * 900, np.full((5, 7), 2)]).astype("uint16")
    tifffile.imwrite(tmp_path / "psf.tif", stack)
    assert torch.equal(read_psf(tmp_path / "psf.tif"), torch.eye(5, 7, dtype=DOUBLE) / 5)
    assert read_psf(tmp_path / "psf.tif", axes=3).shape == (3, 5, 7)
    (tmp_path / "no.tif").write_text("no")
    with pytest.raises(FileError, match=r"no\.tif: expected a TIFF"):
        read_psf(tmp_path / "no.tif")


def test_beads_give_the_point_spread_they_were_made_with(rng):
    """At parts of a cell, on a background, two too near to each other, one at the edge."""
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    field = torch.full((96, 96), 100.0, dtype=DOUBLE)
    for row, column in ((20.3, 20.7), (20.0, 60.4), (60.6, 25.2), (70.1, 70.0), (75.0, 76.0), (3.0, 48.0)):
        field += 5000 * torch.exp(-((rows - row).square() + (columns - column).square()) / (2 * 1.8**2))
    field = torch.poisson(field, generator=rng)
    field[50, 50] = math.nan
    beads = psf_from_beads(field, size_px=15)
    assert len(beads.places_px) == 3
    for place, wanted in zip(sorted(beads.places_px), ((20, 21), (20, 60), (61, 25)), strict=True):
        assert max(abs(a - b) for a, b in zip(place, wanted, strict=True)) <= 1
    assert max(map(abs, off_centre_px(beads.psf))) < 0.05
    assert (beads.psf - gaussian_psf((1.8, 1.8), size_px=(15, 15))).abs().max() < 0.02 * beads.psf.max()
    with pytest.raises(ConfigError, match="expected beads that stand alone, found none"):
        psf_from_beads(torch.zeros(32, 32), size_px=15)
    with pytest.raises(ConfigError, match="size_px must be odd"):
        psf_from_beads(field, size_px=14)


@pytest.mark.parametrize(
    ("psf", "said"),
    [
        (torch.zeros(3, 3), "a sum of 0"),
        (torch.tensor([1.0, -0.5]), "no negative values, got -0.5"),
        (torch.tensor([1.0, math.nan]), "must be finite"),
        (torch.zeros(0, 3), "needs cells"),
    ],
)
def test_bad_point_spreads(psf, said):
    with pytest.raises(ConfigError, match=said):
        PsfOperator(psf)


def test_bad_pictures():
    operator = PsfOperator(torch.ones(9, 9))
    with pytest.raises(ShapeError, match="light spreads 4 px"):
        operator.A(torch.ones(1, 1, 4, 20))
    with pytest.raises(ShapeError, match="a point spread of 2 axes"):
        operator.A(torch.ones(1, 1, 4))
    larger = PsfOperator(torch.ones(9, 9), boundary=Boundary.edge)
    torch.testing.assert_close(larger.A(torch.ones(1, 1, 4, 20)), torch.ones(1, 1, 4, 20))
