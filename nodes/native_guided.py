"""SeeSR's engine of a few guided steps, made of ComfyUI's MODEL, CONDITIONING and VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..hypir_core.color.mode import ColorFix
from ..hypir_core.diffusion.samplers.base import Step
from ..hypir_core.diffusion.timesteps import Spacing
from ..hypir_core.engines.base import EngineSpec
from ..hypir_core.engines.diffusion.engine import Diffusion
from ..hypir_core.engines.diffusion.parts import Condition
from ..hypir_core.engines.diffusion.seesr.few_steps import NAME, few_steps, planned
from ..hypir_core.engines.diffusion.seesr.options import SeesrOptions
from ..hypir_core.engines.diffusion.sizing import Placed
from ..hypir_core.errors import ConfigError
from ..hypir_core.request import Request
from ..hypir_core.tiling.geometry import Plane
from .host import image_blocks
from .host import model as host_model
from .host.control import for_picture, networks_of
from .host.regions import Regions, laid_over
from .native import (
    CELL_PX,
    NEGATIVE,
    Told,
    native_codec,
    native_denoiser,
    require_sd21,
    require_text,
    require_vae,
)

NATIVE_PX = 512

BASE = "SD-Turbo, or Stable Diffusion 2-base or 2.1-base"

NO_TOKENS = "no tokens (Tag Image): SeeSR's image blocks are skipped"
NO_CONTROL = "no ControlNet of Load SeeSR in the positive CONDITIONING: nothing holds the picture's structure"
NEGATIVE_UNREAD = "negative is not read with a cfg of 1 or less"

TOKENS = "tokens"
"""The argument under which a ControlNet of SeeSR takes the picture's tokens."""


def guided_engines(
    model: Any,
    positive: Any,
    negative: Any | None,
    vae: Any,
    options: SeesrOptions,
    *,
    tile_px: int | None = None,
    native_px: int = NATIVE_PX,
) -> Callable[[int], Diffusion]:
    """Return the engine for each picture of a batch, by its number.

    Args:
        model: from Load SeeSR, with the pictures' tokens on it (Apply SeeSR) or without.
        positive: with SeeSR's ControlNet on it (Apply SeeSR), and others.
        negative: read with a cfg above 1.
        vae: of the base model.
        options: steps, sampler, cfg, start, particles and steering; the rest of it is not read.
        tile_px: ComfyUI makes room for tiles of this size; None: the engine's own.
        native_px: canvas sides are at least this long.

    Raises:
        SpecMismatchError: MODEL, CONDITIONING or VAE is another one.
        ConfigError: they do not go together.
    """
    require_sd21(model, BASE)
    if not image_blocks.has_image_blocks(model):
        raise ConfigError(
            "this MODEL: expected one with SeeSR's image blocks, got a plain one; use Load SeeSR"
        )
    guided = options.cfg > 1
    if guided and negative is None:
        raise ConfigError(
            f"a cfg of {options.cfg:g} needs a negative CONDITIONING; connect it, or set cfg to 1"
        )
    sides: dict[str, Any] = {"": positive} | ({NEGATIVE: negative} if guided else {})
    for conditioning in sides.values():
        require_text(conditioning)
    require_vae(vae)
    steps = planned(host_model.a_bars(model), options, Spacing.trailing)
    lay = _Laying(model=model, sides=sides, steps=steps)
    notes = _notes(model, positive, unread=negative is not None and not guided)
    others = [net for conditioning in sides.values() for net in networks_of(conditioning)]

    def denoiser(told: Any) -> Any:
        return native_denoiser(told, tile_px=tile_px, cfg=options.cfg, others=list(dict.fromkeys(others)))

    def condition(number: int, _image: Tensor, placed: Placed, _request: Request) -> Condition:
        told, guides = lay(placed.content_px, placed.plane.sizes_px)
        negative = None if told.negative is None else _of_picture(told.negative, number)
        mine = Told(positive=_of_picture(told.positive, number), negative=negative)
        return Condition(value=mine, guides=guides, notes=notes)

    engine = few_steps(
        _spec(model, options, steps),
        options,
        codec=replace(native_codec(vae, tile_px=tile_px), scale=host_model.latent_scale(model)),
        denoiser=denoiser(model),
        conditioner=partial(condition, 0),
        steps=steps,
        native_px=native_px,
    )

    def of_picture(number: int) -> Diffusion:
        tokens = image_blocks.tokens_of(model)
        mine = replace(engine, conditioner=partial(condition, number))
        if tokens is None or len(tokens) == 1:
            return mine
        one = image_blocks.model_with_tokens(model, tokens[number : number + 1])
        return replace(mine, denoiser=denoiser(one))

    return of_picture


