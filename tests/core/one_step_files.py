"""Restorers of the one-step family in their authors' file layouts, tiny and random, on the golden model.

`scripts/golden_one_step.py` gives the same files to the authors' own programs. Every number comes from a name, so that
the files need not be stored. Only torch, numpy and safetensors are imported: the script runs beside old libraries.
"""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

MODEL = Path(__file__).parents[1] / "golden" / "hypir" / "model"

RANK = 4

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS = ("conv", "conv1", "conv2", "conv_in", "conv_out", "conv_shortcut")
OTHERS = ("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(network: str) -> dict[str, tuple[int, ...]]:
    """Return name → shape of the weights of the golden model's ``unet`` or ``vae``."""
    with safe_open(MODEL / network / "diffusion_pytorch_model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def chosen(weights: Shapes, endings: Iterable[str], *, of: Callable[[str], bool] = lambda _: True) -> Shapes:
    """Return module → weight shape of the modules that end so."""
    endings, found = tuple(endings), {}
    for name, shape in weights.items():
        module = name.removesuffix(".weight")
        ends = any(module == ending or module.endswith(f".{ending}") for ending in endings)
        if module != name and ends and of(module):
            found[module] = shape
    return found


def drawn(name: str, shape: tuple[int, ...], scale: float) -> Tensor:
    """Return normal numbers that depend on `name` alone, times `scale`."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy((rng.standard_normal(shape) * scale).astype(np.float32))


def factors(modules: Shapes, adapter: Callable[[str], str], *, strength: float = 0.3) -> dict[str, Tensor]:
    """Return ``X.lora_A.<adapter>.weight`` and ``…lora_B…`` of some modules; an empty adapter leaves its part out."""
    tensors = {}
    for module, (out, inner, *kernel) in modules.items():
        middle = f".{adapter(module)}" if adapter(module) else ""
        fan_in = inner * int(np.prod(kernel, dtype=int))
        down, up = f"{module}.lora_A{middle}.weight", f"{module}.lora_B{middle}.weight"
        tensors[down] = drawn(down, (RANK, inner, *kernel), fan_in**-0.5)
        tensors[up] = drawn(up, (out, RANK, *(1 for _ in kernel)), strength * RANK**-0.5)
    return tensors


def place(module: str) -> str:
    """Return which of the three adapters of OSEDiff and PiSA-SR a module of the UNet has."""
    if module.startswith(("down_blocks", "conv_in")):
        return "encoder"
    return "decoder" if module.startswith(("up_blocks", "conv_out")) else "others"


def trained_conv_in(base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the first convolution as it was trained whole, under the names that PEFT gives it."""
    return {
        f"conv_in.base_layer.{part}": base[f"conv_in.{part}"].float()
        + drawn(f"conv_in {part}", tuple(base[f"conv_in.{part}"].shape), 0.05)
        for part in ("weight", "bias")
    }


def vae_encoder_modules(vae: Shapes) -> Shapes:
    """Return the modules of a VAE that OSEDiff adapts."""
    inside = chosen(vae, (*ATTENTION, *CONVOLUTIONS), of=lambda module: module.startswith("encoder."))
    return {**inside, **chosen(vae, ("quant_conv",))}


def osediff(path: Path, unet: Mapping[str, Tensor] | None = None, vae: Shapes | None = None) -> Path:
    """Write ``osediff.pkl`` for a UNet's weights and the shapes of a VAE's; None: those of the golden model."""
    unet = load_file(MODEL / "unet" / "diffusion_pytorch_model.safetensors") if unet is None else unet
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.items()}
    modules = chosen(shapes, (*ATTENTION, *CONVOLUTIONS, *OTHERS))
    of_vae = vae_encoder_modules(shapes_of("vae") if vae is None else vae)
    state = factors(modules, lambda m: f"default_{place(m)}", strength=0.15)
    content = {
        "vae_lora_encoder_modules": list(of_vae),
        **{f"unet_lora_{part}_modules": [m for m in modules if place(m) == part] for part in PLACES},
        "rank_unet": RANK,
        "rank_vae": RANK,
        "state_dict_unet": state | trained_conv_in(unet),
        "state_dict_vae": factors(of_vae, lambda _: "default_encoder", strength=0.05),
    }
    torch.save(content, path)
    return path


PLACES = ("encoder", "decoder", "others")


def naosd(path: Path) -> Path:
    """Write the file that GDPO-SR's first training saves: OSEDiff's, and an adapter of the VAE's decoder."""
    osediff(path)
    content = torch.load(path, weights_only=True)
    ours = chosen(
        shapes_of("vae"), (*ATTENTION, *CONVOLUTIONS), of=lambda module: module.startswith("decoder.")
    )
    decoder = {**ours, **chosen(shapes_of("vae"), ("post_quant_conv",))}
    content["vae_lora_decoder_modules"], content["vae_lora_others_modules"] = list(decoder), []
    content["state_dict_vae"] |= factors(decoder, lambda _: "default_decoder", strength=0.05)
    torch.save(content, path)
    return path


def pisa_sr(path: Path, unet: Shapes | None = None) -> Path:
    """Write ``pisa_sr.pkl`` for the shapes of a UNet's weights; None: those of the golden model."""
    modules = chosen(shapes_of("unet") if unet is None else unet, (*ATTENTION, *CONVOLUTIONS, *OTHERS))
    content: dict[str, object] = {}
    state: dict[str, Tensor] = {}
    for kind in ("pix", "sem"):
        for part in PLACES:
            content[f"unet_lora_{part}_modules_{kind}"] = [m for m in modules if place(m) == part]
        content[f"lora_rank_unet_{kind}"] = RANK
        state |= factors(modules, lambda m, kind=kind: f"default_{place(m)}_{kind}", strength=0.15)
    torch.save({**content, "state_dict_unet": state}, path)
    return path


def omgsr_s(folder: Path) -> Path:
    """Write the two PEFT folders of OMGSR-S."""
    targets = [*ATTENTION, *CONVOLUTIONS]
    networks = {
        "unet_lora_adapter": chosen(shapes_of("unet"), targets),
        "vae_encoder_lora_adapter": {
            module.removeprefix("encoder."): shape
            for module, shape in chosen(
                shapes_of("vae"), targets, of=lambda m: m.startswith("encoder.")
            ).items()
        },
    }
    for name, modules in networks.items():
        inside = folder / name
        inside.mkdir(parents=True)
        strength = 0.3 if name.startswith("unet") else 0.1
        tensors = factors(modules, lambda _: "", strength=strength)
        save_file(
            {f"base_model.model.{k}": v for k, v in tensors.items()}, inside / "adapter_model.safetensors"
        )
        config = {
            "peft_type": "LORA",
            "r": RANK,
            "lora_alpha": RANK,
            "target_modules": targets,
            "init_lora_weights": "gaussian",
            "bias": "none",
            "use_dora": False,
            "use_rslora": False,
            "rank_pattern": {},
            "alpha_pattern": {},
        }
        (inside / "adapter_config.json").write_text(json.dumps(config))
    return folder


def gdpo_sr(folder: Path) -> Path:
    """Write the folder of GDPO-SR: a UNet and a VAE with everything merged into them."""
    for network, scale in (("unet", 0.02), ("vae", 0.005)):
        inside = folder / network
        inside.mkdir(parents=True)
        shutil.copy(MODEL / network / "config.json", inside)
        file = "diffusion_pytorch_model.safetensors"
        tensors = load_file(MODEL / network / file)
        changed = {
            name: tensor.float()
            + (drawn(f"gdpo {name}", tuple(tensor.shape), scale) if tensor.ndim > 1 else 0)
            for name, tensor in tensors.items()
        }
        save_file(changed, inside / file)
    return folder


ADCSR_WIDTHS = (320, 128, 128, 128)
"""Of the UNet that AdcSR's program makes narrower; the first is fixed in it."""
ADCSR_DECODER = (32, 32, 32, 256)
"""Of the light decoder; the last is what the network gives."""


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """Return numbers for the weights of a network that keep the signal's size; norms are near 1."""
    tensors = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            tensors[name] = drawn(name, shape, int(np.prod(shape[1:])) ** -0.5)
        else:
            tensors[name] = drawn(name, shape, 0.1) + (1 if "norm" in name and name.endswith("weight") else 0)
    return tensors


def adcsr(folder: Path, network: Shapes, decoder: Shapes) -> tuple[Path, Path]:
    """Write AdcSR's two files for the shapes of its network (names as in the file) and of its light decoder.

    The authors' module holds the parts of its UNet twice, so its file does too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights, light = folder / "net_params_200.pkl", folder / "halfDecoder.ckpt"
    tensors = filled(network)
    levels = range(len(ADCSR_WIDTHS))
    parts = [*(f"down_blocks.{i}" for i in levels), "mid_block", *(f"up_blocks.{i}" for i in levels)]
    again = {
        f"body.1.body.{i}.{name.removeprefix(f'body.1.{part}.')}": tensor
        for i, part in enumerate([*parts, "conv_norm_out", "conv_act", "conv_out"])
        for name, tensor in tensors.items()
        if name.startswith(f"body.1.{part}.")
    }
    torch.save({f"module.{name}": tensor for name, tensor in (tensors | again).items()}, weights)
    inside = {f"decoder.{name}": tensor for name, tensor in filled(decoder).items()}
    torch.save({"state_dict": inside | {"loss.logvar": torch.zeros(())}}, light)
    return weights, light


DEGRADATION_WIDTHS = (64, 64, 64, 128)
S3DIFF_VAE = r"^encoder\..*(conv1|conv2|conv_in|conv_shortcut|conv|conv_out|to_k|to_q|to_v|to_out\.0)$"
S3DIFF_UNET = [
    *ATTENTION,
    *(name for name in CONVOLUTIONS if name != "conv_in"),
    *OTHERS,
]


def s3diff(
    folder: Path, weights: Mapping[str, Tensor] | None = None, of_vae: Shapes | None = None
) -> tuple[Path, Path]:
    """Write ``s3diff.pkl``, and an estimator of blur and noise in full size.

    For a UNet's weights and the shapes of a VAE's; None: those of the golden model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = load_file(MODEL / "unet" / "diffusion_pytorch_model.safetensors") if weights is None else weights
    unet = chosen({name: tuple(tensor.shape) for name, tensor in base.items()}, S3DIFF_UNET)
    vae = {
        module: shape
        for name, shape in (shapes_of("vae") if of_vae is None else of_vae).items()
        if (module := name.removesuffix(".weight")) != name and re.fullmatch(S3DIFF_VAE, module)
    }
    conv_in = {name.replace(".base_layer", ""): tensor for name, tensor in trained_conv_in(base).items()}

    def linear(name: str, out: int, inside: int, layer: str) -> dict[str, Tensor]:
        return {
            f"{layer}weight": drawn(f"{name} weight", (out, inside), 1.5 * inside**-0.5),
            f"{layer}bias": drawn(f"{name} bias", (out,), 0.2),
        }

    content: dict[str, object] = {
        "unet_lora_target_modules": S3DIFF_UNET,
        "vae_lora_target_modules": S3DIFF_VAE,
        "rank_unet": RANK,
        "rank_vae": RANK,
        "state_dict_unet": factors(unet, lambda _: "default", strength=0.3) | conv_in,
        "state_dict_vae": factors(vae, lambda _: "vae_skip", strength=0.05),
        "w": torch.nn.Parameter(drawn("w", (64,), 1.0), requires_grad=False),
        "state_embeddings": {
            f"state_dict_{network}_block": {"weight": drawn(f"{network} blocks", (count, 64), 1.0)}
            for network, count in (("vae", 6), ("unet", 10))
        },
    }
    for network in ("vae", "unet"):
        content[f"state_dict_{network}_de_mlp"] = linear(f"{network} de", 256, 256, "0.")
        content[f"state_dict_{network}_block_mlp"] = linear(f"{network} block", 64, 64, "0.")
        content[f"state_dict_{network}_fuse_mlp"] = linear(f"{network} fuse", RANK**2, 320, "")
    file, estimator = folder / "s3diff.pkl", folder / "de_net.pth"
    torch.save(content, file)
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(2):
        shapes |= convolution(f"conv_first.{i}", 64, 3)
        at = 0
        for stage, width in enumerate(DEGRADATION_WIDTHS):
            for _ in range(2):
                shapes |= convolution(f"body.{i}.{at}.conv1", width, width)
                shapes |= convolution(f"body.{i}.{at}.conv2", width, width)
                at += 1
            if stage == 2:
                shapes |= convolution(f"body.{i}.{at}", DEGRADATION_WIDTHS[3], width)
                at += 1
        for layer, out, inside in ((0, 512, 128), (2, 1, 512)):
            shapes |= {f"fc_degree.{i}.{layer}.weight": (out, inside), f"fc_degree.{i}.{layer}.bias": (out,)}
    torch.save({name: 0.5 * tensor for name, tensor in filled(shapes).items()}, estimator)
    return file, estimator


def convolution(name: str, out: int, inside: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a 3×3 convolution."""
    return {f"{name}.weight": (out, inside, 3, 3), f"{name}.bias": (out,)}
