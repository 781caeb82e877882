"""The one step taken apart: Tiled Encode, One-Step Restore, Tiled Decode.

The LATENT between them is an ordinary one for stock nodes. Under the key `PLAN` it carries what was done to the
picture, so that the last node can undo it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..hypir_core.engines.base import Prepared
from ..hypir_core.engines.diffusion.engine import (
    DECODE_SAMPLE,
    ENCODE_SAMPLE,
    LATENT_PX,
    STEP_TILE,
    VAE_MARGIN_PX,
    VAE_TILE,
    canvas_for,
    mirror_to,
)
from ..hypir_core.engines.diffusion.sharing import sample_survey
from ..hypir_core.errors import ShapeError
from ..hypir_core.image.resize import resize
from ..hypir_core.pipeline import tile_for
from ..hypir_core.request import Request
from ..hypir_core.tiling.geometry import Plane
from ..hypir_core.tiling.plan import TileConfig
from ..hypir_core.tiling.run import Stage, run_stage
from . import host
from .convert import mask_to_b1hw, to_bchw, to_bhwc
from .host import io, ui
from .inputs import default_of, size_inputs, target_of, tile_inputs
from .native import native_engine

PLAN = "hypir_plan"

NATIVE_PX = 512

DEFAULT_SCALE = 4.0
"""What 'as the model enlarges' means for the one-step model, which has no factor of its own."""


@dataclass(frozen=True, kw_only=True)
class LatentPlan:
    """How a picture lies on its latent."""

    canvas_px: tuple[int, int]
    content_px: tuple[int, int]
    """The picture's part of the canvas, top left; the rest was mirrored."""
    size_px: tuple[int, int]
    """What was asked for; the content is resized to it where it differs."""
    tile_px: int | None
    overlap_px: int | None