def require_tokens(tokens: Tensor | None, pictures: int) -> None:
    """Raise ConfigError unless there are tokens for one picture, for every picture, or none."""
    if tokens is not None and len(tokens) not in {1, pictures}:
        raise ConfigError(
            f"expected the tokens of 1 or of {pictures} pictures, got those of {len(tokens)}; "
            "connect the same pictures to Tag Image"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Laying:
    """Lays both CONDITIONINGs over a canvas, once for all pictures of a batch."""

    model: Any
    sides: Mapping[str, Any]
    steps: Sequence[Step]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_laid", {})

    def __call__(self, content_px: Sequence[int], canvas_px: Sequence[int]) -> tuple[Told, dict[str, Plane]]:
        laid: dict[Any, tuple[Told, dict[str, Plane]]] = vars(self)["_laid"]
        key = (tuple(content_px), tuple(canvas_px))
        if key not in laid:
            laid[key] = self._lay(*key)
        return laid[key]

    def _lay(self, content_px: Sequence[int], canvas_px: Sequence[int]) -> tuple[Told, dict[str, Plane]]:
        h, w = (-(-side // CELL_PX) for side in content_px)
        cells = (canvas_px[0] // CELL_PX, canvas_px[1] // CELL_PX)
        regions, planes = {}, {}
        for side, conditioning in self.sides.items():
            laid = laid_over(self._holding(conditioning), (h, w), cells, cell_px=CELL_PX)
            regions[side] = laid
            planes |= {side + name: _known(plane, planes) for name, plane in laid.planes.items()}
        return Told(positive=regions[""], negative=regions.get(NEGATIVE)), planes

    def _holding(self, conditioning: Any) -> list[Any]:
        """Return the entries that hold in any step; raises ConfigError where a step has none."""
        sigmas = [host_model.sigma_at(self.model, round(step.t)) for step in self.steps]
        kept = [host_model.conditioning_at(self.model, conditioning, sigma) for sigma in sigmas]
        return [entry for entry in conditioning if any(entry is one for step in kept for one in step)]


def _known(plane: Plane, planes: Mapping[str, Plane]) -> Plane:
    """Return the same plane where it is there already: both sides look at the same pictures."""
    same = (
        p for p in planes.values() if p.data.shape == plane.data.shape and torch.equal(p.data, plane.data)
    )
    return next(same, plane)


def _of_picture(regions: Regions, number: int) -> Regions:
    """Return regions whose controls have the tokens of one picture."""

    def of(options: Mapping[str, Any]) -> Mapping[str, Any]:
        control = options.get("control")
        return options if control is None else {**options, "control": for_picture(control, TOKENS, number)}

    return replace(regions, entries=tuple(replace(e, options=of(e.options)) for e in regions.entries))


def _notes(model: Any, positive: Any, *, unread: bool) -> tuple[str, ...]:
    notes = image_blocks.label_of(model)[1:]
    if image_blocks.tokens_of(model) is None:
        notes += (NO_TOKENS,)
    if not any(image_blocks.takes_tokens(net) for net in networks_of(positive)):
        notes += (NO_CONTROL,)
    return (*notes, NEGATIVE_UNREAD) if unread else notes


def _spec(model: Any, options: SeesrOptions, steps: Sequence[Step]) -> EngineSpec:
    return EngineSpec(
        name=NAME,
        weights=image_blocks.label_of(model)[0],
        dtype=str(model.model.get_dtype()).removeprefix("torch."),
        settings={
            "timesteps": [step.t for step in steps],
            "sampler": options.sampler.value,
            "cfg": options.cfg,
            "start": options.start.value,
            "particles": options.particles,
            "steering_bandwidth": options.steering_bandwidth,
            "image_blocks": image_blocks.tokens_of(model) is not None,
        },
        color_fix=ColorFix.wavelet,
        wants_prompt=True,
        one_by_one=True,
    )
