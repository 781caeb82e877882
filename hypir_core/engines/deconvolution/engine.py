"""Richardson and Lucy's deconvolution, tile by tile, from one flat start for a whole stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import ShapeError
from ...image.histogram import Statistics, summarise
from ...physics.deconvolve import richardson_lucy
from ...physics.explained import Explained
from ...request import Request
from ...tiling.geometry import Plane, Readable, by
from ...tiling.plan import TileConfig
from ...tiling.stage import Stage, Watch
from ..base import EngineSpec, Prepared
from ..feed_forward.ranges import statistics_of
from ..pixel.microscope import Microscope

TILE_PX = 1024
REACH = 4
"""Overlap of tiles, in margins of the microscope: what lies farther off changes a pixel by less than the noise."""

BYTES_PER_PX = 200.0
"""About ten planes and the spectra of three."""

LEAST_LIGHT_E = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Deconvolution:
    """A fixed number of rounds."""

    spec: EngineSpec
    microscope: Microscope
    steps: int
    mean: float | None = None
    """Of all planes of a scene, where the deconvolution starts; None: of the picture."""

    @property
    def margin_px(self) -> int:
        """Surroundings that `explained` wants."""
        return self.microscope.margin_px

    def of_scene(self, white: float, statistics: Callable[[], Statistics]) -> Deconvolution:
        """Return the engine for all planes of a scene; see `engines.of_scene.OfScene`."""
        mean = summarise(statistics().channels).mean
        return replace(self, microscope=replace(self.microscope, white_adu=white), mean=mean)

    def explained(self, result: Tensor, source: Tensor, rows: slice) -> Explained:
        """Say how well a result explains its input; see `engines.of_scene.Explains`."""
        return self.microscope.explained(result, source, rows)

    def prepare(self, image: Readable, size_px: tuple[int, ...], request: Request) -> Prepared:
        """Take the picture as it is."""
        del size_px, request
        mean = self.mean
        if mean is None:
            is_meta = isinstance(image, Plane) and image.data.is_meta  # to plan a run there are shapes only
            channels = () if is_meta else statistics_of(image).channels
            mean = summarise(channels).mean if channels else 0.0
        return Prepared(
            plane=image,
            content_px=tuple(image.sizes_px),
            condition=mean,
            notes=tuple(self.microscope.optics_notes()),
        )

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the one stage."""
        del request
        microscope = self.microscope
        start = float(microscope.light(torch.tensor(prepared.condition, dtype=torch.float64)))

        def run(tile: Tensor, guides: Mapping[str, Tensor]) -> Tensor:
            del guides
            self._check(tile)
            measured = microscope.measurement(microscope.electrons(tile), microscope.saturated(tile))
            flat = torch.full_like(measured.y, max(start, LEAST_LIGHT_E))
            return microscope.result(richardson_lucy(measured, steps=self.steps, start=flat))

        margin = microscope.margin_px
        return (
            Stage(
                name="deconvolve",
                run=run,
                out_channels=1,
                out_strides=1,
                grain_px=1,
                bytes_per_px=BYTES_PER_PX,
                margin_px=margin,
                tile=TileConfig(tile_px=max(TILE_PX, 4 * REACH * margin), overlap_px=REACH * margin),
                min_tile_px=max(64, 2 * margin),
                watch=Watch(flat=False),  # an empty field is flat, and right
            ),
        )

    def _check(self, tile: Tensor) -> None:
        """Raise ShapeError where a picture is smaller than the point spread."""
        reach, sizes = self.microscope.operator.radius_px, tile.shape[2:]
        if any(size <= px for size, px in zip(sizes, reach, strict=True)):
            raise ShapeError(
                f"light spreads {max(reach)} px, and the planes have {by(sizes)} px; crop the point spread, or take "
                "larger planes"
            )
