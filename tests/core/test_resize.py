"""Resizing, held against Pillow."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.image.resize import resize, resize_part

sides = st.integers(1, 40)
targets = st.integers(1, 100)


@given(sides, sides, targets, targets, st.data())
@settings(max_examples=150, deadline=None)
def test_any_part_of_any_resize_is_pillows(h, w, H, W, data):
    image = torch.rand(1, 2, h, w, generator=torch.Generator().manual_seed(h * w))
    y0, x0 = data.draw(st.integers(0, H - 1)), data.draw(st.integers(0, W - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, H)), data.draw(st.integers(x0 + 1, W))
    whole = resize(image, (H, W))
    part = resize_part(image, (H, W), (y0, y1), (x0, x1))
    torch.testing.assert_close(part, whole[..., y0:y1, x0:x1], atol=2e-5, rtol=0)
    for channel in range(2):
        pillow = Image.fromarray(image[0, channel].numpy()).resize((W, H), Image.Resampling.BICUBIC)
        torch.testing.assert_close(whole[0, channel], torch.from_numpy(np.array(pillow)), atol=2e-5, rtol=0)


def test_the_same_size_is_the_same_tensor():
    image = torch.rand(1, 3, 5, 7)
    assert resize(image, (5, 7)) is image
    assert torch.equal(resize_part(image, (5, 7), (1, 4), (2, 3)), image[..., 1:4, 2:3])
