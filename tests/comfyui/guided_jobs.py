"""Jobs of `in_process.py` about SeeSR: its networks inside ComfyUI's, the nodes, and refusals."""

from __future__ import annotations

from functools import partial

from host_jobs import module


def guided(job, nodes, load_file):
    """Few-Step Restore on a small base with two chained ControlNets; what is loaded; the plain MODEL afterwards."""
    import comfy.controlnet
    import comfy.model_management as management
    import comfy.sd
    import folder_paths
    import torch

    from nodes import ControlNetApplyAdvanced

    given, out, said = load_file(job["given"]), {}, {}
    folder_paths.folder_names_and_paths["hypir"] = ([job["folder"]], folder_paths.supported_pt_extensions)
    vae = random_vae()
    base = comfy.sd.load_diffusion_model(job["unet"], model_options={"dtype": torch.float32})
    out |= {f"vae.{name}": tensor for name, tensor in vae.get_sd().items()}
    eps = partial(plain_step, nodes, given=given)
    out["plain before"] = eps(base)
    model, control = (
        nodes["HypirLoadSeesr"]
        .execute(model=base, unet="seesr_unet.safetensors", controlnet="seesr_controlnet.safetensors")
        .args
    )
    edges = comfy.controlnet.load_controlnet(job["edge"]) if job["edge"] else None
    positive, negative = [[given["words"], {}]], [[given["negative"], {}]]
    edge = given["edge"].movedim(1, -1)
    for name, case in job["cases"].items():
        picture = given[case.pop("picture")].movedim(1, -1)
        sides = positive, negative
        if case.pop("edges"):
            sides = ControlNetApplyAdvanced().apply_controlnet(*sides, edges, edge, 0.7, 0.0, 1.0)
        told, *sides = nodes["HypirApplySeesr"].execute(
            model=model, control_net=control, image=picture, positive=sides[0], negative=sides[1],
            strength=0.9, tokens=given["tokens"] if case.pop("tokens") else None,
        ).args  # fmt: skip
        out[name], said[name] = restored(nodes, told, sides, vae, picture, case)
    loaded = [one.model.model for one in management.current_loaded_models]
    kinds = sorted(type(one).__name__ for one in loaded)
    said["loaded"] = " ".join(kinds)
    out["plain after"] = eps(base)
    sites = module(nodes, "nodes.host.image_blocks").ImageSite
    said["sites"] = str(sum(isinstance(one, sites) for one in base.model.diffusion_model.modules()))
    told = module(nodes, "nodes.host.image_blocks").model_with_tokens(model, given["tokens"])
    out["with tokens"], out["without tokens"] = eps(told), eps(model)
    return out, said


def restored(nodes, model, sides, vae, picture, case):
    """Few-Step Restore on a small canvas: its node asks for 512 px."""
    guided, batch = module(nodes, "nodes.native_guided"), module(nodes, "nodes.batch")
    options = module(nodes, "hypir_core.engines.diffusion.seesr.options").SeesrOptions(**case, process_px=128)
    request, size = module(nodes, "hypir_core.request"), module(nodes, "hypir_core.image.size")
    plan, mode = module(nodes, "hypir_core.tiling.plan"), module(nodes, "hypir_core.color.mode")
    asked = request.Request(
        target=size.TargetSize(scale=1.0), seed=5, color_fix=mode.ColorFix.none,
        tile=plan.TileWish(tile_px=128, overlap_px=64),
    )  # fmt: skip
    negative = sides[1] if case["cfg"] > 1 else None
    engines = guided.guided_engines(model, sides[0], negative, vae, options, native_px=128)
    done = batch.restore_batch(engines(0), picture.movedim(-1, 1), asked, each=engines)
    return done.image_bhwc, " ".join(done.reports[0].notes)


def plain_step(nodes, model, given):
    """One prediction of a MODEL, through ComfyUI's own sampling."""
    host = module(nodes, "nodes.host.model")
    sigma = host.sigma_at(model, 500)
    return host.denoise(model, [[given["words"], {}]], given["latent"] * sigma, sigma)


def random_vae():
    from in_process import benchmark

    return benchmark().random_vae(32)


