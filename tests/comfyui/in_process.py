"""Runs inside a real ComfyUI's Python: executes nodes on real models and writes what they give.

    python in_process.py COMFYUI PLUGIN JOB.json

The job names weight files and settings; the results are written to ``out`` as safetensors.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from functools import partial
from pathlib import Path


def main(comfyui: str, plugin_folder: str, job_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    sys.path.insert(0, comfyui)
    sys.argv = [sys.argv[0]]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import family_jobs
    import guided_jobs
    import host_jobs
    import region_jobs
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(job.get("threads", 2))
    with torch.inference_mode():
        out, said = (JOBS | host_jobs.JOBS | region_jobs.JOBS | guided_jobs.JOBS | family_jobs.JOBS)[
            job["kind"]
        ](job, load_plugin(plugin_folder), load_file)
    said["packages"] = " ".join(name for name in ("diffusers", "accelerate", "peft") if name in sys.modules)
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, job["out"], metadata=said)


def load_plugin(folder: str):
    """Load the plugin as ComfyUI does and return its nodes by id."""
    name = folder.replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(
        name, Path(folder) / "__init__.py", submodule_search_locations=[folder]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    extension = asyncio.run(module.comfy_entrypoint())
    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


def step(job, nodes, load_file):
    """Load HYPIR LoRA and One-Step Restore on a UNet alone."""
    import comfy.sd
    import folder_paths
    import torch

    folder_paths.folder_names_and_paths["loras"] = ([job["loras"]], folder_paths.supported_pt_extensions)
    model = comfy.sd.load_diffusion_model(job["unet"], model_options={"dtype": torch.float32})
    given = load_file(job["given"])
    said, out = {}, {}
    for name in job["files"]:
        patched = nodes["HypirLoadLora"].execute(model=model, lora=name, strength=job["strength"])[0]
        said[name] = str(len(patched.patches))
        latent = {"samples": given["latent"]}
        conditioning = [[given["condition"], {}]]
        restored = nodes["HypirOneStepRestore"].execute(
            model=patched, conditioning=conditioning, latent=latent, strength=1.0
        )[0]
        out[name] = restored["samples"]
        half = nodes["HypirOneStepRestore"].execute(
            model=patched, conditioning=conditioning, latent=latent, strength=1.0, mask=given["mask"]
        )[0]
        out[f"{name} masked"] = half["samples"]
    return out, said


def wide(job, nodes, load_file):
    """What the step and the VAE give in bfloat16, made again in float32 within it, and in float32 from the start."""
    import comfy.sd
    import torch

    native = sys.modules[nodes["HypirTiledEncode"].execute.__func__.__module__.replace("latents", "native")]
    step_of = sys.modules[native.Step.__module__].Step
    step = step_of(index=0, of=1, t=200, a_bar=0.7536917, a_bar_next=1.0)
    given, out = load_file(job["given"]), {}
    for name in ("bfloat16", "float32"):
        model = comfy.sd.load_diffusion_model(
            job[f"unet_{name}"], model_options={"dtype": getattr(torch, name)}
        )
        model.set_model_compute_dtype(getattr(torch, name))  # on a CPU ComfyUI computes in float32 otherwise
        denoiser = native.native_denoiser(model)
        laid = native.native_condition(model, [[given["condition"], {}]], (256, 256), (256, 256), model_t=200)
        conditioning = laid.value
        out[f"step {name}"] = denoiser.predict(given["latent"], step, conditioning, {})
        with denoiser.placing.in_float32():
            out[f"step {name} wide"] = denoiser.predict(given["latent"], step, conditioning, {})
        out[f"step {name} after"] = denoiser.predict(given["latent"], step, conditioning, {})
    vae = benchmark().random_vae(32)
    vae.first_stage_model.to(torch.bfloat16)
    vae.vae_dtype = torch.bfloat16
    codec = native.native_codec(vae)
    out["decode bfloat16"] = codec.decode(given["latent"])
    with codec.decoding.in_float32():
        out["decode bfloat16 wide"] = codec.decode(given["latent"])
    out["decode bfloat16 after"] = codec.decode(given["latent"])
    vae.first_stage_model.to(torch.float32)
    vae.vae_dtype = torch.float32
    out["decode float32"] = codec.decode(given["latent"])
    return out, {}


def refuse(job, nodes, load_file):
    """Say how Load HYPIR LoRA refuses models that it does not fit."""
    import comfy.sd
    import folder_paths
    import torch
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    folder_paths.folder_names_and_paths["loras"] = ([job["loras"]], folder_paths.supported_pt_extensions)
    said = {}
    for name, (path, lora, sampling) in job["cases"].items():
        model = comfy.sd.load_diffusion_model(path, model_options={"dtype": torch.float32})
        if sampling:
            model = ModelSamplingDiscrete().patch(model, sampling, False)[0]
        try:
            nodes["HypirLoadLora"].execute(model=model, lora=lora, strength=1.0)
        except Exception as err:  # the test wants to know which
            said[name] = f"{type(err).__name__}: {err}"
        else:
            said[name] = "accepted"
    return {"nothing": torch.zeros(1)}, said


def whole(job, nodes, load_file):
    """Restore Image, and the same taken apart, on a whole checkpoint."""
    import time

    import comfy.sd
    import folder_paths

    folder_paths.folder_names_and_paths["loras"] = ([job["loras"]], folder_paths.supported_pt_extensions)
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
        job["checkpoint"], output_vae=True, output_clip=True
    )
    image = load_file(job["given"])["image"].movedim(1, -1)
    patched = nodes["HypirLoadLora"].execute(model=model, lora=job["lora"], strength=1.0)[0]
    said = {"patched": str(len(patched.patches)), "dtypes": f"{model.model.get_dtype()} {vae.vae_dtype}"}
    size = {"size_rule": "scale", "scale": job["scale"], "longest_side_px": 2048, "megapixels": 4.0}
    tiles = {"tile_px": 0, "overlap_px": 0}
    begin = time.perf_counter()
    one = nodes["HypirRestoreImage"].execute(
        image=image, prompt=job["prompt"], strength=1.0, color_fix="automatic", color_strength=1.0,
        model=patched, clip=clip, vae=vae, **size, **tiles,
    )  # fmt: skip
    said["seconds"] = f"{time.perf_counter() - begin:.1f}"
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(job["prompt"]))
    latent, reference = nodes["HypirTiledEncode"].execute(image=image, vae=vae, **size, **tiles).args
    latent = nodes["HypirOneStepRestore"].execute(
        model=patched, conditioning=conditioning, latent=latent, strength=1.0
    )[0]
    picture = nodes["HypirTiledDecode"].execute(latent=latent, vae=vae, **tiles)[0]
    fixed = nodes["HypirWaveletColorFix"].execute(
        image=picture, reference=reference, color_fix="wavelet", color_strength=1.0
    )[0]
    return {"one": one[0], "apart": fixed, "condition": conditioning[0][0]}, said


def vae_tiles(job, nodes, load_file):
    """Tiled Encode and Tiled Decode on a thin random VAE, beside ComfyUI's own nodes."""
    import torch

    vae = benchmark().random_vae(32)
    out = {}
    size = {"size_rule": "scale", "longest_side_px": 2048, "megapixels": 4.0}
    encode, decode = nodes["HypirTiledEncode"].execute, nodes["HypirTiledDecode"].execute
    image = load_file(job["given"])["image"].movedim(1, -1)
    latent, reference = encode(image=image, vae=vae, scale=1.0, **size, tile_px=512, overlap_px=0).args
    out |= {"latent": latent["samples"], "core latent": vae.encode(image), "reference": reference}
    stock = {"samples": latent["samples"]}
    out["image"] = decode(latent=stock, vae=vae, tile_px=512, overlap_px=0)[0]
    out["core image"] = vae.decode(latent["samples"])
    out["tiled image"] = decode(latent=stock, vae=vae, tile_px=256, overlap_px=64)[0]
    out |= {f"vae.{name}": tensor for name, tensor in vae.get_sd().items()}

    rgba = torch.rand(2, 70, 53, 4, generator=torch.manual_seed(2)).half()
    latent, reference = encode(image=rgba, vae=vae, scale=1.5, **size, tile_px=256, overlap_px=64).args
    out |= {"small latent": latent["samples"], "small reference": reference}
    out["small image"] = decode(latent=latent, vae=vae, tile_px=0, overlap_px=0)[0]
    return out, {}


def scarce(job, nodes, load_file):
    """Tiled Decode where the system refuses more memory after a while."""
    import resource

    import torch

    vae = benchmark().random_vae(32)
    latent = {"samples": torch.randn(1, 4, 64, 64, generator=torch.manual_seed(2))}
    decode = partial(nodes["HypirTiledDecode"].execute, latent=latent, vae=vae)
    decode(tile_px=128, overlap_px=16)  # so that what is needed once is there
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + job["room_mib"] * 2**20, -1))
    decoded = decode(tile_px=512, overlap_px=64)
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    return {"decoded": decoded[0]}, {"decode": decoded.ui.as_dict()["text"][0]}


def benchmark():
    """Return the benchmark's module: it knows how to make a random VAE."""
    path = Path(__file__).parents[2] / "benchmarks" / "comfyui_tiles.py"
    spec = importlib.util.spec_from_file_location("comfyui_tiles", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


JOBS = {
    "step": step,
    "wide": wide,
    "refuse": refuse,
    "whole": whole,
    "vae_tiles": vae_tiles,
    "scarce": scarce,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
