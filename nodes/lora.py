"""Load HYPIR LoRA and Save HYPIR Checkpoint."""

from __future__ import annotations

import json
from typing import Any

import torch

from ..hypir_core.config import to_plain
from ..hypir_core.engines.diffusion.options import OneStepOptions
from ..hypir_core.errors import SpecMismatchError
from ..hypir_core.lora.convert import MERGED_KEY
from ..hypir_core.lora.file import Lora, lora_to_tensors, read_lora
from ..hypir_core.lora.names import LoraForm, WeightShape, adaptable_modules
from ..hypir_core.weights.fingerprint import short_hash
from ..hypir_core.weights.ldm_names import diffusers_names
from ..hypir_core.weights.spec import LoraSpec
from ..hypir_core.weights.tensors import check_finite, write_tensors
from .host import folders
from .host import lora as host_lora
from .host import model as host_model
from .host.schema import io, schema, ui
from .inputs import default_of
from .native import ATTACHMENT, Attached, attached_to, require_sd21


class HypirLoadLora(io.ComfyNode):
    """A restoration LoRA onto a MODEL, whole or not at all."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirLoadLora",
            display_name="Load HYPIR LoRA",
            category="loaders",
            description="Puts a HYPIR-style restoration LoRA on a Stable Diffusion 2.1-base model. Every form of "
            "the file is read, and every module must fit: a LoRA is never loaded by half.",
            search_aliases=["hypir", "lora", "restore", "one step"],
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 2.1-base (512 px, eps-prediction)."),
                io.Combo.Input(
                    "lora",
                    options=folders.lora_names(),
                    tooltip="A file in models/hypir or models/loras: .safetensors, or the published .pth.",
                ),
                io.Float.Input(
                    "strength",
                    default=default_of(OneStepOptions, "lora_strength"),
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How much of the LoRA is added to the model. 1 is as it was trained.",
                ),
            ],
            outputs=[io.Model.Output(display_name="MODEL", tooltip="The model with the LoRA on it.")],
        )

    @classmethod
    def validate_inputs(cls, lora: str) -> bool | str:
        """Say where a missing file belongs."""
        if lora in folders.lora_names():
            return True
        return f"{lora or 'no file'} is not there: put the LoRA into ComfyUI's models/hypir or models/loras"

    @classmethod
    def fingerprint_inputs(cls, lora: str, **_: Any) -> str:
        """Run again when the file has changed."""
        stat = folders.lora_path(lora).stat()
        return f"{lora} {stat.st_mtime_ns} {stat.st_size}"

    @classmethod
    def execute(cls, model: Any, lora: str, strength: float) -> io.NodeOutput:
        """Patch a clone of the model."""
        require_sd21(model)
        path = folders.lora_path(lora)
        read = read_lora(path, modules_of(model))
        patched, applied = patch(model, read, strength)
        if applied != len(read.factors):
            raise SpecMismatchError(
                f"{path}: expected to patch {len(read.factors)} modules, ComfyUI took {applied}; update ComfyUI"
            )
        spec = read.spec or LoraSpec(rank=read.rank, alpha=read.alpha)
        label = f"{path.name} {short_hash(path)}"
        patched.set_attachments(
            ATTACHMENT, Attached(spec=spec, label=label, strength=strength, notes=read.notes)
        )
        return io.NodeOutput(patched, ui=ui.PreviewText("\n".join(read.notes)) if read.notes else None)


class HypirSaveCheckpoint(io.ComfyNode):
    """A MODEL with everything that is patched onto it, as one file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirSaveCheckpoint",
            display_name="Save HYPIR Checkpoint",
            category="advanced/model_merging",
            description="Bakes the LoRA into the model and saves it in half the size, for the stock loaders: with "
            "CLIP and VAE a checkpoint, without them a file for Load Diffusion Model.",
            search_aliases=["hypir", "bake lora", "merge lora", "save model"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model with its LoRA on it."),
                io.String.Input(
                    "filename_prefix",
                    default="checkpoints/hypir_sd21",
                    tooltip="Place below ComfyUI's output folder; a number is added. Nothing is overwritten.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["float16", "bfloat16"],
                    default="float16",
                    tooltip="Number format of the file. float16 is finer; bfloat16 holds larger numbers.",
                ),
                io.Clip.Input("clip", optional=True, tooltip="Text encoder to put into the file as well."),
                io.Vae.Input("vae", optional=True, tooltip="VAE to put into the file as well."),
            ],
            outputs=[],
        )

    @classmethod
    def execute(
        cls, model: Any, filename_prefix: str, dtype: str, clip: Any = None, vae: Any = None
    ) -> io.NodeOutput:
        """Write the file."""
        path = folders.output_path(filename_prefix, ".safetensors")
        chosen = getattr(torch, dtype)
        tensors = {
            name: tensor.to("cpu", chosen) if tensor.is_floating_point() else tensor.cpu()
            for name, tensor in host_model.merged_tensors(model, clip, vae).items()
            if tensor.numel()
        }
        check_finite(tensors, path)
        attached = attached_to(model)
        note = {MERGED_KEY: json.dumps({"spec": to_plain(attached.spec)}, sort_keys=True)} if attached else {}
        write_tensors(path, tensors, note)
        return io.NodeOutput(ui=ui.PreviewText(str(path)))


def modules_of(model: Any) -> dict[str, WeightShape]:
    """Return diffusers name → weight shape of the modules of a MODEL that a LoRA can adapt."""
    tensors = host_model.unet_tensors(model)
    names = diffusers_names(tensors)
    return adaptable_modules({names[name]: tensor for name, tensor in tensors.items()})


def patch(model: Any, lora: Lora, strength: float) -> tuple[Any, int]:
    """Return a patched clone of a MODEL and the number of its patched weights."""
    tensors, _metadata = lora_to_tensors(lora, LoraForm.kohya)
    return host_lora.with_lora(model, tensors, strength)
