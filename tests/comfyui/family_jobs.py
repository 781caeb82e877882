"""Job of `in_process.py`: restorers of the one-step family on ComfyUI's MODEL and VAE."""

from __future__ import annotations

from pathlib import Path


def family(job, nodes, load_file):
    """What Load HYPIR LoRA makes of a MODEL and a VAE, and One-Step Restore of a LATENT with them."""
    import comfy.sd
    import folder_paths
    import torch
    from in_process import benchmark

    folder_paths.folder_names_and_paths["loras"] = ([job["loras"]], folder_paths.supported_pt_extensions)
    folder_paths.set_output_directory(job["loras"])
    given, out, said = load_file(job["given"]), {}, {}
    load, restore = nodes["HypirLoadLora"].execute, nodes["HypirOneStepRestore"].execute
    fresh = comfy.sd.load_diffusion_model(job["unet"], model_options={"dtype": torch.float32})
    vae = benchmark().random_vae(32)
    out |= {f"vae.{name}": tensor.clone() for name, tensor in vae.get_sd().items()}
    for name, (file, settings) in job["cases"].items():
        model, changed = load(model=fresh, lora=file, strength=1.0, vae=vae, **settings).args
        latent = {"samples": given["latent"]}
        restored = restore(model=model, conditioning=[[given["condition"], {}]], latent=latent, strength=1.0)
        out[name] = restored[0]["samples"]
        said[name] = restored.ui.as_dict()["text"][0]
        image = given["image"].movedim(1, -1)
        out[f"{name} encoded"] = changed.encode(image)
        out[f"{name} plain"] = vae.encode(image)
        if changed is not vae:
            saved = nodes["HypirSaveCheckpoint"].execute(
                model=model, filename_prefix="baked", dtype="float16", vae=changed
            )
            path = Path(saved.ui.as_dict()["text"][0].removeprefix("saved as "))
            key = "encoder.conv_in.weight"
            out[f"{name} baked"] = load_file(path)[f"first_stage_model.{key}"]
    for name, (file, settings) in job["refused"].items():
        try:
            load(model=fresh, lora=file, strength=1.0, **settings)
        except Exception as err:
            said[name] = str(err)
    return out, said


JOBS = {"family": family}
