"""Load HYPIR LoRA and Save HYPIR Checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from ..hypir_core.config import to_plain
from ..hypir_core.engines.diffusion.options import OneStepOptions
from ..hypir_core.engines.diffusion.restorer import pass_weights
from ..hypir_core.errors import ConfigError, SpecMismatchError
from ..hypir_core.lora.convert import MERGED_KEY
from ..hypir_core.lora.file import Lora, lora_to_tensors
from ..hypir_core.lora.merge import merged_weights
from ..hypir_core.lora.names import LoraForm, WeightShape, adaptable_modules
from ..hypir_core.lora.one_step_file import OneStepFile, read_one_step
from ..hypir_core.lora.recipe import HYPIR, Words
from ..hypir_core.weights.base_names import vae_names
from ..hypir_core.weights.base_names import vae_tensors as diffusers_vae
from ..hypir_core.weights.ldm_names import diffusers_names
from ..hypir_core.weights.tensors import check_finite, write_tensors
from .host import folders
from .host import lora as host_lora
from .host import model as host_model
from .host import vae as host_vae
from .host.face import said
from .host.schema import advanced, beside, io, schema
from .inputs import default_of
from .native import ATTACHMENT, Attached, attached_to, require_sd21

TAGS_WANTED = "{} was trained with tags of the picture: give what Tag Image sees as the words"


class HypirLoadLora(io.ComfyNode):
    """A restorer of the one-step family onto a MODEL and a VAE, whole or not at all."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirLoadLora",
            display_name="Load HYPIR LoRA",
            category=beside("LoraLoaderModelOnly", otherwise="loaders"),
            description="Puts a one-step restorer on a Stable Diffusion 2.1-base model: a HYPIR-style LoRA, OSEDiff, "
            "PiSA-SR or OMGSR-S. Every form of the file is read, and every module must fit: none is loaded by half.",
            search_aliases=["hypir", "lora", "restore", "one step", "osediff", "pisa-sr", "omgsr"],
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 2.1-base (512 px, eps-prediction)."),
                io.Combo.Input(
                    "lora",
                    options=folders.lora_names(),
                    tooltip="A file in models/hypir or models/loras: .safetensors, the published .pth, or a restorer's "
                    ".pkl as its authors publish it.",
                ),
                io.Float.Input(
                    "strength",
                    default=default_of(OneStepOptions, "lora_strength"),
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How much of the LoRA is added to the model. 1 is as it was trained.",
                ),
                advanced(
                    io.Float.Input(
                        "fidelity",
                        default=default_of(OneStepOptions, "fidelity"),
                        min=0.0,
                        max=2.0,
                        step=0.05,
                        optional=True,
                        tooltip="PiSA-SR alone: weight of what its adapter for pixels changes. Unlike detail, it "
                        "needs a second pass, which is slow.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "detail",
                        default=default_of(OneStepOptions, "detail"),
                        min=0.0,
                        max=2.0,
                        step=0.05,
                        optional=True,
                        tooltip="PiSA-SR alone: weight of what its adapter for semantics changes: invented detail.",
                    )
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The base model's VAE, for restorers that change it too (OSEDiff, OMGSR-S).",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The model with the LoRA on it."),
                io.Vae.Output(display_name="VAE", tooltip="The VAE, changed where the restorer changes it."),
            ],
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
    def execute(
        cls,
        model: Any,
        lora: str,
        strength: float,
        fidelity: float = 1.0,
        detail: float = 1.0,
        vae: Any = None,
    ) -> io.NodeOutput:
        """Patch clones of the model and of the VAE."""
        require_sd21(model)
        path = folders.lora_path(lora)
        of_vae = None if vae is None else vae_modules_of(vae)
        file = read_one_step(path, modules_of(model), of_vae)
        if file.mixing:
            raise ConfigError(
                f"{path}: {file.recipe.title} mixes its adapters anew for every picture, which patches of a MODEL "
                "cannot say; use the command hypir restore"
            )
        sliders = sliders_of(file, {"fidelity": fidelity, "detail": detail})
        if file.vae is not None and vae is None:
            raise ConfigError(
                f"{path}: {file.recipe.title} changes the VAE too; connect the base model's VAE"
            )
        *earlier, (weight, patched, applied) = passes_of(model, file, strength, sliders)
        changed_vae, applied_vae = patched_vae(vae, file, strength)
        notes = file.notes
        if file.recipe.words is Words.tags:
            closing = f", and close with {file.recipe.quality!r}" if file.recipe.quality else ""
            notes = (*notes, TAGS_WANTED.format(file.recipe.title) + closing)
        if (before := attached_to(model)) is not None:
            notes = (
                *notes,
                f"{before.label} was on the model already, at {before.strength:g}; both are added",
            )
        attached = Attached(
            spec=file.spec,
            label=file.label,
            strength=strength,
            notes=notes,
            weight=weight,
            earlier=tuple((each, other) for each, other, _ in earlier),
            sliders=sliders,
        )
        patched.set_attachments(ATTACHMENT, attached)
        done = applied + applied_vae
        family = "" if file.recipe.name == HYPIR else f" · {file.recipe.title}, {file.recipe.licence}"
        summary = f"{done} of {done} modules patched · {file.label} · strength {strength:g}{family}"
        return io.NodeOutput(patched, changed_vae, ui=said(summary, notes))


