import io

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.degrade import jpeg_round_trip
from hypir_core.degrade.jpeg import quantisation_tables
from hypir_core.errors import RangeError, ShapeError

PHOTOS = ("astronaut", "coffee", "cat")


def photo(name):
    return getattr(skimage.data, name)()


def encoded(image_hwc, quality):
    file = io.BytesIO()
    Image.fromarray(image_hwc).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(io.BytesIO(file.getvalue()))


def to_bchw(image_hwc):
    array = np.atleast_3d(image_hwc)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255


def difference(image_hwc, quality):
    """Return |ours − libjpeg| in levels of 255."""
    ours = (jpeg_round_trip(to_bchw(image_hwc), quality)[0] * 255).permute(1, 2, 0).numpy()
    return np.abs(ours - np.atleast_3d(np.asarray(encoded(image_hwc, quality))))


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("quality", [10, 30, 50, 75, 95, 100])
def test_matches_libjpeg_on_photographs(name, quality):
    assert difference(photo(name), quality).mean() < 0.8


@pytest.mark.parametrize("hw", [(1, 1), (1, 40), (33, 1), (2, 3), (7, 17), (16, 16), (37, 51), (99, 100)])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_matches_libjpeg_at_odd_sizes(hw, quality):
    crop = photo("coffee")[100 : 100 + hw[0], 200 : 200 + hw[1]]
    assert difference(crop, quality).mean() <= 1


@pytest.mark.parametrize("quality", [30, 90])
def test_matches_libjpeg_on_grey_pictures(quality):
    assert difference(photo("cat")[:101, :95, 1], quality).mean() < 0.5


@settings(deadline=None)
@given(st.integers(1, 100))
def test_tables_are_those_libjpeg_writes(quality):
    written = getattr(encoded(np.zeros((8, 8, 3), np.uint8), quality), "quantization")  # noqa: B009
    ours = quantisation_tables(torch.tensor([quality]))[0]
    assert ours[0].tolist() == list(written[0])
    assert ours[1].tolist() == list(written[1])


def test_every_picture_has_its_own_quality():
    x = to_bchw(photo("cat")[:64, :80]).repeat(3, 1, 1, 1)
    batch = jpeg_round_trip(x, [20, 60, 95])
    for i, quality in enumerate((20, 60, 95)):
        torch.testing.assert_close(batch[i : i + 1], jpeg_round_trip(x[:1], quality), rtol=0, atol=0)
    errors = (batch - x).abs().mean((1, 2, 3)).tolist()
    assert errors[0] > errors[1] > errors[2]


def test_result_lies_on_8_bit_levels_and_leaves_the_input_alone():
    x = to_bchw(photo("cat")[:48, :48])
    before = x.clone()
    levels = jpeg_round_trip(x, 50) * 255
    assert torch.equal(x, before)
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert levels.min() >= 0
    assert levels.max() <= 255.0001


def test_bad_input():
    with pytest.raises(ShapeError, match=r"1 \(grey\) or 3 \(RGB\) channels, got 4"):
        jpeg_round_trip(torch.zeros(1, 4, 8, 8), 50)
    with pytest.raises(RangeError, match=r"from 1 to 100, got \[0\]"):
        jpeg_round_trip(torch.zeros(1, 3, 8, 8), 0)
    with pytest.raises(ShapeError, match=r"one per picture \(3\), got 2"):
        jpeg_round_trip(torch.zeros(3, 3, 8, 8), [50, 60])
