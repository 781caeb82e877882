"""The one step taken apart: Tiled Encode, One-Step Restore, Tiled Decode.

The LATENT between them is an ordinary one for stock nodes. Under the key `PLAN` it carries what was done to the
picture, so that the last node can undo it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..hypir_core.engines.diffusion.codec import decode_stage, encode_stage
from ..hypir_core.engines.diffusion.noise import Noise
from ..hypir_core.engines.diffusion.parts import STEP_TILE_PX, VAE_TILE_PX
from ..hypir_core.engines.diffusion.sizing import Tiling, canvas_for, mirror_to
from ..hypir_core.errors import ShapeError
from ..hypir_core.image.resize import resize
from ..hypir_core.request import Request
from ..hypir_core.tiling.geometry import Plane
from ..hypir_core.tiling.plan import TileWish
from ..hypir_core.tiling.run import run_stage
from ..hypir_core.tiling.stage import Stage
from .batch import for_pictures, parts_of
from .convert import mask_to_b1hw, to_bchw
from .host import memory, progress
from .host import vae as host_vae
from .host.face import said as say
from .host.schema import beside, io, schema, ui
from .inputs import default_of, size_inputs, target_of, tile_inputs
from .latent_plan import PLAN, plan_of, planned
from .native import CELL_PX, DEFAULT_SCALE, native_codec, native_condition, native_engine, require_latent

NATIVE_PX = 512


class HypirTiledEncode(io.ComfyNode):
    """A picture, brought to its size, as a LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirTiledEncode",
            display_name="Tiled Encode",
            category=beside("VAEEncode", otherwise="latent"),
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
        wish = TileWish(tile_px=tile_px or None, overlap_px=overlap_px or None)
        codec = native_codec(vae, tile_px=min(tile_px or VAE_TILE_PX, max(canvas_px)))
        stage = encode_stage(codec, Tiling(), scale=1.0)
        reference = memory.new_image((len(color), *size_px, 3))

        def canvas(part: slice) -> Plane:
            shown = resize(color[part].expand(-1, 3, -1, -1), content_px).clamp(0, 1)
            fitted = shown if content_px == size_px else resize(color[part], size_px).clamp(0, 1)
            reference[part] = fitted.movedim(1, -1)
            return Plane(mirror_to(shown, canvas_px))

        latents, said = [], Said()
        parts = parts_of(len(color), prod(reference.shape[1:]) * reference.element_size())
        for number, part in enumerate(parts):
            latents.append(_run(stage, canvas(part), wish, said, part=number, parts=len(parts)))
        samples = torch.cat(latents)
        plan = planned(samples, content_px=content_px, size_px=size_px, wish=wish)
        return io.NodeOutput({"samples": samples, PLAN: plan}, reference, ui=said.shown())


class HypirOneStepRestore(io.ComfyNode):
    """The diffusion step alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirOneStepRestore",
            display_name="One-Step Restore",
            category=beside("KSampler", otherwise="sampling"),
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
        require_latent(latent)
        samples = latent["samples"].float().to(memory.runtime(progress.progress_bar()).canvas_device)
        said, amount = Said(), _amount(strength, mask, samples)
        if not bool(torch.as_tensor(amount).any()):
            said.did("nothing is to be restored (strength 0, or a black mask): the model did not run")
            return io.NodeOutput(dict(latent), ui=said.shown())
        plan = plan_of(latent)
        wish = TileWish() if plan is None else plan.wish
        size_px = [side * CELL_PX for side in samples.shape[-2:]]
        _content, canvas_px = canvas_for([max(side, NATIVE_PX) for side in size_px], native_px=NATIVE_PX)
        asked_px = wish.tile_px if isinstance(wish.tile_px, int) else STEP_TILE_PX
        engine = native_engine(model, conditioning, None, tile_px=min(asked_px, max(canvas_px)))
        (step,) = engine.steps
        condition = native_condition(model, conditioning, size_px, canvas_px, model_t=round(step.t))
        said.add(*condition.notes)
        stage = for_pictures(engine.step_stage(step, condition, Noise(0)), slice(0, len(samples)))
        padded = mirror_to(samples, [side // CELL_PX for side in canvas_px])
        scale = engine.codec.scale
        begun = engine.start(padded * scale, step, Noise(0))
        restored = _run(stage, Plane(begun, CELL_PX), wish, said) / scale
        restored = restored[..., : samples.shape[-2], : samples.shape[-1]]
        mixed = samples + (restored - samples) * amount
        return io.NodeOutput({**latent, "samples": mixed}, ui=said.shown())


class HypirTiledDecode(io.ComfyNode):
    """A LATENT as a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirTiledDecode",
            display_name="Tiled Decode",
            category=beside("VAEEncode", otherwise="latent"),
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
        h, w = (side * stride for side in samples.shape[-2:])
        codec = native_codec(vae, tile_px=min(tile_px or VAE_TILE_PX, max(h, w)))
        stage = decode_stage(codec, Tiling(), scale=1.0)
        image, said = torch.empty(0), Said()
        parts = parts_of(len(samples), h * w * 3 * 4)
        for number, part in enumerate(parts):
            plane = Plane(samples[part].float(), stride)
            made = _run(stage, plane, wish, said, part=number, parts=len(parts))
            if plan is not None:
                made = plan.undo(made)
            if number == 0:
                image = memory.new_image((len(samples), *made.shape[-2:], 3))
            image[part] = made.clamp_(0, 1).movedim(1, -1)
        return io.NodeOutput(image, ui=said.shown())


class Said:
    """What there is to say about a run, each once."""

    def __init__(self) -> None:
        self._did: dict[str, None] = {}
        self._notes: dict[str, None] = {}

    def did(self, line: str) -> None:
        """Say what was done."""
        self._did[line] = None

    def add(self, *notes: str) -> None:
        """Say what should be known about it."""
        self._notes |= dict.fromkeys(notes)

    def shown(self) -> ui.PreviewText:
        """Say it on the node's face and in the log; returns it for the node's results."""
        return say("\n".join(self._did), tuple(self._notes))


def _run(stage: Stage, plane: Plane, wish: TileWish, said: Said, *, part: int = 0, parts: int = 1) -> Tensor:
    """Run one stage over a part of a batch, with a bar."""
    bar = progress.progress_bar(picture=part, pictures=parts)
    out, report = run_stage(stage, plane, wish=wish, runtime=memory.runtime(bar))
    said.did(f"{stage.name}: {report.tiles}")
    said.add(*(f"out of memory, {rung}" for rung in report.rungs), *report.bad_tiles)
    return out.data


def _amount(strength: float, mask: Any, samples: Tensor) -> Tensor | float:
    """Return how much of the restored latent is taken, for all or [b 1 h w] in cells."""
    if mask is None:
        return strength
    masks = mask_to_b1hw(mask, batch=len(samples)).to(samples.device)
    return strength * F.interpolate(masks, size=samples.shape[-2:], mode="area").clamp(0, 1)
