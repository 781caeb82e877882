"""Weights to start from, checked against the module they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from hypir_core.errors import SpecMismatchError
from hypir_core.weights.tensors import check_finite, misfits, read_tensors


def read_fitting(
    path: Path,
    own: Mapping[str, Tensor],
    *,
    key: str,
    what: str,
    advice: str,
    unpack: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict,
) -> dict[str, Tensor]:
    """Return the tensors of a file that has exactly the names and shapes of `own`, once `unpack` has seen to them.

    `key` is the setting that names the file, `what` the module, `advice` what to change: for the error.

    Raises:
        WeightsError: the file cannot be read or holds NaN.
        SpecMismatchError: a tensor is missing, is one too many, or has another shape.
    """
    file = read_tensors(path)
    check_finite(file.tensors, path)
    tensors = unpack(file.tensors)
    names = own.keys() | tensors.keys()
    differing = misfits(own, tensors)
    if differing:
        first = differing[0]
        raise SpecMismatchError(
            f"{key}: {path} does not fit the {what}; {len(differing)} of {len(names)} tensors differ, first "
            f"{first}: file {_shape(tensors, first)}, {what} {_shape(own, first)}; {advice}"
        )
    return tensors


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return "×".join(map(str, tensors[name].shape)) if name in tensors else "absent"