def tagged(job, nodes, load_file):
    """Tag Image on two pictures: what it gives, whether ComfyUI's books have its network, and for how long."""
    import gc

    import comfy.model_management as management
    import folder_paths

    folder_paths.folder_names_and_paths["hypir"] = ([job["folder"]], folder_paths.supported_pt_extensions)
    management.FORCE_FP32 = True  # as --force-fp32 does
    images = load_file(job["given"])["pictures"].movedim(1, -1)
    placed, lending = [], module(nodes, "nodes.host.memory").lending

    def watched():
        place = lending()

        def run(network):
            place(network)
            placed.append(any(one.model.model is network for one in management.current_loaded_models))

        return run

    module(nodes, "nodes.host.memory").lending = watched
    done = nodes["HypirTagImage"].execute(image=images, tagger="small.safetensors", threshold=0.5, max_tags=5)
    tags, lines, tokens = done.args
    gc.collect()
    management.cleanup_models_gc()
    left = [
        type(one.model.model).__name__ for one in management.current_loaded_models if one.model is not None
    ]
    said = {"tags": tags, "lines": lines, "face": done.ui.as_dict()["text"][0]}
    return {"tokens": tokens}, said | {"placed": str(placed), "left": " ".join(left)}


def refused_seesr(job, nodes, load_file):
    """Say how the nodes of SeeSR refuse what does not go together; what the edges of a picture are."""
    import comfy.controlnet
    import comfy.patcher_extension
    import comfy.sd
    import folder_paths
    import torch

    folder_paths.folder_names_and_paths["hypir"] = ([job["folder"]], folder_paths.supported_pt_extensions)
    given = load_file(job["given"])
    base = comfy.sd.load_diffusion_model(job["unet"], model_options={"dtype": torch.float32})
    other = comfy.sd.load_diffusion_model(job["sd1"], model_options={"dtype": torch.float32})
    load, show = nodes["HypirLoadSeesr"].execute, nodes["HypirApplySeesr"].execute
    unet, control = "seesr_unet.safetensors", "seesr_controlnet.safetensors"
    model, net = load(model=base, unet=unet, controlnet=control).args
    stock = comfy.controlnet.load_controlnet(job["edge"])
    picture, words = given["small"].movedim(1, -1), [[given["words"], {}]]
    apply = partial(show, image=picture, positive=words, negative=words, strength=1.0)
    tag = partial(nodes["HypirTagImage"].execute, image=picture, threshold=0.0, max_tags=5)
    restore = partial(
        nodes["HypirFewStepRestore"].execute, image=picture, vae=random_vae(), positive=words, size_rule="scale",
        scale=1.0, longest_side_px=64, megapixels=1.0, steps=1, sampler="ddim", start="lq", seed=0, particles=1,
        bandwidth=0.0, color_fix="none", color_strength=1.0, tile_px=0, overlap_px=0,
    )  # fmt: skip
    cases = {
        "base": lambda: load(model=other, unet=unet, controlnet=control),
        "stock as unet": lambda: load(model=base, unet="edge.safetensors", controlnet=control),
        "stock as controlnet": lambda: load(model=base, unet=unet, controlnet="edge.safetensors"),
        "swapped": lambda: load(model=base, unet=control, controlnet=control),
        "swapped too": lambda: load(model=base, unet=unet, controlnet=unet),
        "plain model": lambda: apply(model=base, control_net=net),
        "stock net": lambda: apply(model=model, control_net=stock),
        "tokens": lambda: apply(model=model, control_net=net, tokens=given["tokens"].repeat(3, 1, 1)),
        "few on plain": lambda: restore(model=base, cfg=1.0),
        "no negative": lambda: restore(model=model, cfg=2.0),
        "ram++": lambda: tag(tagger="ram_plus.safetensors"),
    }
    said = {}
    for name, case in cases.items():
        try:
            said[name] = f"accepted {case()}"
        except Exception as err:  # the test wants to know which
            said[name] = f"{type(err).__name__}: {err}"
    said["without"] = apply(model=model, control_net=net).ui.as_dict()["text"][0]
    silent = apply(model=model, control_net=net, tokens=given["tokens"])
    said["strength 0"] = str([options for _, options in show(
        model=model, control_net=net, image=picture, positive=words, negative=words, strength=0.0,
        tokens=given["tokens"],
    ).args[1]])  # fmt: skip
    said["with"] = str(silent.ui)
    held = comfy.patcher_extension.PatcherInjection
    del comfy.patcher_extension.PatcherInjection
    try:
        load(model=base, unet=unet, controlnet=control)
    except Exception as err:  # the test wants to know which
        said["old"] = f"{type(err).__name__}: {err}"
    comfy.patcher_extension.PatcherInjection = held
    edges = nodes["HypirConditionImage"].execute(
        image=given["square"].movedim(1, -1), size_rule="scale", scale=2.0, longest_side_px=64, megapixels=1.0,
        edge_low=0.4, edge_high=0.8,
    )  # fmt: skip
    return {"edges": edges[0]}, said


JOBS = {"guided": guided, "tagged": tagged, "refused_seesr": refused_seesr}
