"""Zarr arrays, plain and as OME-Zarr, read and written chunk by chunk.

Source: OME-NGFF 0.4 and 0.5 (multiscales, axes, coordinateTransformations); a scale and a translation speak of centres.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConfigError, ImageFileError, MissingDependencyError
from ...tiling.geometry import by
from .axes import Wanted, guessed_axes, known_axes
from .grid import Placement
from .hdf5 import array_order, written_parts
from .result import Result
from .scene import ArrayScene

_CHUNK = 512
_MARKS = ("zarr.json", ".zarray", ".zgroup")
_SHORT = {"micrometer": "µm", "millimeter": "mm", "nanometer": "nm", "meter": "m", "second": "s"}
_LONG = {short: long for long, short in _SHORT.items()}


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr array or group."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


def open_zarr(path: Path, wanted: Wanted) -> ArrayScene:
    """Open an array: the one that is named, the finest of an OME-Zarr picture, or the only one.

    Raises:
        ImageFileError: it cannot be read; or there is no such array, or more than one and none is named.
        MissingDependencyError: zarr is not installed.
    """
    zarr = library()
    try:
        store = zarr.open(path, mode="r")
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ImageFileError(f"{path}: expected a Zarr array or group, but {err}; copy it again") from err
    picture = _multiscales(store) if isinstance(store, zarr.Group) and not wanted.dataset else None
    array = _chosen(store, path, picture, wanted.dataset)
    plain = isinstance(store, zarr.Array)
    notes: tuple[str, ...] = ()
    said = [axis["name"] for axis in picture["axes"]] if picture else _dimension_names(array)
    if said is not None and all(len(name) == 1 for name in said):
        order = known_axes("".join(said), array.shape, wanted, path)
    else:
        order, notes = guessed_axes(array.shape, wanted, path)
    spacing, units, origin = _lengths(picture) if picture else ({}, {}, {})
    attributes = dict(array.attrs)
    nodata = attributes.get("_FillValue")
    return ArrayScene(
        path,
        array,
        order,
        bands=wanted.bands,
        names=_channel_names(store, array),
        nodata=nodata if isinstance(nodata, (int, float)) else None,
        placement=Placement(
            spacing=spacing,
            units=units,
            about={"zarr": {"plain": plain, "attributes": attributes if plain else {}, "origin": origin}},
        ),
        notes=notes,
    )


def write_zarr(path: Path, result: Result) -> None:
    """Write a result as Zarr 3: a plain array where the input was one, else OME-Zarr 0.5 with one level.

    Raises:
        MissingDependencyError: zarr is not installed.
    """
    zarr = library()
    grid, placement = result.grid, result.placement
    order, shape = array_order(result)
    about = placement.about.get("zarr", {"plain": False, "attributes": {}, "origin": {}})
    chunks = tuple(min(n, _CHUNK) if axis in "yx" else 1 for axis, n in zip(order, shape, strict=True))
    attributes = {k: v for k, v in about["attributes"].items() if k != "_ARRAY_DIMENSIONS"}
    if any(grid.bands):
        attributes["bands"] = list(grid.bands)
    if grid.nodata is not None:
        attributes["_FillValue"] = grid.nodata
    store: Any = path
    if not about["plain"]:
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.attrs.update({"ome": _ome(result, order, about["origin"]), **result.text})
        store = path / "0"
    array = zarr.create_array(
        store=store,
        shape=shape,
        dtype=grid.dtype,
        chunks=chunks,
        dimension_names=list(order),
        attributes=attributes | (dict(result.text) if about["plain"] else {}),
        zarr_format=3,
    )
    for key, part in written_parts(result, order, _CHUNK):
        array[key] = part


def _ome(result: Result, order: str, origin: Mapping[str, float]) -> dict[str, Any]:
    placement, factors = result.placement, result.factors
    kinds = {"t": "time", "c": "channel"}
    axes = []
    for axis in order:
        entry: dict[str, Any] = {"name": axis, "type": kinds.get(axis, "space")}
        if (unit := _LONG.get(placement.units.get(axis, ""))) is not None:
            entry["unit"] = unit
        axes.append(entry)
    lengths = [placement.spacing.get(axis, 1.0 / factors.get(axis, 1)) for axis in order]
    # The first small centre lies (1 - s) / 2 small cells before the first large one.
    starts = [
        origin.get(axis, 0.0) + length * (1 - factors.get(axis, 1)) / 2
        for axis, length in zip(order, lengths, strict=True)
    ]
    level: dict[str, Any] = {
        "path": "0",
        "coordinateTransformations": [
            {"type": "scale", "scale": lengths},
            {"type": "translation", "translation": starts},
        ],
    }
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [{"name": "", "axes": axes, "datasets": [level]}]}
    if any(result.grid.bands):
        ome["omero"] = {"channels": [{"label": name} for name in result.grid.bands]}
    return ome


def _multiscales(group: Any) -> Mapping[str, Any] | None:
    attributes = dict(group.attrs)
    found = attributes.get("ome", attributes).get("multiscales")
    return found[0] if found else None


def _chosen(store: Any, path: Path, picture: Mapping[str, Any] | None, wanted: str) -> Any:
    zarr = library()
    if isinstance(store, zarr.Array):
        return store
    if picture is not None:
        return store[picture["datasets"][0]["path"]]
    found = {name: one for name, one in store.members(max_depth=None) if isinstance(one, zarr.Array)}
    if wanted:
        if wanted.strip("/") not in found:
            raise ConfigError(f"{path}: expected --dataset out of {', '.join(found) or 'none'}; got {wanted}")
        return found[wanted.strip("/")]
    if len(found) != 1:
        said = ", ".join(f"{name} {by(one.shape)}" for name, one in found.items()) or "none"
        raise ImageFileError(
            f"{path}: expected one array, got {len(found)} ({said}); name one with --dataset"
        )
    return next(iter(found.values()))


def _dimension_names(array: Any) -> list[str] | None:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return None if names is None or None in names else [str(name) for name in names]


def _lengths(picture: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str], dict[str, float]]:
    """Return spacing, units and the first centre of an OME-Zarr picture's finest level."""
    axes = [axis["name"] for axis in picture["axes"]]
    scale, origin = [1.0] * len(axes), [0.0] * len(axes)
    both = (picture["datasets"][0], picture)
    for change in (one for part in both for one in part.get("coordinateTransformations", ())):
        if change["type"] == "scale":
            scale = [s * float(c) for s, c in zip(scale, change["scale"], strict=True)]
            origin = [o * float(c) for o, c in zip(origin, change["scale"], strict=True)]
        elif change["type"] == "translation":
            origin = [o + float(c) for o, c in zip(origin, change["translation"], strict=True)]
    units = {a["name"]: _SHORT[a["unit"]] for a in picture["axes"] if a.get("unit") in _SHORT}
    spacing = {axis: s for axis, s in zip(axes, scale, strict=True) if axis != "c"}
    return spacing, units, dict(zip(axes, origin, strict=True))


def _channel_names(store: Any, array: Any) -> tuple[str, ...]:
    attributes = dict(store.attrs)
    omero = attributes.get("ome", attributes).get("omero", {})
    names = [str(one.get("label", "")) for one in omero.get("channels", ())]
    return tuple(names or map(str, array.attrs.get("bands", ())))


def library() -> Any:
    """Import zarr.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import zarr
    except ImportError as err:
        raise MissingDependencyError("zarr", "scenes", "a Zarr store") from err
    return zarr
