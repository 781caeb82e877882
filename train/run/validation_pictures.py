"""Validation pictures as files: one folder per pair, so that a viewer steps through the training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..data.levels import viewable
from .validation import Shown

FOLDER = "validation"

log = logging.getLogger(__name__)


def write_pictures(run_dir: Path, done: int, shown: Sequence[Shown]) -> None:
    """Write ``validation/<recipe>-<number>/step-<8 digits>.png`` for every pair that is shown.

    Beside them lie ``low_quality.png``, ``bicubic.png`` and ``target.png``, which do not change. A folder that
    cannot be written is said and is no reason to stop.
    """
    for each in shown:
        folder = run_dir / FOLDER / _file_name(each.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, picture in (
                ("low_quality", each.lq_01),
                ("bicubic", each.bicubic_01),
                ("target", each.hq_01),
                (f"step-{done:08d}", each.restored_01),
            ):
                _write(folder / f"{name}.png", picture)
        except OSError as err:
            log.warning(
                "step %d  %s cannot be written (%s), training goes on", done, folder, err.strerror or err
            )
            return


def _file_name(name: str) -> str:
    """Return the name of a recipe, which may be a path, as that of a folder."""
    return Path(name).name.replace(".yaml-", "-").replace(".yml-", "-")


def _write(path: Path, image_01: Tensor) -> None:
    """Write [c h w], [0,1], as 8-bit colour; of bands those that can be looked at."""
    from PIL import Image

    levels = viewable(image_01).detach().float().cpu().clamp(0, 1).mul(255).round().byte()
    Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()).save(path)
