"""Restore Image: the one-node way."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from ..hypir_core.engines.base import Engine
from ..hypir_core.engines.feed_forward.load import load_built_in, upscaler_of
from ..hypir_core.engines.feed_forward.options import BuiltInOptions
from ..hypir_core.pipeline import restore
from ..hypir_core.request import Report, Request
from ..hypir_core.tiling.plan import TileWish
from .convert import mask_to_b1hw, to_bchw, to_bhwc
from .host import memory, progress
from .host import model as host_model
from .host.schema import io, require, schema, ui
from .inputs import (
    AUTO,
    CATEGORY,
    color_fix_inputs,
    color_fix_of,
    default_of,
    size_inputs,
    target_of,
    tile_inputs,
)
from .latents import DEFAULT_SCALE, NATIVE_PX
from .native import native_engine


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
                "upscale",
                "upscaler",
                "super resolution",
                "restore",
                "deblur",
                "denoise",
                "hypir",
                "supir",
            ],
            essentials_category="Image Tools",
            inputs=[
                io.Image.Input("image", tooltip="Pictures to restore. Transparency is kept."),
                *size_inputs(),
                io.String.Input(
                    "prompt",
                    default=default_of(Request, "prompt"),
                    multiline=True,
                    tooltip="What the picture shows, for MODEL with CLIP. Empty is a good choice; words about "
                    "quality make it worse.",
                ),
                io.Float.Input(
                    "strength",
                    default=default_of(Request, "strength"),
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 gives the resized picture back, 1 the restored one.",
                ),
                *color_fix_inputs(default=AUTO),
                *tile_inputs(),
                io.Mask.Input(
                    "mask", optional=True, tooltip="White is restored, black keeps the resized picture."
                ),
                io.UpscaleModel.Input(
                    "upscale_model", optional=True, tooltip="A super-resolution model to use instead."
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="SD 2.1-base with Load HYPIR LoRA: one diffusion step."
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="Reads the prompt. Connect this or conditioning."
                ),
                io.Conditioning.Input(
                    "conditioning", optional=True, tooltip="A ready prompt, instead of CLIP."
                ),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE."),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The restored pictures."),
                io.String.Output(
                    display_name="report", tooltip="What was done, as JSON, one entry per picture."
                ),
            ],
        )

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
    ) -> io.NodeOutput:
        """Restore one picture after the other."""
        color, alpha = to_bchw(image)
        target = target_of(size_rule, scale, longest_side_px, megapixels)
        longest_px = max(*target.size_for(*color.shape[-2:], default_scale=DEFAULT_SCALE), NATIVE_PX)
        room_px = min(tile_px, longest_px) or None
        chosen = choose(prompt, upscale_model, model, clip, conditioning, vae, tile_px=room_px)
        request = Request(
            target=target,
            prompt=prompt,
            tile=TileWish(tile_px=tile_px or None, overlap_px=overlap_px or None),
            color_fix=color_fix_of(color_fix),
            color_strength=color_strength,
            strength=strength,
        )
        masks = None if mask is None else mask_to_b1hw(mask, batch=len(color))
        pictures, reports = [], []
        with chosen.room:
            for i in range(len(color)):
                bar = progress.progress_bar(picture=i, pictures=len(color))
                done = restore(
                    chosen.engine,
                    color[i : i + 1],
                    request,
                    memory.runtime(bar),
                    mask_01=masks if masks is None else masks[i : i + 1],
                    alpha_01=alpha if alpha is None else alpha[i : i + 1],
                )
                pictures.append(to_bhwc(done.image_01, done.alpha_01))
                reports.append(done.report)
        text = json.dumps([json.loads(report.to_json()) for report in reports], ensure_ascii=False, indent=2)
        summary = "\n".join(summarise(report) for report in reports)
        return io.NodeOutput(memory.as_image(torch.cat(pictures)), text, ui=ui.PreviewText(summary))


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
) -> Chosen:
    """Return the engine that the connected sockets ask for, with room for tiles of `tile_px` (None: its own).

    Raises:
        ConfigError: the sockets do not go together.
    """
    if model is not None:
        require(upscale_model is None, "connect MODEL or UPSCALE_MODEL, not both")
        require(vae is not None, "MODEL needs a VAE too; connect the one of its checkpoint")
        require((clip is None) != (conditioning is None), "with MODEL, connect either CLIP or CONDITIONING")
        ready = host_model.encode_text(clip, prompt) if conditioning is None else conditioning
        engine = native_engine(model, ready, vae, tile_px=tile_px)
        return Chosen(engine=engine, room=nullcontext())
    unused = [n for n, it in (("CLIP", clip), ("CONDITIONING", conditioning), ("VAE", vae)) if it is not None]
    require(
        not unused, f"{' and '.join(unused)} would not be used; connect MODEL as well, or disconnect them"
    )
    if upscale_model is not None:
        engine = upscaler_of(upscale_model, label=upscale_model.architecture.name)
    else:
        engine = load_built_in(BuiltInOptions(), memory.device(), memory.dtype_name())
    sides, _ = engine.tile.sides(2) if tile_px is None else ((tile_px, tile_px), ())
    area_px = prod(side // scale for side, scale in zip(sides, engine.scale, strict=True))
    return Chosen(engine=engine, room=memory.room_for(engine.net, area_px * engine.bytes_per_input_px))


def summarise(report: Report) -> str:
    """Return one line about a run for the node's face."""
    (h, w), (out_h, out_w) = report.input_px[-2:], report.output_px[-2:]
    line = f"{w}×{h} → {out_w}×{out_h} px · {report.engine} · {report.seconds:.1f} s"
    return " · ".join((line, *report.notes))
