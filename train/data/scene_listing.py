"""Which scenes lie at a place and can be trained on, and why the others cannot: headers are read, no values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypir_core.errors import ConfigError, HypirError, ImageFileError
from hypir_core.files.scenes.axes import Wanted
from hypir_core.files.scenes.cell import Cell
from hypir_core.files.scenes.geotiff import cell_of
from hypir_core.files.scenes.recognise import is_scene_folder, is_scene_path

from ..config import SourceConfig
from .endings import printable
from .scene_opening import ARRAYS, open_any
from .source import Channels

TIFFS = (".tif", ".tiff")


@dataclass(frozen=True)
class Found:
    """A scene that fits the generator."""

    shown: str
    path: Path
    partner: Path | None
    sizes: tuple[int, ...]
    bands: tuple[str, ...]
    """Names of the channels of the low-quality half; empty where one has none."""


def usable_scenes(
    root: Path, config: SourceConfig, *, key: str, channels: Channels, scales: tuple[int, ...]
) -> tuple[list[Found], list[str]]:
    """Return the scenes that fit the generator, and one line for each of the others.

    Raises:
        ConfigError: scenes without partners are of two resolutions.
    """
    paths = _scenes_in(root, key)
    start = root.parent if paths == [root] else root
    partners = {}
    if config.lq_root:
        lq_start = config.lq_root.parent if _is_one(config.lq_root) else config.lq_root
        partners = {_stem(path, lq_start): path for path in _scenes_in(config.lq_root, key)}
    found: list[Found] = []
    skipped: list[str] = []
    cells: list[tuple[Cell, str]] = []
    for path in paths:
        shown = printable(path.relative_to(start).as_posix())
        try:
            sizes, bands, is_placed = _facts(path, config, channels.hq, len(scales))
            if is_placed and not config.lq_root and (cell := cell_of(path)) is not None:
                cells.append((cell, shown))
            partner = None
            if config.lq_root:
                # Two single files are a pair whatever they are called.
                single = next(iter(partners.values())) if len(paths) == len(partners) == 1 else None
                partner = partners.get(_stem(path, start), single)
                if partner is None:
                    raise ImageFileError("has no partner of this name in source.lq_root")
                small, bands, _ = _facts(partner, config, channels.lq, len(scales))
                if tuple(n * k for n, k in zip(small, scales, strict=True)) != sizes:
                    raise ImageFileError(
                        f"has {list(sizes)} cells and its partner {list(small)}; expected {list(scales)} times that"
                    )
            found.append(Found(shown, path, partner, sizes, bands))
        except (HypirError, OSError) as err:
            skipped.append(f"{shown}: {str(err).removeprefix(f'{path}: ')}")
    _refuse_two_resolutions(cells, key)
    return found, skipped


def _refuse_two_resolutions(cells: Sequence[tuple[Cell, str]], key: str) -> None:
    """Raise ConfigError where rasters have cells of two lengths; a network that learned both would do neither well."""
    fine = min(cells, key=_length, default=None)
    coarse = [each for each in cells if fine is not None and not each[0].is_like(fine[0])]
    if fine is None or not coarse:
        return
    cell, shown = coarse[0]
    more = f" and {len(coarse) - 1} more" if len(coarse) > 1 else ""
    raise ConfigError(
        f"{key}: expected rasters of one resolution, got cells of {fine[0].told()} ({fine[1]} …) and of {cell.told()} "
        f"({shown}{more}); give each resolution a folder, and train on one, or on both as two places of data.roots"
    )


def _length(found: tuple[Cell, str]) -> float:
    return found[0].length


def _facts(
    path: Path, config: SourceConfig, channels: int, dims: int
) -> tuple[tuple[int, ...], tuple[str, ...], bool]:
    """Return a scene's cells along its axes, the names of its channels if all have one, and whether it has a place."""
    wanted = Wanted(bands=config.bands, axes=config.axes, dataset=config.array, dims=dims, channels=channels)
    scene = open_any(path, wanted)
    try:
        if len(scene.sizes_px) != dims:
            raise ImageFileError(f"has the axes {scene.grid.axes.upper()}, and the generator takes {dims}")
        if scene.channels != channels:
            named = ", ".join(band for band in scene.grid.bands if band) or str(scene.channels)
            raise ImageFileError(
                f"has {scene.channels} bands ({named}), and the generator takes {channels}; choose them by "
                "data.source.bands"
            )
        names = scene.grid.bands
        return tuple(scene.sizes_px), names if all(names) else (), scene.placement.affine is not None
    finally:
        scene.close()


def _scenes_in(root: Path | None, key: str) -> list[Path]:
    if root is None or not root.exists():
        raise ConfigError(f"{key}: {root} is not there; set it to a raster, a volume, or a folder of such")
    if _is_one(root):
        return [root]
    found: list[Path] = []
    stack = [root]
    while stack:
        for path in sorted(stack.pop().iterdir()):
            if path.is_dir() and not _is_scene(path):
                stack.append(path)
            elif _is_scene(path):
                found.append(path)
    return sorted(found)


def _is_one(root: Path) -> bool:
    return root.is_file() or _is_scene(root)


def _is_scene(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_scene_path(path) or is_scene_folder(path)
    return is_scene_path(path) or path.suffix.lower() in (*ARRAYS, *TIFFS)


def _stem(path: Path, root: Path | None) -> str:
    name = path.relative_to(root).as_posix() if root is not None and path != root else path.name
    for ending in (".nii.gz", ".ome.tif", ".ome.tiff"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name.rpartition(".")[0] or name
