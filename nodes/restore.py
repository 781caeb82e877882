"""Restore Image: the one-node way."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import torch

from ..hypir_core.engines.base import Engine
from ..hypir_core.engines.feed_forward.descriptor import RGB
from ..hypir_core.engines.feed_forward.load import load_built_in, upscaler_of
from ..hypir_core.engines.feed_forward.options import BuiltInOptions, BuiltInSharpOptions
from ..hypir_core.measure.forecast import forecast, learn
from ..hypir_core.progress import silent
from ..hypir_core.weights.fingerprint import fingerprint_of_tensors
from .batch import restore_batch, summary
from .convert import to_bchw
from .host import memory
from .host import model as host_model
from .host.face import on_face, said, with_notes
from .host.schema import io, mismatch, require, schema
from .host.upscaler import restorer_in
from .inputs import (
    AUTO,
    BUILT_IN,
    CATEGORY,
    color_fix_inputs,
    model_inputs,
    size_inputs,
    tile_inputs,
    words_and_strength,
)
from .latents import NATIVE_PX
from .masks import fitted_masks
from .native import DEFAULT_SCALE, native_engine
from .sockets import Asked, connected_of, problem_with, unused_sockets, unused_values

BUILT_IN_OPTIONS = dict(zip(BUILT_IN, (BuiltInOptions, BuiltInSharpOptions), strict=True))


class HypirRestoreImage(io.ComfyNode):
    """Any of the engines, chosen by what is connected."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirRestoreImage",
            display_name="Restore Image",
            category=CATEGORY,
            description="Restores and enlarges a picture. With nothing else connected it uses the small restorer "
            "inside this plugin, with an UPSCALE_MODEL that one, with MODEL, VAE and CLIP or CONDITIONING one "
            "step of diffusion.",
            search_aliases=[
                "restore",
                "deblur",
                "denoise",
                "old photo",
                "photo restoration",
                "enhance",
                "upscale",
                "upscaler",
                "super resolution",
                "hypir",
                "supir",
            ],
            essentials_category="Image Tools",
            inputs=[
                io.Image.Input("image", tooltip="Pictures to restore. Transparency is kept."),
                *size_inputs(),
                *words_and_strength(),
                *color_fix_inputs(default=AUTO),
                *tile_inputs(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White is restored, black keeps the resized picture. A mask of another size is resized. "
                    "Load Image's mask is white where the picture is transparent.",
                ),
                *model_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The restored pictures."),
                io.String.Output(
                    display_name="report", tooltip="What was done, as JSON, one entry per picture."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, input_types: dict[str, str]) -> bool | str:
        """Say when the workflow is queued which sockets do not go together."""
        return mismatch(cls, input_types) or problem_with(input_types) or True

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        size_rule: str,
        scale: float,
        longest_side_px: int,
        megapixels: float,
        prompt: str,
        strength: float,
        color_fix: str,
        color_strength: float,
        tile_px: int,
        overlap_px: int,
        mask: Any = None,
        upscale_model: Any = None,
        model: Any = None,
        clip: Any = None,
        conditioning: Any = None,
        vae: Any = None,
        built_in: str = BUILT_IN[0],
    ) -> io.NodeOutput:
        """Restore the pictures."""
        color, alpha = to_bchw(image)
        masks, notes = fitted_masks(mask, pictures=len(color), size_px=(color.shape[-2], color.shape[-1]))
        asked = Asked(
            size_rule=size_rule,
            scale=scale,
            longest_side_px=longest_side_px,
            megapixels=megapixels,
            prompt=prompt,
            strength=strength,
            color_fix=color_fix,
            color_strength=color_strength,
            tile_px=tile_px,
            overlap_px=overlap_px,
            built_in=built_in,
        )
        request = asked.request()
        longest_px = max(*request.target.size_for(*color.shape[-2:], default_scale=DEFAULT_SCALE), NATIVE_PX)
        room_px = min(tile_px, longest_px) or None
        connected = connected_of(
            upscale_model=upscale_model, model=model, clip=clip, conditioning=conditioning, vae=vae
        )
        chosen = choose(
            prompt, upscale_model, model, clip, conditioning, vae, tile_px=room_px, built_in=built_in
        )
        notes += unused_sockets(connected) + unused_values(asked, connected, chosen.engine.spec.color_fix)
        runtime = memory.runtime(silent)
        expected = forecast(chosen.engine, color.shape, request, runtime, free_bytes=memory.free_bytes())
        notes += expected.notes
        on_face(with_notes(str(expected), notes))
        with chosen.room:
            done = restore_batch(chosen.engine, color, request, masks=masks, alpha=alpha)
        learn(chosen.engine, runtime, done.reports)
        reports = [replace(report, notes=(*notes, *report.notes)) for report in done.reports]
        text = json.dumps([json.loads(report.to_json()) for report in reports], ensure_ascii=False, indent=2)
        told = tuple(dict.fromkeys(note for report in reports for note in report.notes))
        return io.NodeOutput(done.image_bhwc, text, ui=said(summary(reports), told))


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An engine, ready to run."""

    engine: Engine
    room: AbstractContextManager[None]


def choose(
    prompt: str,
    upscale_model: Any,
    model: Any,
    clip: Any,
    conditioning: Any,
    vae: Any,
    *,
    tile_px: int | None,
    built_in: str,
) -> Chosen:
    """Return the engine that the connected sockets ask for, with room for tiles of `tile_px` (None: its own).

    Raises:
        ConfigError: the sockets do not go together.
    """
    connected = connected_of(
        upscale_model=upscale_model, model=model, clip=clip, conditioning=conditioning, vae=vae
    )
    problem = problem_with(connected)
    require(problem is None, problem or "")
    if model is not None:
        ready = host_model.encode_text(clip, prompt) if conditioning is None else conditioning
        engine = native_engine(model, ready, vae, tile_px=tile_px)
        return Chosen(engine=engine, room=nullcontext())
    patcher = None
    if upscale_model is not None:
        ours = restorer_in(upscale_model)
        if ours is not None and ours.spec.in_channels == RGB:
            engine = ours
        else:  # a grey one sees each colour for itself
            engine = upscaler_of(upscale_model, label=label_of(upscale_model))
        patcher = getattr(upscale_model, "patcher", None)  # newer versions of ComfyUI manage these models too
    else:
        engine = load_built_in(BUILT_IN_OPTIONS[built_in](), memory.device(), memory.dtype_name())
    sides, _ = engine.tile.sides(2) if tile_px is None else ((tile_px, tile_px), ())
    area_px = prod(side // scale for side, scale in zip(sides, engine.scale, strict=True))
    working_bytes = area_px * engine.bytes_per_input_px
    if patcher is None:
        return Chosen(engine=engine, room=memory.room_for(engine.net, working_bytes))
    placed = replace(engine, place=partial(memory.place_managed, patcher, working_bytes))
    return Chosen(engine=placed, room=nullcontext())


def label_of(upscale_model: Any) -> str:
    """Return what tells one UPSCALE_MODEL from another; ComfyUI does not say from which file it came."""
    return f"{upscale_model.architecture.name} {fingerprint_of_tensors(upscale_model.model.state_dict())}"