class HypirSaveCheckpoint(io.ComfyNode):
    """A MODEL with everything that is patched onto it, as one file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return schema(
            node_id="HypirSaveCheckpoint",
            display_name="Save HYPIR Checkpoint",
            category=beside("CheckpointSave", otherwise="advanced/model_merging"),
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
        attached = attached_to(model)
        if attached is not None and (attached.earlier or attached.weight != 1):
            raise ConfigError(
                "a checkpoint holds one pass of the model; set fidelity and detail to 1 to save it"
            )
        path = folders.output_path(filename_prefix, ".safetensors")
        chosen = getattr(torch, dtype)
        tensors = {}
        for name, lazy in host_model.merged_tensors(model, clip, vae).items():
            if lazy.numel():
                tensor = lazy.to("cpu")
                tensors[name] = tensor.to(chosen) if tensor.is_floating_point() else tensor
        check_finite(tensors, path)
        note = {MERGED_KEY: json.dumps({"spec": to_plain(attached.spec)}, sort_keys=True)} if attached else {}
        write_tensors(path, tensors, note)
        return io.NodeOutput(ui=said(f"saved as {path}"))


def modules_of(model: Any) -> dict[str, WeightShape]:
    """Return diffusers name → weight shape of the modules of a MODEL that a LoRA can adapt."""
    tensors = host_model.unet_tensors(model)
    names = diffusers_names(tensors)
    return adaptable_modules({names[name]: tensor for name, tensor in tensors.items()})


def vae_modules_of(vae: Any) -> dict[str, WeightShape]:
    """Return diffusers name → weight shape of the modules of a VAE that a LoRA can adapt."""
    return adaptable_modules(diffusers_vae(host_vae.vae_tensors(vae), where="this VAE"))


def sliders_of(file: OneStepFile, values: Mapping[str, float]) -> dict[str, float]:
    """Return the sliders that a restorer has.

    Raises:
        ConfigError: one that it has not was moved.
    """
    moved = [name for name, value in values.items() if value != 1 and name not in file.unet]
    if moved:
        raise ConfigError(f"{file.recipe.title} has no {' and no '.join(moved)}; leave it at 1")
    return {name: value for name, value in values.items() if name in file.unet}


def passes_of(
    model: Any, file: OneStepFile, strength: float, sliders: Mapping[str, float]
) -> list[tuple[float, Any, int]]:
    """Return the weight of every pass, its patched clone of the MODEL, and the number of its patched weights.

    Raises:
        SpecMismatchError: ComfyUI did not take a patch.
        ConfigError: nothing is left to run.
    """
    weights = pass_weights({name: sliders.get(name, 1.0) for name in file.unet})
    patched, applied = whole_modules(model, file, strength)
    passes = []
    for name, lora in file.unet.items():
        patched, taken = patch(patched, lora, strength)
        require_all(file, len(lora.factors), taken)
        applied += taken
        if weights[name] != 0:
            passes.append((weights[name], patched, applied))
    if not passes:
        raise ConfigError("fidelity and detail of 0 leave nothing to restore with; give one of them")
    return passes


def whole_modules(model: Any, file: OneStepFile, strength: float) -> tuple[Any, int]:
    """Return a clone of a MODEL with the modules that a restorer holds whole, and how many they are."""
    if not file.unet_whole:
        return model, 0
    own = host_model.unet_tensors(model)
    names = {diffusers: ldm for ldm, diffusers in diffusers_names(own).items()}
    differences = {
        f"diffusion_model.{names[name]}": whole.float() - own[names[name]].to("cpu", torch.float32)
        for name, whole in file.unet_whole.items()
    }
    patched = model.clone()
    taken = host_lora.with_differences(patched, differences, strength)
    require_all(file, len(differences), taken)
    return patched, taken


def patched_vae(vae: Any, file: OneStepFile, strength: float) -> tuple[Any, int]:
    """Return the VAE with what a restorer changes in it, and the number of its patched weights."""
    if file.vae is None:
        return vae, 0
    own = host_vae.vae_tensors(vae)
    names = vae_names(own)
    nothing = {
        f"{module}.weight": torch.zeros(()).expand(shape) for module, shape in vae_modules_of(vae).items()
    }
    differences = {
        names[name]: change.reshape(own[names[name]].shape)
        for name, change in merged_weights(nothing, file.vae)
    }
    changed, taken = host_vae.with_vae_differences(vae, differences, strength)
    require_all(file, len(differences), taken)
    return changed, taken


def require_all(file: OneStepFile, wanted: int, taken: int) -> None:
    """Refuse a restorer of which ComfyUI took only a part.

    Raises:
        SpecMismatchError: says how many were taken.
    """
    if taken != wanted:
        raise SpecMismatchError(
            f"{file.label}: expected to patch {wanted} modules, ComfyUI took {taken}; update ComfyUI"
        )


def patch(model: Any, lora: Lora, strength: float) -> tuple[Any, int]:
    """Return a patched clone of a MODEL and the number of its patched weights."""
    tensors, _metadata = lora_to_tensors(lora, LoraForm.kohya)
    return host_lora.with_lora(model, tensors, strength)
