"""Measure a folder of results against a folder of true pictures: what ``hypir eval`` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from ..errors import ConfigError, ImageFileError, RangeError, ShapeError
from ..files.formats import is_picture_path
from ..files.picture import to_planes
from ..files.reading import read_picture
from .fidelity import MS_SSIM_MIN_SIDE_PX, SSIM_WINDOW_PX, ms_ssim, psnr, psnr_y, ssim
from .frc import frc_resolution_px
from .perceptual import LPIPS_MIN_SIDE_PX, Lpips, load_lpips, why_no_lpips

FRC_MIN_SIDE_PX = 4


class Metric(str, Enum):
    """What can be measured."""

    psnr_y = "psnr_y"
    psnr = "psnr"
    ssim = "ssim"
    ms_ssim = "ms_ssim"
    lpips = "lpips"
    frc = "frc"


OF_PHOTOS = (Metric.psnr_y, Metric.ssim, Metric.ms_ssim, Metric.lpips)
"""What is measured unless somebody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one picture, or their mean; None also where a figure was not asked for."""

    name: str
    """Path of the result inside its folder, or ``mean``."""
    psnr_y_db: float | None
    """PSNR of the luma in dB, higher is better; infinite for equal pictures."""
    ssim: float | None
    """SSIM of the luma, at most 1, higher is better; None if a side is shorter than 11 px."""
    ms_ssim: float | None
    """MS-SSIM of the luma, at most 1, higher is better; None if a side is shorter than 176 px."""
    lpips: float | None
    """LPIPS (AlexNet), 0 or more, lower is better; None without its weights or if a side is below 64 px."""
    psnr_db: float | None = None
    """PSNR of all values in dB, of whatever channels: for pictures that are no photographs."""
    frc_px: float | None = None
    """Finest period on which both agree, by ring correlation (`metrics.frc`), in pixels: 2 is the finest there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What `evaluate_folders` found."""

    rows: tuple[Row, ...]
    """One per pair, in the order of their names."""
    problems: tuple[str, ...]
    """One line per pair that could not be measured: unreadable, or of two sizes."""
    why_no_lpips: str | None
    """Why there is no LPIPS and how to get it; None if it was measured, or not asked for."""

    def mean(self) -> Row | None:
        """Return the mean of every figure over the pictures that have it; None without any row."""
        if not self.rows:
            return None
        return Row(
            name="mean",
            psnr_y_db=_mean(row.psnr_y_db for row in self.rows),
            ssim=_mean(row.ssim for row in self.rows),
            ms_ssim=_mean(row.ms_ssim for row in self.rows),
            lpips=_mean(row.lpips for row in self.rows),
            psnr_db=_mean(row.psnr_db for row in self.rows),
            frc_px=_mean(row.frc_px for row in self.rows),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints; JSON knows no infinity, so the PSNR of equal pictures is null."""
        mean = self.mean()
        return {
            "rows": [_finite(row) for row in self.rows],
            "mean": None if mean is None else _finite(mean),
            "problems": list(self.problems),
            "why_no_lpips": self.why_no_lpips,
        }


def evaluate_folders(
    ref_dir: Path,
    out_dir: Path,
    *,
    crop_px: int = 0,
    metrics: Sequence[Metric] = OF_PHOTOS,
    on_row: Callable[[Row], None] = lambda _: None,
) -> Evaluation:
    """Measure every picture of `out_dir` against the one of the same name in `ref_dir`.

    Pictures are paired by their path inside the folder without the extension (``day/a.jpg`` ↔ ``day/a.png``),
    subfolders included; files that are no pictures are left alone. Transparency is not compared; a grey
    picture is compared with a colour one as if it had three equal channels. One pair is in memory at a time.

    Args:
        ref_dir: the true pictures.
        out_dir: the results.
        crop_px: rows and columns left out at every border, as many papers do (the scale factor).
        metrics: what is measured, with all bits of the files.
        on_row: called with each row as it is measured.

    Raises:
        ConfigError: a folder is missing or empty, a picture has no partner (all of them are named), or two
            pictures of one folder differ only in their extension.
        MissingDependencyError: torchmetrics is not installed.
    """
    pairs = pair_folders(ref_dir, out_dir)
    wanted = {Metric(each) for each in metrics}
    reason = why_no_lpips() if Metric.lpips in wanted else None
    lpips = load_lpips() if Metric.lpips in wanted and reason is None else None
    rows: list[Row] = []
    problems: list[str] = []
    for ref_path, out_path in pairs:
        name = out_path.relative_to(out_dir).as_posix()
        try:
            truth, image = _read_pair(ref_path, out_path)
            row = _measure(name, image, truth, crop_px=crop_px, wanted=wanted, lpips=lpips)
        except (ImageFileError, RangeError, ShapeError) as err:
            problems.append(str(err))
            continue
        rows.append(row)
        on_row(row)
    return Evaluation(rows=tuple(rows), problems=tuple(problems), why_no_lpips=reason)


