"""Equal to the last bit, through nested states."""

from __future__ import annotations

from torch import Tensor, equal


def assert_equal(left, right) -> None:
    """Compare tensors in dicts, lists and tuples."""
    if isinstance(left, Tensor):
        assert equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(one, other)
    else:
        assert left == right
