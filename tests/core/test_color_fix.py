"""adain, lab, and every fix on a whole picture against the same fix in blocks."""

from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color as skcolor
from skimage.exposure import match_histograms

from hypir_core.color.adain import adain_color_fix
from hypir_core.color.blocks import rewrite_blocks_
from hypir_core.color.fix import ColorFix, apply_color_fix_, color_fix
from hypir_core.color.histogram import match_histogram
from hypir_core.color.lab import lab_color_fix, lab_to_rgb, rgb_to_lab
from hypir_core.color.statistics import channel_statistics
from hypir_core.color.wavelet import low_frequencies
from hypir_core.errors import Cancelled, ConfigError, RangeError, ShapeError, UnknownNameError
from hypir_core.image.resize import resize, resize_part


def pair(height, width, *, channels=3, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    content, reference = torch.rand(2, batch, channels, height, width, generator=generator)
    return content, 0.2 + 0.5 * reference


def test_adain_gives_every_channel_the_mean_and_spread_of_the_reference():
    content, reference = pair(30, 41, channels=4, batch=2)
    fixed = adain_color_fix(content, reference)
    for measure in (torch.mean, torch.std):
        torch.testing.assert_close(
            measure(fixed, dim=(2, 3)), measure(reference, dim=(2, 3)), atol=1e-5, rtol=0
        )


def test_adain_shifts_a_flat_channel_and_does_not_blow_up_its_noise():
    content = torch.full((1, 1, 16, 16), 0.5) + 1e-7 * torch.randn(1, 1, 16, 16, generator=torch.Generator())
    reference = pair(16, 16, channels=1)[1]
    fixed = adain_color_fix(content, reference)
    torch.testing.assert_close(fixed, torch.full_like(fixed, reference.mean().item()), atol=1e-3, rtol=0)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_statistics_of_two_parts_merge_into_those_of_the_whole(height, width, cut, seed):
    image = torch.from_numpy(np.random.default_rng(seed).normal(3, 0.1, (1, 2, height, width)))
    whole = channel_statistics(image)
    cut = min(cut, height - 1)
    merged = channel_statistics(image[:, :, cut:])
    if cut:
        merged = channel_statistics(image[:, :, :cut]).merge(merged)
    assert merged.count == height * width
    np.testing.assert_allclose(merged.mean[..., 0, 0], image.mean((2, 3)), rtol=1e-6)
    np.testing.assert_allclose(merged.variance[..., 0, 0], image.numpy().var((2, 3)), atol=1e-6)
    torch.testing.assert_close(merged.variance, whole.variance, atol=1e-7, rtol=0)


@pytest.mark.parametrize("levels", [256, 65536])
def test_histogram_agrees_with_skimage_and_with_the_exact_rule(levels):
    content, reference = ((x * (levels - 1)).round() / (levels - 1) for x in pair(60, 80, batch=2))
    reference = ((reference**2) * (levels - 1)).round() / (levels - 1)
    fixed = color_fix(content, reference, mode=ColorFix.histogram, strength=1)
    for one, true, got in zip(content, reference, fixed, strict=True):
        expected = match_histograms(one.numpy(), true.numpy(), channel_axis=0)
        np.testing.assert_allclose(got.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(fixed.numpy(), match_histogram(content, reference).numpy(), atol=2e-5)


def test_lab_agrees_with_skimage():
    image = np.random.default_rng(1).random((37, 29, 3))
    image[0] = np.linspace(0, 1, 29)[:, None]  # greys, black and white included
    ours = rgb_to_lab(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    # skimage rounds the matrix and the white point to fewer digits.
    np.testing.assert_allclose(ours, skcolor.rgb2lab(image), atol=0.02)
    np.testing.assert_allclose(ours[0, :, 1:], 0, atol=1e-4)
    back = lab_to_rgb(torch.from_numpy(skcolor.rgb2lab(image)).permute(2, 0, 1)[None])
    np.testing.assert_allclose(back[0].permute(1, 2, 0).numpy(), image, atol=3e-4)


def test_lab_gives_back_what_it_got_also_outside_the_unit_range():
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(3)) * 1.4 - 0.2
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(image)), image, atol=1e-5, rtol=0)


def test_lab_fix_takes_coarse_chroma_and_keeps_lightness():
    content, reference = (0.3 + 0.4 * x for x in pair(70, 90))  # far from the gamut's edge
    before, target, after = (rgb_to_lab(x) for x in (content, reference, lab_color_fix(content, reference)))
    torch.testing.assert_close(after[:, :1], before[:, :1], atol=1e-3, rtol=0)
    expected = before[:, 1:] - low_frequencies(before[:, 1:]) + low_frequencies(target[:, 1:])
    torch.testing.assert_close(after[:, 1:], expected, atol=2e-3, rtol=0)


def test_lab_leaves_grey_pictures_alone_and_refuses_other_channel_counts():
    content, reference = pair(9, 9, channels=1)
    assert torch.equal(color_fix(content, reference, mode=ColorFix.lab, strength=1), content)
    content, reference = pair(9, 9, channels=4)
    with pytest.raises(ShapeError, match="wavelet or adain"):
        color_fix(content, reference, mode=ColorFix.lab, strength=1)