def pair_folders(ref_dir: Path, out_dir: Path) -> tuple[tuple[Path, Path], ...]:
    """Return the (reference, result) paths of two folders, sorted by name; raises as `evaluate_folders`."""
    references, results = _pictures_by_stem(ref_dir), _pictures_by_stem(out_dir)
    problems = [
        f"{path}: {other} has no picture called {stem!r}; add it, or take this one away"
        for mine, others, other in ((references, results, out_dir), (results, references, ref_dir))
        for stem, path in mine.items()
        if stem not in others
    ]
    if problems:
        raise ConfigError(problems)
    return tuple((references[stem], results[stem]) for stem in sorted(references))


def _pictures_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        came = "a file" if folder.exists() else "nothing of that name"
        raise ConfigError(f"{folder}: expected a folder of pictures, got {came}")
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.rglob("*")):
        if not (is_picture_path(path) and path.is_file()):
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            problems.append(f"{path}: {found[stem].name} has the same name; keep one of the two")
        found[stem] = path
    if problems:
        raise ConfigError(problems)
    if not found:
        raise ConfigError(f"{folder}: expected pictures, found none")
    return found


def _read_pair(ref_path: Path, out_path: Path) -> tuple[Tensor, Tensor]:
    (truth, _), (image, _) = (to_planes(read_picture(path)) for path in (ref_path, out_path))
    if truth.shape[-2:] != image.shape[-2:]:
        sizes = " and ".join(f"{plane.shape[-1]}×{plane.shape[-2]}" for plane in (image, truth))
        raise ShapeError(f"{out_path}: expected the size of {ref_path}, got {sizes} px; resize one of them")
    channels = max(truth.shape[1], image.shape[1])
    return truth.expand(-1, channels, -1, -1), image.expand(-1, channels, -1, -1)


def _measure(
    name: str, image: Tensor, truth: Tensor, *, crop_px: int, wanted: Set[Metric], lpips: Lpips | None
) -> Row:
    shortest_px = min(truth.shape[-2:]) - 2 * crop_px
    inside = (..., slice(crop_px, truth.shape[-2] - crop_px), slice(crop_px, truth.shape[-1] - crop_px))
    image, truth = image[inside], truth[inside]

    def value(kind: Metric, metric: Callable[[Tensor, Tensor], Tensor], min_side_px: int = 1) -> float | None:
        asked = kind in wanted and shortest_px >= min_side_px
        return float(metric(image, truth)) if asked else None

    return Row(
        name=name,
        psnr_y_db=value(Metric.psnr_y, psnr_y),
        ssim=value(Metric.ssim, ssim, SSIM_WINDOW_PX),
        ms_ssim=value(Metric.ms_ssim, ms_ssim, MS_SSIM_MIN_SIDE_PX),
        lpips=None if lpips is None else value(Metric.lpips, lpips, LPIPS_MIN_SIDE_PX),
        psnr_db=value(Metric.psnr, psnr),
        frc_px=value(Metric.frc, frc_resolution_px, FRC_MIN_SIDE_PX),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _finite(row: Row) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(row).items()
    }
