"""Restore Clip: a film, shot by shot."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ..hypir_core.clip.steady import MOST
from ..hypir_core.clip.walk import USUAL_STEADY, Clip, frames_together
from ..hypir_core.engines.base import Engine
from ..hypir_core.measure.forecast import shown
from ..hypir_core.pipeline import restore
from ..hypir_core.request import Request
from .host import memory, progress
from .host.face import said
from .host.schema import io, mismatch, schema
from .host.video import film
from .inputs import (
    AUTO,
    CATEGORY,
    color_fix_inputs,
    model_inputs,
    size_inputs,
    tile_inputs,
    words_and_strength,
)
from .latents import NATIVE_PX
from .native import DEFAULT_SCALE
from .restore import choose
from .sockets import Asked, connected_of, problem_with, unused_sockets, unused_values


class HypirRestoreClip(io.ComfyNode):
    """A film through any of the engines."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirRestoreClip",
            display_name="Restore Clip",
            category=CATEGORY,
            description="Restores and enlarges a VIDEO with any model that Restore Image takes. The frames of a shot "
            "are treated alike, flicker is kept down, sound is kept, and a file of any length needs the memory of a few "
            "frames. For an IMAGE batch put Create Video before it and Get Video Components behind it: nothing is lost.",
            search_aliases=[
                "video",
                "clip",
                "film",
                "movie",
                "restore video",
                "upscale video",
                "flicker",
                "hypir",
            ],
            inputs=[
                io.Video.Input("video", tooltip="The film. Shots are found by themselves."),
                *size_inputs(),
                *words_and_strength(),
                *color_fix_inputs(default=AUTO),
                io.Float.Input(
                    "steady",
                    default=USUAL_STEADY,
                    min=0.0,
                    max=MOST,
                    step=0.05,
                    tooltip="Keeps down the flicker of what the model adds: 0 not at all, 0.8 well, 0.95 most. What "
                    "moves is left alone.",
                ),
                *tile_inputs(),
                *model_inputs(),
            ],
            outputs=[
                io.Video.Output(display_name="VIDEO", tooltip="The restored film, with its sound."),
                io.String.Output(display_name="report", tooltip="What was done, in one line."),
            ],
        )

    @classmethod
    def validate_inputs(cls, input_types: dict[str, str]) -> bool | str:
        """Say when the workflow is queued which sockets do not go together."""
        return mismatch(cls, input_types) or problem_with(input_types) or True

    @classmethod
    def execute(
        cls,
        video: Any,
        size_rule: str,
        scale: float,
        longest_side_px: int,
        megapixels: float,
        prompt: str,
        strength: float,
        color_fix: str,
        color_strength: float,
        steady: float,
        tile_px: int,
        overlap_px: int,
        upscale_model: Any = None,
        model: Any = None,
        clip: Any = None,
        conditioning: Any = None,
        vae: Any = None,
        built_in: str = "built-in",
    ) -> io.NodeOutput:
        """Restore the film."""
        started = time.monotonic()
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
        given, (width, height) = film(video), video.get_dimensions()
        size_px = request.target.size_for(height, width, default_scale=DEFAULT_SCALE)
        room_px = min(tile_px, max(*size_px, NATIVE_PX)) or None
        chosen = choose(
            prompt, upscale_model, model, clip, conditioning, vae, tile_px=room_px, built_in=built_in
        )
        connected = connected_of(
            upscale_model=upscale_model, model=model, clip=clip, conditioning=conditioning, vae=vae
        )
        notes = unused_sockets(connected) + unused_values(asked, connected, chosen.engine.spec.color_fix)
        frames = _Frames(request, given.frames)
        with chosen.room:
            walk = Clip(chosen.engine, steady=steady)
            together = frames_together(size_px, memory.device())
            result = given.write(walk.restored(given.read(), frames.restored, at_a_time=together))
        line = f"{walk.done} frames, {walk.shots} shot{'s' * (walk.shots != 1)}, "
        line += f"{shown(frames.input_px)} → {shown(frames.output_px)} px · {chosen.engine.spec.name} "
        line += f"· {progress.duration(time.monotonic() - started)}"
        return io.NodeOutput(result, line, ui=said(line, (*notes, *given.notes)))


class _Frames:
    """Restores frames, and tells how far it is."""

    def __init__(self, request: Request, expected: int):
        self._request, self._expected, self.done = request, expected, 0
        self.input_px = self.output_px = (0, 0)

    def restored(self, engine: Engine, frames: Tensor) -> Tensor:
        """Restore frames of one shot."""
        pictures = max(1, self._expected // len(frames), self.done // len(frames) + 1)
        bar = progress.progress_bar(picture=self.done // len(frames), pictures=pictures)
        image_01 = restore(engine, frames, self._request, memory.runtime(bar)).image_01
        self.done += len(frames)
        self.input_px = (frames.shape[-2], frames.shape[-1])
        self.output_px = (image_01.shape[-2], image_01.shape[-1])
        return image_01.to(torch.float32)
