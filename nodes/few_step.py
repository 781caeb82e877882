"""Few-Step Restore: SeeSR's engine, whole, on ComfyUI's networks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..hypir_core.engines.diffusion.seesr.options import (
    MOST_PARTICLES,
    MOST_STEPS,
    SamplerName,
    SeesrOptions,
    StartFrom,
)
from ..hypir_core.measure.forecast import forecast, learn
from ..hypir_core.progress import silent
from ..hypir_core.request import Request
from ..hypir_core.tiling.plan import TileWish
from .batch import restore_batch, summary
from .convert import to_bchw
from .host import image_blocks, memory
from .host.face import on_face, said, with_notes
from .host.schema import advanced, io, schema
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
from .latents import NATIVE_PX
from .native import DEFAULT_SCALE
from .native_guided import guided_engines, require_tokens


class HypirFewStepRestore(io.ComfyNode):
    """A few guided steps over the whole canvas, tile by tile."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirFewStepRestore",
            display_name="Few-Step Restore",
            category=CATEGORY,
            description="Restores and enlarges a picture in a few guided steps, as SeeSR does, in any size. Every "
            "ControlNet of the CONDITIONING sees its part of its picture; noise and steering see the whole.",
            search_aliases=["seesr", "upscale", "super resolution", "restore", "few step", "sd turbo"],
            inputs=[
                io.Image.Input("image", tooltip="Pictures to restore. Transparency is kept."),
                io.Model.Input("model", tooltip="From Apply SeeSR, or from Load SeeSR without tokens."),
                io.Vae.Input("vae", tooltip="The base model's VAE."),
                io.Conditioning.Input(
                    "positive", tooltip="From Apply SeeSR; more ControlNets may be on it (Apply ControlNet)."
                ),
                *size_inputs(),
                io.Int.Input(
                    "steps",
                    default=default_of(SeesrOptions, "steps"),
                    min=1,
                    max=MOST_STEPS,
                    tooltip="1 to 8 with SD-Turbo; 20 or more, with a cfg of 5.5, with SD 2-base.",
                ),
                io.Float.Input(
                    "cfg",
                    default=default_of(SeesrOptions, "cfg"),
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="Guidance away from negative. 1 is without it, and half the work.",
                ),
                io.Combo.Input(
                    "sampler",
                    options=SamplerName,
                    default=default_of(SeesrOptions, "sampler"),
                    tooltip="ddim draws no noise between steps, ddpm does.",
                ),
                io.Combo.Input(
                    "start",
                    options=StartFrom,
                    default=default_of(SeesrOptions, "start"),
                    tooltip="lq: the picture with noise on it. noise: noise alone. as_is: the picture itself.",
                ),
                io.Int.Input(
                    "seed",
                    default=default_of(Request, "seed"),
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=True,
                    tooltip="Decides the noise, the same for every size of tiles.",
                ),
                advanced(
                    io.Int.Input(
                        "particles",
                        default=default_of(SeesrOptions, "particles"),
                        min=1,
                        max=MOST_PARTICLES,
                        tooltip="Tries at once, drawn to where most agree. Time and memory grow alike.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "bandwidth",
                        default=0.0,
                        min=0.0,
                        max=1000.0,
                        step=0.1,
                        tooltip="With particles: how far apart tries still count as near. 0 takes the median distance.",
                    )
                ),
                *color_fix_inputs(default=AUTO),
                *tile_inputs(),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="From Apply SeeSR; needed with a cfg above 1."
                ),
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
        image: Tensor,
        model: Any,
        vae: Any,
        positive: Any,
        size_rule: str,
        scale: float,
        longest_side_px: int,
        megapixels: float,
        steps: int,
        cfg: float,
        sampler: str,
        start: str,
        seed: int,
        particles: int,
        bandwidth: float,
        color_fix: str,
        color_strength: float,
        tile_px: int,
        overlap_px: int,
        negative: Any = None,
    ) -> io.NodeOutput:
        """Restore the pictures."""
        color, alpha = to_bchw(image)
        require_tokens(image_blocks.tokens_of(model), len(color))
        options = SeesrOptions(
            steps=steps,
            cfg=cfg,
            sampler=SamplerName(sampler),
            start=StartFrom(start),
            particles=particles,
            steering_bandwidth=(bandwidth or None) if particles > 1 else None,
        )
        target = target_of(size_rule, scale, longest_side_px, megapixels)
        longest_px = max(*target.size_for(*color.shape[-2:], default_scale=DEFAULT_SCALE), NATIVE_PX)
        room_px = min(tile_px, longest_px) or None
        engines = guided_engines(model, positive, negative, vae, options, tile_px=room_px)
        request = Request(
            target=target,
            seed=seed,
            tile=TileWish(tile_px=tile_px or None, overlap_px=overlap_px or None),
            color_fix=color_fix_of(color_fix),
            color_strength=color_strength,
        )
        engine, runtime = engines(0), memory.runtime(silent)
        expected = forecast(engine, color.shape, request, runtime, free_bytes=memory.free_bytes())
        on_face(with_notes(str(expected), expected.notes))
        done = restore_batch(engine, color, request, alpha=alpha, each=engines)
        learn(engine, runtime, done.reports)
        reports = [replace(report, notes=(*expected.notes, *report.notes)) for report in done.reports]
        text = json.dumps([json.loads(report.to_json()) for report in reports], ensure_ascii=False, indent=2)
        told = tuple(dict.fromkeys(note for report in reports for note in report.notes))
        return io.NodeOutput(done.image_bhwc, text, ui=said(summary(reports), told))