class HypirTiledEncode(io.ComfyNode):
    """A picture, brought to its size, as a LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return host.schema(
            node_id="HypirTiledEncode",
            display_name="Tiled Encode",
            category="latent",
            description="Resizes a picture, pads it for the model and encodes it tile by tile in one pass. The "
            "LATENT suits every stock node and remembers how to get back.",
            search_aliases=["vae encode", "tiled vae", "hypir"],
            inputs=[
                io.Image.Input("image", tooltip="Pictures to encode. Transparency is left out."),
                io.Vae.Input("vae", tooltip="The VAE of the model that will work on the latent."),
                *size_inputs(),
                *tile_inputs(),
            ],
            outputs=[
                io.Latent.Output(display_name="LATENT", tooltip="For One-Step Restore or any sampler."),
                io.Image.Output(
                    display_name="reference",
                    tooltip="The resized picture, as reference for Wavelet Color Fix.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        vae: Any,
        size_rule: str,
        scale: float,
        longest_side_px: int,
        megapixels: float,
        tile_px: int,
        overlap_px: int,
    ) -> io.NodeOutput:
        """Resize, pad, encode."""
        color, _alpha = to_bchw(image)
        target = target_of(size_rule, scale, longest_side_px, megapixels)
        size_px = target.size_for(*color.shape[-2:], default_scale=DEFAULT_SCALE)
        content_px, canvas_px = canvas_for(size_px, native_px=NATIVE_PX)
        plan = LatentPlan(
            canvas_px=canvas_px,
            content_px=content_px,
            size_px=size_px,
            tile_px=tile_px or None,
            overlap_px=overlap_px or None,
        )
        content = resize(color.expand(-1, 3, -1, -1), content_px).clamp(0, 1)
        tile = tile_for(Request(tile_px=plan.tile_px, overlap_px=plan.overlap_px), VAE_TILE)
        stage = encode_stage(vae, min(tile.tile_px, max(canvas_px)))
        latent, said = _run(stage, Plane(mirror_to(content, canvas_px)), tile)
        reference = host.as_image(to_bhwc(resize(color, size_px).clamp(0, 1)))
        return io.NodeOutput({"samples": latent, PLAN: plan}, reference, ui=said)


class HypirOneStepRestore(io.ComfyNode):
    """The diffusion step alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return host.schema(
            node_id="HypirOneStepRestore",
            display_name="One-Step Restore",
            category="sampling",
            description="One step from the degraded latent to the clean one, tile by tile, through ComfyUI's own "
            "sampling: other patches on the model take part.",
            search_aliases=["hypir", "sampler", "restore", "one step"],
            inputs=[
                io.Model.Input("model", tooltip="SD 2.1-base with Load HYPIR LoRA."),
                io.Conditioning.Input(
                    "conditioning", tooltip="What the picture shows; an empty prompt is a good choice."
                ),
                io.Latent.Input("latent", tooltip="From Tiled Encode or VAE Encode."),
                io.Float.Input(
                    "strength",
                    default=default_of(Request, "strength"),
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 gives the latent back as it came, 1 is fully restored.",
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="White is restored, black stays as it came. Any size."
                ),
            ],
            outputs=[io.Latent.Output(display_name="LATENT", tooltip="For Tiled Decode or VAE Decode.")],
        )

    @classmethod
    def execute(
        cls, model: Any, conditioning: Any, latent: Mapping[str, Any], strength: float, mask: Any = None
    ) -> io.NodeOutput:
        """Take the step."""
        samples = latent["samples"].float().to(host.runtime(host.progress_bar({})).canvas_device)
        h_px, w_px = (side * LATENT_PX for side in samples.shape[-2:])
        plan = plan_of(latent)
        request = Request() if plan is None else Request(tile_px=plan.tile_px, overlap_px=plan.overlap_px)
        tile = tile_for(request, STEP_TILE)
        room_px = min(tile.tile_px, max(h_px, w_px, NATIVE_PX))
        engine = native_engine(model, conditioning, None, tile_px=room_px)
        _content, canvas_px = canvas_for((max(h_px, NATIVE_PX), max(w_px, NATIVE_PX)), native_px=NATIVE_PX)
        padded = mirror_to(samples, (canvas_px[0] // LATENT_PX, canvas_px[1] // LATENT_PX))
        plane = Plane(padded * engine.scaling_factor, LATENT_PX)
        prepared = Prepared(plane=plane, content_px=canvas_px)
        _encode, step, _decode = engine.stages(prepared, request)
        restored, said = _run(step, plane, tile)
        restored = restored[..., : samples.shape[-2], : samples.shape[-1]] / engine.scaling_factor
        amount: Any = strength
        if mask is not None:
            masks = mask_to_b1hw(mask, batch=len(samples)).to(samples.device)
            amount = strength * F.interpolate(masks, size=samples.shape[-2:], mode="area").clamp(0, 1)
        return io.NodeOutput({**latent, "samples": samples + (restored - samples) * amount}, ui=said)


class HypirTiledDecode(io.ComfyNode):
    """A LATENT as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return host.schema(
            node_id="HypirTiledDecode",
            display_name="Tiled Decode",
            category="latent",
            description="Decodes a latent tile by tile in one pass, a third of the work of the stock tiled decode. "
            "What Tiled Encode added is cut off again.",
            search_aliases=["vae decode", "tiled vae", "hypir"],
            inputs=[
                io.Latent.Input("latent", tooltip="From One-Step Restore or any sampler."),
                io.Vae.Input("vae", tooltip="The VAE of the model that made the latent."),
                *tile_inputs(),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The pictures.")],
        )

    @classmethod
    def execute(cls, latent: Mapping[str, Any], vae: Any, tile_px: int, overlap_px: int) -> io.NodeOutput:
        """Decode, cut, resize."""
        samples, plan, stride = latent["samples"], plan_of(latent), host.vae_stride(vae)
        if samples.ndim != 4 or samples.shape[1] != vae.latent_channels:
            raise ShapeError(
                f"this VAE: expected a latent [b {vae.latent_channels} h w], got {list(samples.shape)}"
            )
        asked = Request(
            tile_px=tile_px or (plan and plan.tile_px) or None,
            overlap_px=overlap_px or (plan and plan.overlap_px) or None,
        )
        tile = tile_for(asked, VAE_TILE)
        stage = decode_stage(vae, min(tile.tile_px, stride * max(samples.shape[-2:])))
        image, said = _run(stage, Plane(samples.float(), stride), tile)
        if plan is not None:
            content = image[..., : plan.content_px[0], : plan.content_px[1]]
            image = resize(content, plan.size_px)
        return io.NodeOutput(host.as_image(to_bhwc(image.clamp(0, 1))), ui=said)


def plan_of(latent: Mapping[str, Any]) -> LatentPlan | None:
    """Return the plan that a LATENT carries; None where a node has changed its size since, or it never had one."""
    plan = latent.get(PLAN)
    if not isinstance(plan, LatentPlan):
        return None
    h, w = (side * LATENT_PX for side in latent["samples"].shape[-2:])
    return plan if plan.canvas_px == (h, w) else None


def encode_stage(vae: Any, tile_px: int) -> Stage:
    """Return [n 3 h w] in [0,1] → latents that are not scaled; no tile is larger than `tile_px`."""
    stride, (to_network, _), (bytes_per_px, _) = (
        host.vae_stride(vae),
        host.vae_ranges(vae),
        host.vae_bytes_per_px(vae),
    )

    def encode(tile_01: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
        return host.vae_encode(vae, to_network(tile_01))

    return Stage(
        name="encode",
        run=encode,
        survey=sample_survey(encode, host.vae_shared(vae), ENCODE_SAMPLE),
        out_channels=vae.latent_channels,
        out_stride_px=stride,
        grain_px=stride,
        bytes_per_px=bytes_per_px,
        margin_px=VAE_MARGIN_PX,
        place=partial(host.place_vae, vae, tile_px),
    )


def decode_stage(vae: Any, tile_px: int) -> Stage:
    """Return latents that are not scaled → [n 3 H W], black 0 and white 1, not clamped where that can be had."""
    stride, (_, from_network), (_, bytes_per_px) = (
        host.vae_stride(vae),
        host.vae_ranges(vae),
        host.vae_bytes_per_px(vae),
    )

    def decode(latent: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
        return from_network(host.vae_decode(vae, latent))

    return Stage(
        name="decode",
        run=decode,
        survey=sample_survey(decode, host.vae_shared(vae), DECODE_SAMPLE),
        out_channels=3,
        out_stride_px=1,
        grain_px=stride,
        bytes_per_px=bytes_per_px,
        margin_px=VAE_MARGIN_PX,
        place=partial(host.place_vae, vae, tile_px),
    )


def _run(stage: Stage, plane: Plane, tile: TileConfig) -> tuple[Tensor, ui.PreviewText | None]:
    """Run one stage over a batch, picture by picture, with a bar; also returns what memory made it give up."""
    pictures = plane.data_bchw.split(1)
    done, rungs = [], []
    for i, picture in enumerate(pictures):
        bar = host.progress_bar({stage.name: 1.0}, picture=i, pictures=len(pictures))
        out, report = run_stage(stage, Plane(picture, plane.stride_px), tile=tile, runtime=host.runtime(bar))
        done.append(out.data_bchw)
        rungs += [f"out of memory, {rung}" for rung in report.rungs]
    return torch.cat(done), ui.PreviewText("\n".join(rungs)) if rungs else None
