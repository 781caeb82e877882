"""The labelled before/after picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from hypir_core.errors import ShapeError
from hypir_core.image.compare import INK, PAPER, compare_picture
from hypir_core.image.lettering import LOOK_PX, drawn, font_for, lacking, missing_letters


def halves(height, width, **options):
    """Compare a small black picture with a white one; returns the canvas and where it is black and white."""
    before = torch.zeros(1, 3, max(1, height // 4), max(1, width // 4))
    canvas = compare_picture(before, torch.ones(1, 3, height, width), **options)
    white = (canvas[0] == 1).all(0)
    black = (canvas[0] == 0).all(0)
    return canvas, black, white


def extent(mask):
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return rows[0].item(), rows[-1].item() + 1, columns[0].item(), columns[-1].item() + 1


@pytest.mark.parametrize(("height", "width"), [(120, 80), (100, 100), (120, 160), (120, 180)])
def test_tall_and_ordinary_pictures_stand_side_by_side(height, width):
    canvas, black, white = halves(height, width)
    assert black.sum() == white.sum() == height * width
    top, bottom, _, right = extent(black)
    assert extent(white)[:2] == (top, bottom) == (canvas.shape[-2] - height, canvas.shape[-2])
    assert right < extent(white)[2]


@pytest.mark.parametrize(("height", "width"), [(90, 160), (50, 200)])
def test_wide_pictures_are_stacked(height, width):
    canvas, black, white = halves(height, width)
    assert canvas.shape[-1] == width
    assert black.sum() == white.sum() == height * width
    assert extent(black)[1] < extent(white)[0]


def test_both_sides_are_limited():
    canvas, black, white = halves(30, 300, max_side_px=100)
    assert white.sum() == black.sum() == 10 * 100
    assert canvas.shape[-1] == 100


def test_the_before_picture_is_resized_bicubically():
    image = Image.linear_gradient("L").resize((13, 17)).rotate(20)
    before = torch.tensor(list(image.tobytes())).reshape(1, 1, 17, 13) / 255
    canvas = compare_picture(before, torch.zeros(1, 1, 68, 52))
    expected = torch.from_numpy(
        np.array(Image.fromarray(before[0, 0].numpy()).resize((52, 68), Image.Resampling.BICUBIC))
    ).clamp(0, 1)
    for channel in canvas[0, :, -68:, :52]:
        torch.testing.assert_close(channel, expected, atol=1e-4, rtol=0)


def test_captions_are_drawn_centred_and_differ():
    canvas, black, _ = halves(300, 300)
    strip = canvas[0, :, : extent(black)[0]]
    ink = (strip - torch.tensor(INK).reshape(3, 1, 1)).abs().amax(0) < 0.05
    for half, columns in ((0, slice(0, 300)), (1, slice(-300, None))):
        top, bottom, left, right = extent(ink[:, columns])
        assert bottom - top >= 8, half
        assert abs((left + right) / 2 - 150) <= 4
    assert not torch.equal(strip[..., :300], strip[..., -300:])
    torch.testing.assert_close(strip[:, 0, 0], torch.tensor(PAPER))


def test_long_captions_shrink_to_fit():
    wide = "before, enlarged four times"
    canvas = compare_picture(torch.zeros(1, 3, 90, 90), torch.zeros(1, 3, 90, 90), labels=(wide, "x"))
    caption = canvas[0, 0, :19, :90]
    assert (caption > PAPER[0] + 0.2).any()
    assert (caption[:, [0, -1]] == torch.tensor(PAPER[0])).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (3, 7)])
def test_any_size_works_and_values_are_clamped(height, width):
    canvas = compare_picture(torch.full((1, 1, 2, 3), -1.0), torch.full((1, 3, height, width), 2.0))
    assert canvas.shape[:2] == (1, 3)
    assert canvas.min() == 0
    assert canvas.max() == 1


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"\[1, 4, 9, 9\]"):
        compare_picture(torch.zeros(1, 4, 9, 9), torch.zeros(1, 3, 9, 9))
    with pytest.raises(ShapeError, match=r"\[2, 3, 9, 9\]"):
        compare_picture(torch.zeros(1, 3, 9, 9), torch.zeros(2, 3, 9, 9))


def test_labels_are_drawn_by_a_font_that_has_their_letters():
    never = "\ufdd0"  # a non-character: no font has it
    assert lacking("before, after") == ""
    assert lacking(f"a {never}") == never
    assert f"has the letters {never} of the labels" in missing_letters(f"a{never}")[0]
    if lacking("после"):
        pytest.skip("no font with Cyrillic letters on this machine")
    assert missing_letters("после") == ()
    font = font_for("после", LOOK_PX)
    shapes = [drawn(letter, font) for letter in ("п", "о", "с", "\uffff")]
    assert len(set(shapes)) == 4  # letters, and no box among them
