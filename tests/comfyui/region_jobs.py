"""Jobs of `in_process.py` about what a CONDITIONING says of places, about refusals, and about batches."""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from functools import partial

from host_jobs import folder_of_loras, module, restored

CELLS = (16, 32)


def regions(job, nodes, load_file):
    """Masks, areas and two chained ControlNets over two tiles; what ComfyUI itself makes of a tile; refusals."""
    import comfy.sd
    import torch

    folder_of_loras(job)
    given, out, said = load_file(job["given"]), {}, {}
    model = comfy.sd.load_diffusion_model(job["unet"], model_options={"dtype": torch.float32})
    latent, one, other = given["latent"], given["condition"], -given["condition"]
    left = torch.zeros(1, *CELLS)
    left[..., : CELLS[1] // 2] = 1
    out["plain"] = restored(nodes, model, [[one, {}]], latent)[0]
    masked = [[one, {}], [other, {"mask": left, "mask_strength": 0.8, "strength": 2.0}]]
    out["masked"] = restored(nodes, model, masked, latent)[0]
    area = {"area": ("percentage", 0.5, 0.5, 0.5, 0.25), "strength": 0.5}
    everything = [*masked, [other, area], [one / 2, {"default": True}]]
    out["tile"], out["tile of ComfyUI"] = one_tile(nodes, model, everything, latent)
    out |= soft_areas(nodes)
    out |= controls(nodes, model, one, latent)
    said |= refused(nodes, model, one, latent)
    out |= unused(nodes, model, one, latent)
    return out, said


def one_tile(nodes, model, conditioning, latent):
    """Predict a tile with our masks, and with ComfyUI's own mixing of the conditioning cut by hand."""
    import torch

    native, host = module(nodes, "nodes.native"), module(nodes, "nodes.host.model")
    step = module(nodes, "hypir_core.diffusion.samplers.base").Step
    step = step(index=0, of=1, t=200, a_bar=0.75, a_bar_next=1.0)
    size_px = [8 * side for side in CELLS]
    condition = native.native_condition(model, conditioning, size_px, size_px, model_t=200)
    place = (slice(0, 16), slice(8, 24))
    guides = {name: plane.data[(..., *place)] for name, plane in condition.guides.items()}
    z = latent[(..., *place)]
    ours = native.native_denoiser(model).predict(z, step, condition.value, guides)
    by_hand = []
    for text, given in conditioning:
        options = dict(given)
        if "area" in options:  # an area is a mask here: the network sees what is around it
            weight = module(nodes, "nodes.host.regions")._weight(options, CELLS)
            del options["area"]
            options["mask"] = weight[0]
        if "mask" in options:
            options["mask"] = options["mask"][(..., *place)]
        by_hand.append([text, options])
    sigma = host.sigma_at(model, 200)
    x = z * (1 + sigma**2) ** 0.5
    with torch.no_grad():
        return ours, (x - host.denoise(model, by_hand, x, sigma)) / sigma


def soft_areas(nodes):
    """The weights of areas, ours and ComfyUI's."""
    import comfy.samplers
    import torch

    weight, out = module(nodes, "nodes.host.regions")._weight, {}
    areas = [(16, 12, 0, 6), (6, 40, 4, 0), ("percentage", 0.5, 0.3, 0.25, 0.7), (16, 32, 0, 0)]
    for number, area in enumerate(areas):
        x = torch.zeros(1, 1, *CELLS)
        conds = [{"area": area, "model_conds": {}, "uuid": 0}]
        comfy.samplers.resolve_areas_and_cond_masks_multidim(conds, CELLS, "cpu")
        found = comfy.samplers.get_area_and_mult(conds[0], x, torch.tensor([1.0]))
        h, w, top, left = found.area
        whole = torch.zeros_like(x)
        whole[..., top : top + h, left : left + w] = found.mult
        out |= {f"area {number}": weight({"area": area}, CELLS), f"area {number} of ComfyUI": whole}
    return out


def controls(nodes, model, text, latent):
    """What two chained ControlNets are shown: every tile its part of the picture."""
    import comfy.controlnet
    import torch

    class Net(torch.nn.Module):
        """Remembers its hints, and adds nothing."""

        dtype = torch.float32

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
            self.hints = []

        def forward(self, x, hint, timesteps, context, **_):
            self.hints.append(hint.clone())
            nothing = torch.zeros(len(x), 320, *[-(-side // 8) for side in x.shape[-2:]])
            return {"input": [], "middle": [nothing], "output": []}

    h, w = (8 * side for side in CELLS)
    ramp = torch.stack(torch.meshgrid(torch.arange(h / 2), torch.arange(w / 2), indexing="ij"))
    hint = torch.cat([ramp, torch.zeros_like(ramp[:1])])[None]  # half as large as the picture
    nets, chain = [Net(), Net()], None
    for number, net in enumerate(nets):
        control = comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))
        control.set_cond_hint(hint + 1000 * number, 1.0, (0.0, 1.0))
        control.set_previous_controlnet(chain)
        chain = control
    restored(nodes, model, [[text, {"control": chain, "control_apply_to_uncond": True}]], latent)
    unharmed = chain.cond_hint_original is not None and chain.cond_hint_original.shape == hint.shape
    found = {f"hint {i}": torch.cat(net.hints[1:]) for i, net in enumerate(nets)}  # the first is the sample
    return found | {"hint": hint, "unharmed": torch.tensor([float(unharmed)])}


def refused(nodes, model, text, latent):
    """How what cannot be had is refused, before any network runs."""
    import torch

    step = partial(nodes["HypirOneStepRestore"].execute, model=model, strength=1.0)
    fits = {"samples": latent}
    blank = torch.zeros(1, *CELLS)
    cases = {
        "flux": ([[text, {}]], {"samples": torch.zeros(1, 16, 8, 8)}),
        "video": ([[text, {}]], {"samples": torch.zeros(1, 4, 3, 8, 8)}),
        "cells": ([[text, {}]], {"samples": torch.zeros(1, 4, 8, 8), "downscale_ratio_spacial": 16}),
        "sd1": ([[text[..., :768], {}]], fits),
        "t5": ([[text.repeat(1, 1, 4), {}]], fits),
        "gligen": ([[text, {"gligen": ("position", None, [])}]], fits),
        "control": ([[text, {"control": Foreign()}]], fits),
        "maps": ([[text, {"reference_latents": [torch.zeros(1, 4, 8, 8)]}]], fits),
        "uncovered": ([[text, {"mask": blank}]], fits),
        "late": ([[text, {"start_percent": 0.95}]], fits),
    }
    said = {}
    before = model.model.apply_model
    model.model.apply_model = must_not_run
    for name, (conditioning, given) in cases.items():
        try:
            step(conditioning=conditioning, latent=given)
        except Exception as err:  # the test wants to know which
            said[name] = f"{type(err).__name__}: {err}"
    model.model.apply_model = before
    return said


class Foreign:
    """A control of another plugin."""

    previous_controlnet = None
    cond_hint_original = None
    extra_concat_orig = ()


def unused(nodes, model, text, latent):
    """A strength of 0 and a black mask leave the latent as it is, and the network alone."""
    import torch

    before = model.model.apply_model
    model.model.apply_model = must_not_run
    given = {"samples": latent, "noise_mask": torch.ones(1)}
    step = partial(nodes["HypirOneStepRestore"].execute, model=model, conditioning=[[text, {}]], latent=given)
    out = {"strength 0": step(strength=0.0)[0]["samples"]}
    out["black mask"] = step(strength=1.0, mask=torch.zeros(1, 64, 64))[0]["samples"].clone()
    model.model.apply_model = before
    return out


def must_not_run(*_args, **_options):
    raise AssertionError("the network ran")


def batches(job, nodes, load_file):
    """A batch through an engine of three stages and through Restore Image, and the memory that 48 frames take."""
    import torch

    out = stage_by_stage(nodes)
    restore = partial(
        nodes["HypirRestoreImage"].execute, size_rule="as the model enlarges", scale=2.0, longest_side_px=2048,
        megapixels=4.0, prompt="", strength=1.0, color_fix="automatic", color_strength=1.0, tile_px=0,
        overlap_px=0,
    )  # fmt: skip
    frames = torch.rand(48, 60, 80, 3, generator=torch.manual_seed(1))
    restore(image=frames[:2])  # so that what is needed once is there
    before = peak_bytes()
    made = restore(image=frames)
    taken = peak_bytes() - before
    image, _report = made.args
    return out | {"last": image[-1:].clone(), "alone": restore(image=frames[-1:])[0]}, {
        "taken": str(taken),
        "result": str(image.numel() * image.element_size()),
        "said": made.ui.as_dict()["text"][0],
        "untouched": str(restore(image=frames[:3], strength=0.0).ui.as_dict()["text"][0]),
    }


def peak_bytes() -> int:
    """Return the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def stage_by_stage(nodes):
    """Pictures through encode, step and decode of a formula, in a batch and one by one."""
    import torch
    from torch.nn import functional as F

    parts = module(nodes, "hypir_core.engines.diffusion.parts")
    geometry = module(nodes, "hypir_core.tiling.geometry")
    one_step = module(nodes, "hypir_core.engines.diffusion.one_step").one_step
    base, sizing = (
        module(nodes, "hypir_core.engines.base"),
        module(nodes, "hypir_core.engines.diffusion.sizing"),
    )
    prediction = module(nodes, "hypir_core.weights.spec").Prediction
    request = module(nodes, "hypir_core.request")
    order, guide = [], torch.rand(2, 1, 64, 64, generator=torch.manual_seed(3))

    def traced(name, function):
        def run(x, *others):
            order.append((name, len(x)))
            return function(x, *others)

        return run

    engine = one_step(
        base.EngineSpec(name="formula", weights="none", default_scale=1.0),
        codec=parts.Codec(
            encode=traced("encode", lambda x: F.avg_pool2d(x, 8).repeat(1, 2, 1, 1)[:, :4]),
            decode=traced("decode", lambda z: F.interpolate(z[:, :3], scale_factor=8)),
        ),
        denoiser=parts.Denoiser(predict=traced("step", lambda z, _s, _c, guides: z * guides["mask"])),
        conditioner=lambda *_: parts.Condition(guides={"mask": geometry.Plane(guide, 8)}),
        a_bar=0.5,
        model_t=200,
        kind=prediction.x0,
        sizing=sizing.HouseSizing(),
    )
    pictures = torch.rand(3, 3, 512, 512, generator=torch.manual_seed(2))
    alpha = torch.rand(3, 1, 512, 512, generator=torch.manual_seed(4))
    batch, pipeline = module(nodes, "nodes.batch"), module(nodes, "hypir_core.pipeline")
    wish = request.Request()
    done = batch.restore_batch(engine, pictures, wish, alpha=alpha)
    names = [name for name, _ in order]
    said = [names.index("step") > len(names) - 1 - names[::-1].index("encode"), names.count("encode") == 3]
    alone = []
    for i in range(3):
        mine = replace(
            engine,
            conditioner=lambda *_, i=i: parts.Condition(guides={"mask": geometry.Plane(guide[[i % 2]], 8)}),
        )
        runtime = module(nodes, "hypir_core.runtime").Runtime()
        one = pipeline.restore(mine, pictures[i : i + 1], wish, runtime, alpha_01=alpha[i : i + 1])
        alone.append(torch.cat([one.image_01, one.alpha_01], 1).movedim(1, -1))
    return {"batch": done.image_bhwc, "one by one": torch.cat(alone), "order": torch.tensor(said).float()}


def upscaler(job, nodes, load_file):
    """An UPSCALE_MODEL from ComfyUI's own loader: who moves it, and what other nodes find afterwards."""
    import comfy.model_management as management
    import folder_paths
    import torch
    from comfy_extras.nodes_upscale_model import ImageUpscaleWithModel, UpscaleModelLoader

    folder_paths.folder_names_and_paths["upscale_models"] = ([job["folder"]], {".safetensors"})
    load = getattr(UpscaleModelLoader, "execute", None) or UpscaleModelLoader().load_model
    model = load(job["file"])[0]
    image = torch.rand(1, 24, 32, 3, generator=torch.manual_seed(1))
    memory = module(nodes, "nodes.host.memory")
    held, released = memory.place_managed, []
    memory.place_managed = lambda patcher, *rest: (released.append("managed"), held(patcher, *rest))
    restore = partial(
        nodes["HypirRestoreImage"].execute, image=image, size_rule="as the model enlarges", scale=2.0,
        longest_side_px=64, megapixels=1.0, prompt="", strength=1.0, color_fix="none", color_strength=1.0,
        tile_px=0, overlap_px=0, upscale_model=model,
    )  # fmt: skip
    out = {"ours": restore()[0]}
    patcher = getattr(model, "patcher", None)
    books = [loaded.model for loaded in management.current_loaded_models]
    stock = getattr(ImageUpscaleWithModel, "execute", None) or ImageUpscaleWithModel().upscale
    out["stock"] = stock(model, image)[0]
    said = {"has patcher": str(patcher is not None), "in books": str(patcher in books), "by": str(released)}
    try:
        memory.place_managed(patcher or model, 0.0, torch.device("meta"))
    except Exception as err:  # the test wants to know which
        said["elsewhere"] = type(err).__name__
    return out, said


JOBS = {"upscaler": upscaler, "regions": regions, "batches": batches}
