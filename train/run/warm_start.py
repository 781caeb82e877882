"""Weights to start from, checked against the module they are for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from hypir_core.errors import SpecMismatchError
from hypir_core.weights.tensors import check_finite, read_tensors


def read_fitting(
    path: Path, own: Mapping[str, Tensor], *, key: str, what: str, advice: str
) -> dict[str, Tensor]:
    """Return the tensors of a file that has exactly the names and shapes of `own`.

    `key` is the setting that names the file, `what` the module, `advice` what to change: for the error.

    Raises:
        WeightsError: the file cannot be read or holds NaN.
        SpecMismatchError: a tensor is missing, is one too many, or has another shape.
    """
    file = read_tensors(path)
    check_finite(file.tensors, path)
    names = own.keys() | file.tensors.keys()
    differing = sorted(
        name
        for name in names
        if name not in own or name not in file.tensors or own[name].shape != file.tensors[name].shape
    )
    if differing:
        first = differing[0]
        raise SpecMismatchError(
            f"{key}: {path} does not fit the {what}; {len(differing)} of {len(names)} tensors differ, first "
            f"{first}: file {_shape(file.tensors, first)}, {what} {_shape(own, first)}; {advice}"
        )
    return dict(file.tensors)


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return "×".join(map(str, tensors[name].shape)) if name in tensors else "absent"
