"""The one step taken apart: Tiled Encode, One-Step Restore, Tiled Decode.

The LATENT between them is an ordinary one for stock nodes. Under the key `PLAN` it carries what was done to the
picture, so that the last node can undo it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..hypir_core.engines.diffusion.codec import decode_stage, encode_stage
from ..hypir_core.engines.diffusion.noise import Noise
from ..hypir_core.engines.diffusion.parts import STEP_TILE_PX, VAE_TILE_PX, Condition
from ..hypir_core.engines.diffusion.sizing import Tiling, canvas_for, mirror_to
from ..hypir_core.errors import ShapeError
from ..hypir_core.image.resize import resize
from ..hypir_core.request import Request
from ..hypir_core.tiling.geometry import Plane
from ..hypir_core.tiling.plan import TileWish
from ..hypir_core.tiling.run import run_stage
from ..hypir_core.tiling.stage import Stage
from .convert import mask_to_b1hw, to_bchw, to_bhwc
from .host import memory, progress
from .host import vae as host_vae
from .host.schema import io, schema, ui
from .inputs import default_of, size_inputs, target_of, tile_inputs
from .native import native_codec, native_engine

PLAN = "hypir_plan"

NATIVE_PX = 512

LATENT_PX = 8
"""Pixels per latent cell of Stable Diffusion."""

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
    wish: TileWish


class HypirTiledEncode(io.ComfyNode):
    """A picture, brought to its size, as a LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
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
            wish=TileWish(tile_px=tile_px or None, overlap_px=overlap_px or None),
        )
        content = resize(color.expand(-1, 3, -1, -1), content_px).clamp(0, 1)
        codec = native_codec(vae, tile_px=min(tile_px or VAE_TILE_PX, max(canvas_px)))
        stage = encode_stage(codec, Tiling(), scale=1.0)
        latent, said = _run(stage, Plane(mirror_to(content, canvas_px)), plan.wish)
        reference = memory.as_image(to_bhwc(resize(color, size_px).clamp(0, 1)))
        return io.NodeOutput({"samples": latent, PLAN: plan}, reference, ui=said)


class HypirOneStepRestore(io.ComfyNode):
    """The diffusion step alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
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
        samples = latent["samples"].float().to(memory.runtime(progress.progress_bar()).canvas_device)
        h_px, w_px = (side * LATENT_PX for side in samples.shape[-2:])
        plan = plan_of(latent)
        wish = TileWish() if plan is None else plan.wish
        _content, canvas_px = canvas_for((max(h_px, NATIVE_PX), max(w_px, NATIVE_PX)), native_px=NATIVE_PX)
        asked_px = wish.tile_px if isinstance(wish.tile_px, int) else STEP_TILE_PX
        room_px = min(asked_px, max(canvas_px))
        engine = native_engine(model, conditioning, None, tile_px=room_px)
        padded = mirror_to(samples, (canvas_px[0] // LATENT_PX, canvas_px[1] // LATENT_PX))
        scale = engine.codec.scale
        stage = engine.step_stage(engine.steps[0], Condition(value=conditioning), Noise(0))
        restored, said = _run(stage, Plane(padded * scale, LATENT_PX), wish)
        restored = restored[..., : samples.shape[-2], : samples.shape[-1]] / scale
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
        return schema(
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
        samples, plan, stride = latent["samples"], plan_of(latent), host_vae.vae_stride(vae)
        if samples.ndim != 4 or samples.shape[1] != vae.latent_channels:
            raise ShapeError(
                f"this VAE: expected a latent [b {vae.latent_channels} h w], got {list(samples.shape)}"
            )
        own = TileWish() if plan is None else plan.wish
        wish = TileWish(tile_px=tile_px or own.tile_px, overlap_px=overlap_px or own.overlap_px)
        longest_px = stride * max(samples.shape[-2:])
        codec = native_codec(vae, tile_px=min(tile_px or VAE_TILE_PX, longest_px))
        stage = decode_stage(codec, Tiling(), scale=1.0)
        image, said = _run(stage, Plane(samples.float(), stride), wish)
        if plan is not None:
            content = image[..., : plan.content_px[0], : plan.content_px[1]]
            image = resize(content, plan.size_px)
        return io.NodeOutput(memory.as_image(to_bhwc(image.clamp(0, 1))), ui=said)


def plan_of(latent: Mapping[str, Any]) -> LatentPlan | None:
    """Return the plan that a LATENT carries; None where a node has changed its size since, or it never had one."""
    plan = latent.get(PLAN)
    if not isinstance(plan, LatentPlan):
        return None
    h, w = (side * LATENT_PX for side in latent["samples"].shape[-2:])
    return plan if plan.canvas_px == (h, w) else None


def _run(stage: Stage, plane: Plane, wish: TileWish) -> tuple[Tensor, ui.PreviewText | None]:
    """Run one stage over a batch, picture by picture, with a bar; also returns what there is to say about it."""
    done, said = [], []
    for i in range(plane.images):
        bar = progress.progress_bar(picture=i, pictures=plane.images)
        out, report = run_stage(
            stage, plane.of_images(slice(i, i + 1)), wish=wish, runtime=memory.runtime(bar)
        )
        done.append(out.data)
        said += [f"out of memory, {rung}" for rung in report.rungs]
        said += report.bad_tiles
    return torch.cat(done), ui.PreviewText("\n".join(said)) if said else None
