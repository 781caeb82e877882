"""The engine of pixels: the diffusion engine without a codec, in electrons, with the measurement in the loop.

    picture → electrons → range → noise → ( [predict i/n → x0] → canvas: guidance → solver's move ) × n → picture

What stands in brackets runs tile by tile. Guidance sees the whole canvas, so a point spread never meets a tile's border.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...diffusion.edits.base import X0Edit
from ...diffusion.samplers.base import Sampler, Step
from ...errors import ConfigError
from ...image.histogram import Statistics
from ...image.ranges import Range, RangeConfig, RangeKind, fit, notes_on
from ...physics.condition import condition_of, light_range, peak_of, straight
from ...physics.explained import Explained
from ...physics.guidance import Guidance
from ...request import Request
from ...tiling.geometry import Plane, Readable
from ...tiling.stage import Stage
from ...weights.pixel_spec import PixelSpec
from ..base import EngineSpec, Prepared
from ..diffusion.engine import Diffusion, Particles
from ..diffusion.parts import Codec, Condition, Denoiser
from ..diffusion.sizing import HouseSizing, mirror_to
from ..diffusion.starts import as_is, from_noise, noised
from ..feed_forward.options import Result
from .denoising import Predict, at_stride
from .edits import Clip, OnContent
from .levels import Coarse, KeepCoarse, LevelNoise, Light, rising
from .microscope import Microscope
from .network import PixelFile
from .options import PixelOptions

Y = "y"
"""Name of the guide: the measurement in electrons."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """One size of pixels that a run works on."""

    engine: Diffusion
    condition: Condition
    coarse: Coarse | None
    """What the level before made; None: there was none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixel:
    """Restoration by a diffusion model of pixels."""

    spec: EngineSpec
    weights: PixelSpec
    net: nn.Module
    """[b in_channels h w], a timestep → the prediction."""
    denoiser: Denoiser
    """How the network's tiles are laid; what it predicts with is made anew for every picture."""
    steps: tuple[tuple[Step, ...], ...]
    """Of every level, the coarsest first."""
    solver: Sampler
    microscope: Microscope
    options: PixelOptions
    light: Range | None = None
    """The unit of light, from electrons above the background to network values, where it was fitted on more than the
    picture: a whole stack. None: on the picture, as the weights say."""
    light_notes: tuple[str, ...] = ()
    """What whoever set `light` found strange about it."""
    grain_px: int = 1
    """Sides of the canvas are multiples of it."""
    file: PixelFile | None = None
    """What was read: it is there for the next engine as long as this one is."""

    def prepare(self, image: Readable, size_px: tuple[int, ...], request: Request) -> Prepared:
        """Count electrons, find the unit of light, and bring picture and measurement onto the canvas.

        Raises:
            ConfigError: another size is asked for.
        """
        assert isinstance(image, Plane), "a diffusion model looks at whole pictures"
        content = image.sizes_px
        if tuple(size_px) != tuple(content):
            raise ConfigError(
                f"engine {self.spec.name!r} keeps the size of a picture: leave out sides and scale, or say 1"
            )
        units, notes = self._units(image.data)
        wide_01 = mirror_to(image.data, [-(-side // self.grain_px) * self.grain_px for side in content])
        light = Light(
            y_e=self.microscope.electrons(wide_01),
            saturated=self.microscope.saturated(wide_01),
            units=units,
            microscope=self.microscope,
        )
        levels = tuple(self._levels(light, content))
        first, stride = levels[0].engine, levels[0].engine.codec.cell_px
        canvas = first.value_range.apply(F.avg_pool2d(wide_01, stride) if stride > 1 else wide_01)
        begun = Plane(first.begun(canvas, first.noise(request.seed)), stride)
        return Prepared(plane=begun, content_px=content, condition=levels, notes=notes)

    def stages(self, prepared: Prepared, request: Request) -> Sequence[Stage]:
        """Return the steps of every level."""
        levels: tuple[Level, ...] = prepared.condition
        row: list[Stage] = []
        for level, finer in zip(levels, (*levels[1:], None), strict=True):
            stages = [
                _of_size(stage, level.engine.codec.cell_px)
                for stage in level.engine.stages(replace(prepared, condition=level.condition), request)
            ]
            if finer is not None:
                assert finer.coarse is not None
                factor = level.engine.codec.cell_px // finer.engine.codec.cell_px
                stages = rising(
                    stages, coarse=finer.coarse, factor=factor, finer=finer.engine, seed=request.seed
                )
            row += stages
        return tuple(row)

    def leave(self) -> None:
        """Send the network home; see `engines.leaving`."""
        self.denoiser.placing.leave()

    @property
    def margin_px(self) -> int:
        """Surroundings that `explained` wants."""
        return self.microscope.margin_px

    def of_scene(self, white: float, statistics: Callable[[], Statistics]) -> Pixel:
        """Return the engine for all planes of a scene, with one unit of light; see `engines.of_scene.OfScene`."""
        config, microscope = self.weights.value_range, replace(self.microscope, white_adu=white)
        if config.needs_scene and self.options.peak_e is None:
            light = microscope.light_range(straight(fit(config, statistics())))
            return replace(self, microscope=microscope, light=light, light_notes=light.notes)
        known = self.options.peak_e
        light = straight(config.fixed) if known is None else _of_peak(config, known)
        seen = replace(microscope.picture_range(light), ends=light.black_white)
        notes = notes_on(seen, statistics())
        return replace(self, microscope=microscope, light=light, light_notes=notes)

    def explained(self, result: Tensor, source: Tensor, rows: slice) -> Explained:
        """Say how well a result explains its input; see `engines.of_scene.Explains`."""
        found = self.microscope.explained(result[:, : self.weights.channels], source, rows)
        if self.options.shown is Result.deviation:  # no picture, so nothing that could explain one
            return replace(found, chi_squared_sum=0.0, pixels=0)
        return found

    def _units(self, picture_01: Tensor) -> tuple[Range, tuple[str, ...]]:
        """Return the unit of light of a picture, and what a report must say of the measurement."""
        config, background, peak_e = (
            self.weights.value_range,
            self.microscope.background_e,
            self.options.peak_e,
        )
        known = self.light
        if known is None and peak_e is not None:
            known = _of_peak(config, peak_e)
        if picture_01.is_meta:  # to plan a run there are shapes without numbers
            fixed = _of_peak(config, 1.0) if config.needs_scene else straight(config.fixed)
            return known or fixed, ()
        if self.light is not None:  # whoever fitted it on a whole scene tells of the whole scene
            return self.light, (*self.light_notes, *self._trained_notes(self.light))
        y_e = self.microscope.electrons(picture_01)
        notes = list(self.microscope.notes(picture_01))
        units = known or light_range(config, y_e, background_e=background)
        if known is None and config.needs_scene:
            notes += units.notes
        else:
            statistics = Statistics()
            statistics.add(y_e - background)
            notes += notes_on(units, statistics)
        return units, (*notes, *self._trained_notes(units))

    def _trained_notes(self, units: Range) -> Iterator[str]:
        trained, peak = self.weights.peaks_e, max(peak_of(units))
        if trained is not None and not trained[0] / 2 <= peak <= trained[1] * 2:
            yield (
                f"the brightest light is {peak:.3g} electrons, and the network learned from {trained[0]:.3g} to "
                f"{trained[1]:.3g}: check gain and offset_adu, or train it on such light"
            )

    def _levels(self, light: Light, content_px: tuple[int, ...]) -> Iterator[Level]:
        values = self.microscope.picture_range(light.units)
        strides = (*self.options.cascade, 1)
        for steps, stride, before in zip(self.steps, strides, (None, *strides), strict=False):
            of_level = light.pooled(stride)
            edits = [*self._edits(of_level, content_px if stride == 1 else None)]
            coarse = None if before is None else Coarse()
            if coarse is not None and before is not None:
                edits.append(KeepCoarse(coarse=coarse, factor=before // stride))
            engine = self._diffusion(of_level, steps, stride, edits, values, first=before is None)
            guides = {Y: Plane(of_level.y_e, stride)} if self.weights.conditional else {}
            yield Level(engine=engine, condition=Condition(guides=guides), coarse=coarse)

    def _diffusion(
        self,
        light: Light,
        steps: tuple[Step, ...],
        stride: int,
        edits: Sequence[X0Edit],
        values: Range,
        *,
        first: bool,
    ) -> Diffusion:
        """Return the diffusion engine of one level of one picture."""
        channels = self.weights.channels
        one_step = self.weights.one_step_t is not None
        return Diffusion(
            spec=self.spec,
            codec=Codec(channels=channels, picture_channels=channels, cell_px=stride, scale=1.0),
            denoiser=replace(at_stride(self.denoiser, stride), predict=self._predict(light)),
            conditioner=lambda _image, _placed, _request: Condition(),
            steps=steps,
            sampler=self.solver,
            start=as_is if one_step else from_noise if first else noised,
            edits=lambda _prepared, _request: edits,
            particles=Particles(
                count=self.options.samples, result=self._result if stride == 1 else lambda images: images
            ),
            noise=LevelNoise(stride=stride),
            sizing=HouseSizing(),
            value_range=values,
            flat_is_wrong=False,
        )

    def _predict(self, light: Light) -> Predict:
        """Return the network as a function of a tile, told of the measurement what it wants to know."""
        net, spec, unseen = self.net, self.weights, self.options.prior

        def predict(x: Tensor, step: Step, _value: Any, guides: Mapping[str, Tensor]) -> Tensor:
            if not spec.conditional:
                return net(x, step.t)
            told = condition_of(
                guides[Y],
                light.units,
                background_e=light.microscope.background_e,
                read_variance=light.microscope.read_variance,
            )
            return net(torch.cat([x, torch.zeros_like(told) if unseen else told], 1), step.t)

        return predict

    def _edits(self, light: Light, content_px: tuple[int, ...] | None) -> Iterator[X0Edit]:
        """Yield the edits of a level; `content_px` is the picture on a canvas that is larger."""
        o = self.options
        if o.clip:
            low, high = light.units.black_white
            yield Clip(low=low, high=high)
        if o.guidance is None or light.y_e.is_meta:  # a plan has shapes only, which guidance keeps
            return
        inside = (...,) if content_px is None else (..., *map(slice, content_px))
        guidance = Guidance(
            measured=light.microscope.measurement(light.y_e[inside], light.saturated[inside]),
            units=light.units,
            term=o.guidance,
            rule=o.guidance_rule,
            strength=o.guidance_strength,
            begins=o.guidance_begins or 0.0,
            floor_e=o.guidance_floor_e,
            repeats=o.guidance_repeats,
        )
        yield guidance if content_px is None else OnContent(edit=guidance, content_px=content_px)

    def _result(self, pictures_01: Tensor) -> Tensor:
        """Return what is made of the samples [n c h w]: [1 c h w], or [1 2c h w] for both mean and deviation."""
        if self.options.shown is Result.sample:
            return pictures_01[:1]
        deviation, mean = torch.std_mean(pictures_01, 0, correction=0, keepdim=True)
        made = {Result.mean: (mean,), Result.deviation: (deviation,), Result.both: (mean, deviation)}
        return torch.cat(made[self.options.shown], 1)


def _of_size(stage: Stage, stride: int) -> Stage:
    """Return a step that says how large its pixels are: what is learnt of memory and speed holds for its size only."""
    if stride == 1:
        return stage
    return replace(stage, name=f"{stage.name} of {stride}× pixels", work=f"{stage.kind} of {stride}× pixels")


def _of_peak(config: RangeConfig, peak_e: float) -> Range:
    """Return the range of a known peak, with black where the network wants it."""
    symmetric = config.symmetric or config.kind is RangeKind.pm1
    return straight(RangeConfig(kind=RangeKind.white, white=peak_e, symmetric=symmetric).fixed)