@pytest.mark.parametrize("mode", [ColorFix.wavelet, ColorFix.adain, ColorFix.lab, ColorFix.histogram])
def test_strength_mixes_linearly(mode):
    content, reference = pair(20, 24)
    full = color_fix(content, reference, mode=mode, strength=1)
    assert (full - content).abs().max() > 0.01
    quarter = color_fix(content, reference, mode=mode, strength=0.25)
    torch.testing.assert_close(quarter, 0.75 * content + 0.25 * full, atol=1e-6, rtol=0)
    assert torch.equal(color_fix(content, reference, mode=mode, strength=0), content)


def test_none_changes_nothing():
    content, reference = pair(8, 8)
    assert torch.equal(color_fix(content, reference, mode=ColorFix.none, strength=1), content)
    assert torch.equal(apply_color_fix_(content.clone(), reference, mode=ColorFix.none, strength=1), content)


@given(
    height=st.sampled_from([1, 2, 29, 31, 32, 61, 64, 97, 131]),
    width=st.sampled_from([1, 3, 31, 53, 62, 100, 127]),
    block_px=st.sampled_from([31, 32, 37, 50, 64, 1024]),
    channels=st.sampled_from([1, 3]),
    mode=st.sampled_from(ColorFix),
    strength=st.sampled_from([0.3, 1.0]),
    lazily=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_blocks_give_what_the_whole_gives(height, width, block_px, channels, mode, strength, lazily):
    content, reference = pair(height, width, channels=channels, batch=2, seed=height * width)
    expected = color_fix(content, reference, mode=mode, strength=strength)

    def part(y0, y1, x0, x1):
        return reference[..., y0:y1, x0:x1]

    given_reference = part if lazily else reference
    blocked = apply_color_fix_(content, given_reference, mode=mode, strength=strength, block_px=block_px)
    assert blocked is content
    # A power rounds differently at the end of a vector; L*a*b* to sRGB magnifies that up to 40 times.
    torch.testing.assert_close(blocked, expected, atol=1e-5 if mode is ColorFix.lab else 1e-6, rtol=0)


def test_a_lazily_resized_reference_gives_what_the_resized_one_gives():
    small = torch.rand(1, 3, 23, 31, generator=torch.Generator().manual_seed(8))
    content = pair(92, 124)[0]
    expected = color_fix(content, resize(small, (92, 124)), mode=ColorFix.wavelet, strength=1)
    apply_color_fix_(
        content,
        lambda y0, y1, x0, x1: resize_part(small, (92, 124), (y0, y1), (x0, x1)),
        mode=ColorFix.wavelet,
        strength=1,
        block_px=40,
    )
    torch.testing.assert_close(content, expected, atol=1e-6, rtol=0)


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    halo_px=st.integers(0, 7),
    extra_px=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_every_block_sees_its_original_neighbours(height, width, halo_px, extra_px):
    original = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    image = original.clone()

    def negate(clip, box):
        seen = original[..., box.starts[0] : box.ends[0], box.starts[1] : box.ends[1]]
        assert torch.equal(clip, seen)
        return -clip - 1

    for _ in rewrite_blocks_(image, negate, block_px=max(1, halo_px + extra_px), halo_px=halo_px):
        pass
    assert torch.equal(image, -original - 1)


def test_half_precision_pictures_are_computed_in_float32():
    content, reference = pair(40, 40)
    expected = color_fix(content.half(), reference, mode=ColorFix.wavelet, strength=1)
    half = apply_color_fix_(content.half(), reference, mode=ColorFix.wavelet, strength=1)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), expected, atol=5e-4, rtol=0)


@pytest.mark.parametrize(
    ("mode", "steps"), [(ColorFix.wavelet, 6), (ColorFix.adain, 12), (ColorFix.histogram, 12)]
)
def test_progress_counts_every_block_of_every_pass(mode, steps):
    content, reference = pair(80, 120)
    ticks = []
    apply_color_fix_(content, reference, mode=mode, strength=1, block_px=40, progress=ticks.append)
    assert [(tick.done, tick.total) for tick in ticks] == [(n + 1, steps) for n in range(steps)]


def test_cancelling_stops_before_the_next_block():
    content, reference = pair(80, 80)
    ticks = []
    with pytest.raises(Cancelled):
        apply_color_fix_(
            content,
            reference,
            mode=ColorFix.wavelet,
            strength=1,
            block_px=40,
            progress=ticks.append,
            should_stop=lambda: len(ticks) == 2,
        )
    assert len(ticks) == 2


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_strength_must_be_from_0_to_1(strength):
    content, reference = pair(4, 4)
    for run in (color_fix, apply_color_fix_):
        with pytest.raises(RangeError, match="from 0"):
            run(content, reference, mode=ColorFix.wavelet, strength=strength)


def test_bad_input_is_named():
    content, reference = pair(40, 40)
    with pytest.raises(UnknownNameError, match="did you mean 'wavelet'"):
        color_fix(content, reference, mode=cast("ColorFix", "wavlet"), strength=1)
    with pytest.raises(ConfigError, match="at least 31 px, got 30"):
        apply_color_fix_(content, reference, mode=ColorFix.wavelet, strength=1, block_px=30)
    with pytest.raises(ConfigError, match="at least 1 px, got 0"):
        apply_color_fix_(content, reference, mode=ColorFix.adain, strength=1, block_px=0)
    with pytest.raises(ShapeError, match="resize the reference"):
        apply_color_fix_(content, lambda *_: reference[..., :3], mode=ColorFix.adain, strength=1)
    with pytest.raises(ShapeError, match="resize the reference"):
        apply_color_fix_(content, reference[..., :3], mode=ColorFix.wavelet, strength=1)
