"""From numbers of a file to electrons and back, and what a measurement says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...image.ranges import Range
from ...physics.camera import Camera
from ...physics.data_terms import Measurement
from ...physics.explained import Explained, explained
from ...physics.operator import PsfOperator
from ...physics.psf import off_centre_px

SATURATED_SHARE = 0.001
"""More saturated pixels than this are worth a note."""

DARK_SHARE = 0.001
"""The same for pixels darker than the camera can write."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Microscope:
    """What made the numbers of a file."""

    camera: Camera
    operator: PsfOperator
    """The point spread."""
    background_e: float = 0.0
    """Electrons per pixel that do not come from the picture."""
    white_adu: float = 65535.0
    """The camera's number that reads as 1 in a picture in [0,1]."""

    @property
    def read_variance(self) -> float:
        """Variance of the reading, in electrons²."""
        return self.camera.read_noise_e**2

    def electrons(self, image_01: Tensor) -> Tensor:
        """Return the measurement y in electrons, like `image_01`; what no light can have made is raised to -σ²."""
        return self.camera.to_electrons(image_01 * self.white_adu).clamp(min=-self.read_variance)

    def saturated(self, image_01: Tensor) -> Tensor:
        """Return where the camera could write no more, a mask."""
        return self.camera.saturated((image_01 * self.white_adu).round())

    def picture_range(self, units: Range) -> Range:
        """Return the range from pictures in [0,1] to network values, of that from electrons above the background.

        A result keeps the camera's offset and the background, as its input has them.
        """
        gain, white = self.camera.gain, self.white_adu
        dark = self.camera.offset_adu + self.background_e * gain
        return Range(
            kind=units.kind,
            middle=tuple((dark + m * gain) / white for m in units.middle),
            width=tuple(w * gain / white for w in units.width),
        )

    def light_range(self, written: Range) -> Range:
        """Return the range from electrons above the background, of one that was fitted on numbers as they are here."""
        gain, white = self.camera.gain, self.white_adu
        dark = self.camera.offset_adu + self.background_e * gain
        return Range(
            kind=written.kind,
            middle=tuple((m * white - dark) / gain for m in written.middle),
            width=tuple(w * white / gain for w in written.width),
            notes=written.notes,
        )

    def shrunken(self, factor: int) -> Microscope:
        """Return the same microscope with pixels that are `factor` times as large, for sums of their electrons."""
        if factor == 1:
            return self
        # Sums of electrons have sums of background and of variances; gain and offset are not used any more.
        camera = Camera(read_noise_e=self.camera.read_noise_e * factor, bits=32)
        operator = PsfOperator(shrunken_psf(self.operator.psf, factor), boundary=self.operator.boundary)
        return Microscope(camera=camera, operator=operator, background_e=self.background_e * factor**2)

    def measurement(self, y_e: Tensor, saturated: Tensor) -> Measurement:
        """Return what guidance compares with; saturated pixels say nothing."""
        return Measurement(
            y=y_e.masked_fill(saturated, float("nan")),
            operator=self.operator,
            background_e=self.background_e,
            read_variance=self.read_variance,
        )

    @property
    def margin_px(self) -> int:
        """How far a pixel's light, and what it says of its neighbours, reach together."""
        return 2 * max(self.operator.radius_px)

    def light(self, result_01: Tensor) -> Tensor:
        """Return the light of a result in electrons above the background, 0 or more."""
        return (self.camera.to_electrons(result_01 * self.white_adu) - self.background_e).clamp(min=0)

    def result(self, light_e: Tensor) -> Tensor:
        """Return what `light` undoes: a result keeps the camera's offset and the background, as its input has them."""
        return self.camera.to_adu(light_e + self.background_e) / self.white_adu

    def explained(self, result_01: Tensor, source_01: Tensor, rows: slice) -> Explained:
        """Say how well a result explains its input, both [1 c rows columns]; only `rows` count.

        What is not finite in the input is a hole; as far as light spreads around it nothing counts.
        """
        seen, saturated = source_01.isfinite(), self.saturated(source_01)
        unknown = ~seen
        if bool(unknown.any()):
            down, right = self.operator.radius_px
            size = (2 * down + 1, 2 * right + 1)
            unknown = F.max_pool2d(unknown.float(), size, stride=1, padding=(down, right)) > 0
        return explained(
            self.light(result_01.masked_fill(~seen, 0.0)),
            self.measurement(self.camera.to_electrons(source_01 * self.white_adu), saturated | unknown),
            rows,
            saturated=saturated,
            dark=source_01 * self.white_adu < self.camera.offset_adu,
            seen=seen,
        )

    def notes(self, image_01: Tensor) -> Iterator[str]:
        """Yield what a report must say of a measurement."""
        share = float(self.saturated(image_01).float().mean())
        if share > SATURATED_SHARE:
            yield (
                f"{share:.2%} of the pixels are saturated (the camera writes {self.camera.white_adu} at most): how "
                "bright they were is unknown"
            )
        raw = self.camera.to_electrons(image_01 * self.white_adu)
        share = float((raw < -max(self.read_variance, 5 * self.camera.read_noise_e) - 1e-3).float().mean())
        if share > DARK_SHARE:
            yield (
                f"{share:.2%} of the pixels are darker than the camera's offset of {self.camera.offset_adu:g}: they "
                "count as dark; check offset_adu"
            )

    def optics_notes(self) -> Iterator[str]:
        """Yield what a report must say of the point spread."""
        off = off_centre_px(self.operator.psf)
        if max(map(abs, off)) >= 0.5 - 1e-6:
            told = " and ".join(f"{each:+.2f}" for each in off)
            yield f"the point spread is off its centre by {told} px (down and right): the picture moves by as much"


def shrunken_psf(psf: Tensor, factor: int) -> Tensor:
    """Return a point spread for pixels `factor` times as large, its origin (size // 2) kept, its sum too.

    Light that lies evenly in a large pixel, seen in sums over large pixels: along every axis the mean over all pairs of
    places, Σ_d p(D·factor + d)·(1 - |d|/factor).
    """
    for axis in range(psf.ndim):
        size, origin = psf.shape[axis], psf.shape[axis] // 2
        reach = -(-max(origin, size - 1 - origin) // factor)
        place = torch.arange(size, dtype=psf.dtype) - origin
        large = torch.arange(-reach, reach + 1, dtype=psf.dtype) * factor
        shares = (1 - (place[None] - large[:, None]).abs() / factor).clamp(min=0)
        psf = (psf.movedim(axis, -1) @ shares.T).movedim(-1, axis)
    return psf
