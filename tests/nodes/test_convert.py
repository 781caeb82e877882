"""Tensors between ComfyUI and the core, and what importing the plugin's folder may do."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def convert(plugin):
    return plugin(".nodes.convert")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_image_there_and_back(convert, channels, dtype):
    image = torch.rand(2, 5, 7, channels, generator=torch.Generator().manual_seed(1)).to(dtype)
    color, alpha = convert.to_bchw(image)
    assert color.shape == (2, 1 if channels < 3 else 3, 5, 7)
    assert (alpha is None) == (channels in {1, 3})
    assert color.dtype == torch.float32
    back = convert.to_bhwc(color, alpha)
    assert back.shape[-1] == (3 if channels in {1, 3} else 4)
    torch.testing.assert_close(back[..., :1].to(dtype), image[..., :1])
    torch.testing.assert_close(back[..., -1:].to(dtype), image[..., -1:])


def test_values_outside_are_clamped_and_nan_is_refused(convert):
    image = torch.tensor([-0.2, 0.5, 1.2, float("inf")]).reshape(1, 2, 2, 1)
    color, _ = convert.to_bchw(image)
    assert color.flatten().tolist() == [0, 0.5, 1, 1]
    with pytest.raises(ValueError, match="the IMAGE holds NaN"):
        convert.to_bchw(image * float("nan"))


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 4, 4, 5), (1, 2, 3, 4, 3)])
def test_what_is_no_picture_is_refused(convert, shape):
    with pytest.raises(ValueError, match=r"expected an IMAGE \[batch height width 1 to 4\]"):
        convert.to_bchw(torch.zeros(shape))


def test_masks_are_repeated_to_the_batch(convert):
    assert convert.mask_to_b1hw(torch.ones(3, 4), batch=2).shape == (2, 1, 3, 4)
    masks = torch.arange(2.0).reshape(2, 1, 1).expand(2, 3, 4)
    assert convert.mask_to_b1hw(masks, batch=3)[:, 0, 0, 0].tolist() == [0, 1, 1]


def test_the_root_holds_the_entry_point_and_nothing_else(plugin):
    """An import at its top would break every test below it (pytest imports the file as a test package)."""
    source = Path(plugin().__file__).read_text(encoding="utf-8")
    kinds = [type(part) for part in ast.parse(source).body]
    assert kinds == [ast.Expr, ast.Assign, ast.AsyncFunctionDef]
    assert inspect.iscoroutinefunction(plugin().comfy_entrypoint)
