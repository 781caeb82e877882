"""Load SeeSR and Apply SeeSR: the networks of SeeSR as ComfyUI's own MODEL and CONTROL_NET, for any sampler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..hypir_core.engines.diffusion.seesr.options import SeesrOptions
from ..hypir_core.errors import WeightsError
from ..hypir_core.models.sd.controlnet import NAMES as CONTROLNET_NAMES
from ..hypir_core.models.sd.image_blocks import MARK, image_blocks, require_same_places
from ..hypir_core.weights.fingerprint import short_hash
from ..hypir_core.weights.ldm_names import diffusers_names, ldm_controlnet_names
from ..hypir_core.weights.tensors import read_tensors
from .convert import to_bchw
from .host import folders
from .host import image_blocks as host_blocks
from .host import model as host_model
from .host.control import with_control
from .host.face import said
from .host.schema import beside, io, require, schema
from .inputs import default_of
from .native import require_sd21, require_text
from .native_guided import BASE, NO_TOKENS, TOKENS, require_tokens

FOLDERS = ("hypir", "controlnet")

HYPIR_TOKENS = io.Custom("HYPIR_TOKENS")
"""[b 145 512]: what a tagger sees in each picture."""


class HypirLoadSeesr(io.ComfyNode):
    """SeeSR's two networks onto a MODEL and as a CONTROL_NET."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        names = folders.file_names(*FOLDERS)
        return schema(
            node_id="HypirLoadSeesr",
            display_name="Load SeeSR",
            category=beside("ControlNetLoader", otherwise="loaders"),
            description="Puts SeeSR's image blocks on SD-Turbo or SD 2-base and loads its ControlNet. Both are "
            "ComfyUI's own models: stock samplers run them, and ComfyUI's memory management moves them.",
            search_aliases=["seesr", "controlnet", "restore", "few step"],
            inputs=[
                io.Model.Input("model", tooltip="SD-Turbo, or SD 2-base (512 px, eps-prediction)."),
                io.Combo.Input(
                    "unet",
                    options=names,
                    tooltip="SeeSR's UNet (unet/diffusion_pytorch_model.safetensors) in models/hypir or "
                    "models/controlnet. Only its image blocks are read.",
                ),
                io.Combo.Input(
                    "controlnet",
                    options=names,
                    tooltip="SeeSR's ControlNet (controlnet/diffusion_pytorch_model.safetensors), in the same folders.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="For Apply SeeSR."),
                io.ControlNet.Output(display_name="CONTROL_NET", tooltip="For Apply SeeSR."),
            ],
        )

    @classmethod
    def validate_inputs(cls, unet: str, controlnet: str) -> bool | str:
        """Say where a missing file belongs."""
        there = folders.file_names(*FOLDERS)
        for name in (unet, controlnet):
            if name not in there:
                return f"{name or 'no file'} is not there: put SeeSR's files into models/hypir or models/controlnet"
        return True

    @classmethod
    def fingerprint_inputs(cls, unet: str, controlnet: str, **_: Any) -> str:
        """Run again when a file has changed."""
        stats = [_path(name).stat() for name in (unet, controlnet)]
        return " ".join(f"{stat.st_mtime_ns} {stat.st_size}" for stat in stats)

    @classmethod
    def execute(cls, model: Any, unet: str, controlnet: str) -> io.NodeOutput:
        """Load both."""
        require_sd21(model, BASE)
        path, other = _path(unet), _path(controlnet)
        told, note = unet_with_image_blocks(model, path)
        control = controlnet_with_image_blocks(other)
        label = f"SeeSR {path.name} {short_hash(path)}, {other.name} {short_hash(other)}"
        told.set_attachments(host_blocks.KEY, (label, note))
        return io.NodeOutput(told, control, ui=said(note))


class HypirApplySeesr(io.ComfyNode):
    """A picture's tokens onto the MODEL, the picture itself into the CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirApplySeesr",
            display_name="Apply SeeSR",
            category=beside("ControlNetApplyAdvanced", otherwise="conditioning/controlnet"),
            description="Tells SeeSR's networks about a picture. What it gives suits KSampler, SamplerCustom and "
            "Few-Step Restore. Without tokens the image blocks are skipped.",
            search_aliases=["seesr", "controlnet", "restore"],
            inputs=[
                io.Model.Input("model", tooltip="From Load SeeSR."),
                io.ControlNet.Input("control_net", tooltip="From Load SeeSR."),
                io.Image.Input(
                    "image",
                    tooltip="The degraded picture. For a stock sampler, at the size that VAE Encode gets.",
                ),
                io.Conditioning.Input("positive", tooltip="What the picture shows, from CLIP Text Encode."),
                io.Conditioning.Input(
                    "negative", tooltip="What to steer away from; read with a cfg above 1."
                ),
                io.Float.Input(
                    "strength",
                    default=default_of(SeesrOptions, "control_strength"),
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How much the ControlNet holds the picture's structure. 0 runs without it.",
                ),
                HYPIR_TOKENS.Input("tokens", optional=True, tooltip="From Tag Image, for the same pictures."),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="With the tokens, for any sampler."),
                io.Conditioning.Output(display_name="positive", tooltip="With the ControlNet."),
                io.Conditioning.Output(display_name="negative", tooltip="With the ControlNet."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        control_net: Any,
        image: Tensor,
        positive: Any,
        negative: Any,
        strength: float,
        tokens: Tensor | None = None,
    ) -> io.NodeOutput:
        """Tell both networks."""
        require(
            host_blocks.has_image_blocks(model), "this MODEL has no image blocks of SeeSR; use Load SeeSR"
        )
        require(
            host_blocks.takes_tokens(getattr(control_net, "control_model", None)),
            "this CONTROL_NET has no image blocks of SeeSR; use Load SeeSR, and Apply ControlNet for others",
        )
        for conditioning in (positive, negative):
            require_text(conditioning)
        color, _alpha = to_bchw(image)
        require_tokens(tokens, len(color))
        told = host_blocks.model_with_tokens(model, tokens)
        if strength > 0:
            extra = {} if tokens is None else {TOKENS: tokens}
            picture = color.expand(-1, 3, -1, -1)
            positive, negative = with_control((positive, negative), control_net, picture, strength, extra)
        return io.NodeOutput(told, positive, negative, ui=None if tokens is not None else said(NO_TOKENS))


def unet_with_image_blocks(model: Any, path: Path) -> tuple[Any, str]:
    """Return a clone of a MODEL with the image blocks of SeeSR's UNet file, and a note about it.

    Raises:
        WeightsError: the file cannot be read, or is something else.
        SpecMismatchError: its blocks do not fit the MODEL.
    """
    tensors = read_tensors(path).tensors
    blocks = image_blocks(tensors, where=str(path))
    if _is_controlnet(tensors):
        raise WeightsError(f"{path}: expected SeeSR's UNet, got its ControlNet; choose it as controlnet")
    names = diffusers_names(host_model.unet_tensors(model))
    placed = _placed(blocks, {new: old for old, new in names.items()}, where=str(path))
    merged = sum(map(len, blocks.values()))
    note = f"{path.name}: {merged} tensors of image blocks, {len(tensors) - merged} others of the file left alone"
    return host_blocks.model_with_image_blocks(model, placed, where=str(path)), note


def controlnet_with_image_blocks(path: Path) -> Any:
    """Return ComfyUI's ControlNet made of SeeSR's file; raises as `unet_with_image_blocks`."""
    tensors = read_tensors(path).tensors
    blocks = image_blocks(tensors, where=str(path))
    if not _is_controlnet(tensors):
        raise WeightsError(f"{path}: expected SeeSR's ControlNet, got its UNet; choose it as unet")
    names = ldm_controlnet_names(name for name in tensors if MARK not in name)
    placed = _placed(blocks, names, where=str(path))
    plain = {new: tensors[old] for old, new in names.items()}
    return host_blocks.control_with_image_blocks(plain, placed, where=str(path))


def _path(name: str) -> Path:
    return folders.file_path(name, *FOLDERS, what="file of SeeSR")


def _is_controlnet(tensors: Mapping[str, Tensor]) -> bool:
    return all(any(name.startswith(start) for name in tensors) for start in CONTROLNET_NAMES)


def _placed(
    blocks: Mapping[str, Mapping[str, Tensor]], names: Mapping[str, str], *, where: str
) -> dict[str, Mapping[str, Tensor]]:
    """Return blocks under ComfyUI's names of the text transformers; `names` maps diffusers' tensors to ComfyUI's."""
    end = ".norm.weight"
    places = {
        name.removesuffix(end): new.removesuffix(end)
        for name, new in names.items()
        if name.endswith(end) and ".attentions." in name
    }
    require_same_places(places, blocks, where)
    return {places[name]: tensors for name, tensors in blocks.items()}
