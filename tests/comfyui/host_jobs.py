"""Jobs of `in_process.py` about ComfyUI's own machinery: patches, loading, regions, controls, batches."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from pathlib import Path

CANVAS = (16, 32)
"""Cells of the latents here: two tiles of 128 px with their overlap."""


def module(nodes, path: str):
    """Return a module of the plugin: ``nodes.native``."""
    name = nodes["HypirTiledEncode"].execute.__func__.__module__
    return importlib.import_module(name.removesuffix("nodes.latents") + path)


def restored(nodes, model, conditioning, latent):
    """Take the step over latents [b 4 *CANVAS] in tiles of 128 px, with a sample before."""
    native, run = module(nodes, "nodes.native"), module(nodes, "hypir_core.tiling.run")
    geometry, plan = module(nodes, "hypir_core.tiling.geometry"), module(nodes, "hypir_core.tiling.plan")
    runtime, noise = module(nodes, "hypir_core.runtime"), module(nodes, "hypir_core.engines.diffusion.noise")
    batch = module(nodes, "nodes.batch")
    size_px = [8 * side for side in latent.shape[-2:]]
    engine = native.native_engine(model, conditioning, None)
    condition = native.native_condition(model, conditioning, size_px, size_px, model_t=200)
    stage = engine.step_stage(engine.steps[0], condition, noise.Noise(0))
    stage = batch.for_pictures(stage, slice(0, len(latent)))
    wish = plan.TileWish(tile_px=128, overlap_px=64)
    out, report = run.run_stage(
        stage, geometry.Plane(latent, 8), wish=wish, runtime=runtime.Runtime(batch_tiles=2)
    )
    return out.data, report


def lazily(job, nodes, load_file):
    """The step with patches on its norms and a LoRA, loaded whole, in part, and by the dynamic patcher."""
    import comfy.model_management
    import comfy.sd
    import torch

    folder_of_loras(job)
    given = load_file(job["given"])
    conditioning = [[given["condition"], {}]]
    fresh = comfy.sd.load_diffusion_model(job["unet"], model_options={"dtype": torch.float32})
    model = nodes["HypirLoadLora"].execute(model=fresh, lora=job["lora"], strength=0.5)[0]
    norms = {k.removeprefix("norm "): t for k, t in given.items() if k.startswith("norm ")}
    model.add_patches({f"diffusion_model.{name}": ("diff", (t,)) for name, t in norms.items()}, 1.0)
    out = {"whole": restored(nodes, model, conditioning, given["latent"])[0]}

    partly = model.clone()
    load = partly.load
    partly.load = lambda device_to=None, **_: load(device_to, lowvram_model_memory=1)
    comfy.model_management.unload_all_models()
    out["partly"] = restored(nodes, partly, conditioning, given["latent"])[0]
    layers = [m for m in partly.model.diffusion_model.modules() if isinstance(m, torch.nn.GroupNorm)]
    said = {"lazy norms": str(sum(bool(m.weight_function) for m in layers)), "norms": str(len(layers))}
    out["weight"] = layers[0].weight.detach().clone()
    comfy.model_management.unload_all_models()

    with dynamic(model) as patcher:
        said["dynamic"] = str(patcher is not model)
        if patcher is not model:
            model = nodes["HypirLoadLora"].execute(model=patcher, lora=job["lora"], strength=0.5)[0]
            model.add_patches({f"diffusion_model.{n}": ("diff", (t,)) for n, t in norms.items()}, 1.0)
            said["kind"] = type(model).__name__
        out |= saved(job, nodes, model)
        if said["dynamic"] == "True":
            with staged(model):
                out["dynamic"] = restored(nodes, model, conditioning, given["latent"])[0]
    return out, said


def saved(job, nodes, model):
    """Return a few tensors of what Save HYPIR Checkpoint writes."""
    import folder_paths
    from safetensors import safe_open

    folder_paths.set_output_directory(job["output"])
    written = nodes["HypirSaveCheckpoint"].execute(model=model, filename_prefix="saved", dtype=job["dtype"])
    path = next(Path(job["output"]).glob("saved_*.safetensors"))
    with safe_open(path, "pt") as file:
        assert written.ui is not None
        return {f"saved {key}": file.get_tensor(f"model.diffusion_model.{key}") for key in job["keys"]}


@contextmanager
def dynamic(model):
    """Yield a MODEL of ComfyUI's dynamic patcher, where there is one, with a CPU that stands for the GPU."""
    import comfy.model_management as management
    import comfy.model_patcher
    import torch

    made = getattr(comfy.model_patcher, "ModelPatcherDynamic", None)
    if made is None:
        yield model
        return
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar

    class Buffer:
        size = 0

        def __init__(self, *_args):
            pass

        def truncate(self, *_args, **_options):
            pass

    before = management.is_device_cpu, comfy_aimdo.host_buffer.HostBuffer
    management.is_device_cpu = lambda _device: False
    comfy_aimdo.host_buffer.HostBuffer = Buffer
    try:
        patcher = made(model.model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
        yield patcher
    finally:
        management.is_device_cpu, comfy_aimdo.host_buffer.HostBuffer = before


@contextmanager
def staged(patcher):
    """Let the layers of a dynamic MODEL take their weights as on a full GPU: brought over and patched for every use."""
    import comfy.pinned_memory
    import comfy_aimdo.model_vbar
    import torch

    class Elsewhere(torch.nn.Parameter):
        device = torch.device("meta")

    class Arena:
        def prioritize(self):
            pass

        def alloc(self, size):
            return (self, 0, size)

        def loaded_size(self):
            return 0

        def free_memory(self, _size):
            return 0

    parts = comfy_aimdo.model_vbar
    before = parts.vbar_fault, parts.vbar_unpin, comfy.pinned_memory.pin_memory
    parts.vbar_fault, parts.vbar_unpin = lambda _v: None, lambda _v: None
    comfy.pinned_memory.pin_memory = lambda *_args, **_options: False
    arena = Arena()
    patcher._vbar_get = lambda create=False: arena
    load = patcher.load

    def load_then_stage(*args, **options):
        load(*args, **options)
        for layer in patcher.model.modules():
            if hasattr(layer, "_v") and not isinstance(layer.weight, Elsewhere):
                layer.weight = Elsewhere(layer.weight.data, requires_grad=False)

    patcher.load = load_then_stage
    try:
        yield
    finally:
        parts.vbar_fault, parts.vbar_unpin, comfy.pinned_memory.pin_memory = before


def folder_of_loras(job):
    import folder_paths

    folder_paths.folder_names_and_paths["loras"] = ([job["loras"]], folder_paths.supported_pt_extensions)


JOBS = {"lazily": lazily}
