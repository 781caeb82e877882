"""Make tests/golden/one_step: what the authors' own programs return for tiny random restorers.

    PYTHONPATH=OLD_LIBRARIES python scripts/golden_one_step.py FAMILY SOURCE OUT

FAMILY is one of the functions below, SOURCE a checkout of the authors' repository, OUT a file. Run it in an environment
with the libraries that the repository asks for (diffusers 0.25 and peft 0.9; for OMGSR diffusers 0.34 and peft 0.17);
no graphics card is needed. Nothing of the authors' code is kept: only numbers.

Two things are pinned, as in this project's reference mode: the VAE gives its posterior's mean, and noise is one that is
stored with the result.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from argparse import Namespace
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
STRIDE = 3
"""Every third pixel of a result is kept."""

sys.path.insert(0, str(ROOT / "tests" / "core"))

files: Any = import_module("one_step_files")
"""What writes the tiny restorers."""


class OnTheCpu(TorchFunctionMode):
    """Read "cuda" as "cpu"."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function with another device."""
        if function is Tensor.cuda:
            return args[0]
        kwargs = {
            name: "cpu" if str(value).startswith("cuda") else value for name, value in (kwargs or {}).items()
        }
        args = tuple(
            "cpu" if isinstance(value, str) and value.startswith("cuda") else value for value in args
        )
        return function(*args, **kwargs)


def picture(height: int, width: int) -> Tensor:
    """Return a photograph [1 3 h w] in whole 255ths."""
    photo = load_file(GOLDEN / "hypir" / "case_3.safetensors")["restored"]
    return (photo[..., :height, :width] * 255).round() / 255


def base(folder: Path) -> str:
    """Copy the golden model and give its text encoder the names that older libraries read."""
    target = folder / "base"
    if not target.exists():
        shutil.copytree(files.MODEL, target)
        text = target / "text_encoder" / "model.safetensors"
        tensors = load_file(text)
        text.chmod(0o644)
        save_file({f"text_model.{name}": tensor for name, tensor in tensors.items()}, text, {"format": "pt"})
    return str(target)


def noise(height: int, width: int) -> Tensor:
    """Return the noise of a latent."""
    return torch.randn(1, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(7))


def pin() -> None:
    """Let the VAE give its mean; nothing waits for a graphics card."""
    modules = [
        m
        for name, m in sys.modules.items()
        if name.startswith(("diffusers", "models", "src", "diffusermodels"))
    ]
    for module in modules:
        posterior = vars(module).get("DiagonalGaussianDistribution")
        if posterior is not None:
            posterior.sample = lambda self, generator=None: self.mean
    torch.cuda.synchronize = lambda *_: None


def tiles(**changes: int) -> dict[str, int]:
    """Return the tile sizes of the test scripts."""
    usual = {
        "vae_encoder_tiled_size": 1024,
        "vae_decoder_tiled_size": 224,
        "latent_tiled_size": 96,
        "latent_tiled_overlap": 32,
    }
    return usual | changes


def kept(output: Tensor) -> Tensor:
    """Return what is stored of an output in [-1, 1]: every third pixel, in 65535ths of [0, 1]."""
    image_01 = (output.float() / 2 + 0.5).clamp(0, 1)[0, :, ::STRIDE, ::STRIDE]
    inside = ((image_01 > 0.01) & (image_01 < 0.99)).float().mean()
    print(f"{tuple(output.shape)}: {100 * inside:.0f} % not clipped, spread {image_01.std():.3f}")
    return torch.from_numpy((image_01 * 65535).round().numpy().astype(np.uint16))


def osediff(folder: Path) -> dict[str, Tensor]:
    """OSEDiff: one tile, several tiles, words."""
    program = import_module("osediff").OSEDiff_test
    pin()
    out = {}
    for name, size, prompt, small in (
        ("whole", (128, 128), "", {}),
        ("words", (128, 136), "the cat, coffee,", {}),
        ("tiled", (192, 160), "", {"latent_tiled_size": 16, "latent_tiled_overlap": 8}),
    ):
        args = Namespace(
            pretrained_model_name_or_path=base(folder),
            osediff_path=str(files.osediff(folder / "osediff.pkl")),
            mixed_precision="fp32",
            merge_and_unload_lora=False,
            **tiles(**small),
        )
        out[name] = kept(program(args)(picture(*size) * 2 - 1, prompt=prompt))
    return out


def pisa_sr(folder: Path) -> dict[str, Tensor]:
    """PiSA-SR: as it comes, with its two sliders, and in tiles."""
    program = import_module("pisasr").PiSASR_eval
    pin()
    out = {}
    for name, size, small, (pixel, semantic) in (
        ("default", (128, 128), {}, (1.0, 1.0)),
        ("sliders", (128, 128), {}, (0.6, 1.3)),
        ("no_detail", (128, 128), {}, (1.0, 0.0)),
        ("tiled", (192, 160), {"latent_tiled_size": 16, "latent_tiled_overlap": 8}, (0.8, 0.5)),
    ):
        args = Namespace(
            pretrained_model_path=base(folder),
            pretrained_path=str(files.pisa_sr(folder / "pisa_sr.pkl")),
            mixed_precision="fp32",
            lambda_pix=pixel,
            lambda_sem=semantic,
            default=pixel == semantic == 1,
            **tiles(**small),
        )
        model = program(args)
        model.set_eval()
        out[name] = kept(model(args.default, picture(*size) * 2 - 1, prompt="")[1])
    return out


def omgsr_s(folder: Path) -> dict[str, Tensor]:
    """OMGSR-S: one tile and several."""
    from transformers import AutoTokenizer, CLIPTextModel

    program = import_module("infer.omgsr_s_infer_model").OMGSR_S_Infer
    pin()
    tokenizer = AutoTokenizer.from_pretrained(base(folder), subfolder="tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(base(folder), subfolder="text_encoder").float()
    ids = tokenizer("", max_length=77, padding="max_length", truncation=True, return_tensors="pt").input_ids
    words = text_encoder(ids)[0]
    model = program(base(folder), str(files.omgsr_s(folder / "omgsr")), 273, "cpu", torch.float32)
    return {
        name: kept(model(picture(*size) * 2 - 1, words, tile, tile // 2)[0])
        for name, size, tile in (("whole", (128, 128), 64), ("tiled", (192, 160), 16))
    }


def gdpo_sr(folder: Path) -> dict[str, Tensor]:
    """GDPO-SR's merged folder, and the file of its first training (NAOSD)."""
    programs = import_module("modelfile.GDPOSR")
    pin()
    randn_like = torch.randn_like
    torch.randn_like = lambda x, **_: noise(x.shape[-2] * 8, x.shape[-1] * 8)  # type: ignore[assignment]
    usual = {"pretrained_model_name_or_path": base(folder), "time_step": 100, "time_step_noise": 250}
    merged = programs.GDPOSRTest(Namespace(**usual, pretrained_path=str(files.gdpo_sr(folder / "gdpo"))))
    merged.set_eval()
    first = programs.NAOSD(Namespace(**usual, pretrained_path=str(files.naosd(folder / "naosd.pkl"))))
    first.set_eval()
    first.unet.set_adapter(["default_encoder", "default_decoder", "default_others"])
    first.vae.set_adapter(["default_encoder", "default_decoder"])
    lq = picture(128, 128) * 2 - 1
    out = {
        "merged": kept(merged(lq, positive_prompt=["the cat, clean, high-resolution, 8k,"])),
        "naosd": kept(first(lq, positive_prompt=[""], negative_prompt=[""])[0]),
    }
    torch.randn_like = randn_like
    return out | {"noise": noise(128, 128)}


def adcsr(folder: Path) -> dict[str, Tensor]:
    """AdcSR, at two sizes; the means and deviations of the input are not yet given to the result."""
    from diffusers.models.autoencoders.vae import Decoder
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    program = import_module("model")

    def decoder_of_adcsr() -> Any:
        return Decoder(4, 3, ("UpDecoderBlock2D",) * 4, files.ADCSR_DECODER, layers_per_block=2)

    def net_of_adcsr(decoder: Any) -> Any:
        unet = UNet2DConditionModel(
            block_out_channels=files.ADCSR_WIDTHS,
            attention_head_dim=tuple(width * 3 // 4 // 48 for width in files.ADCSR_WIDTHS),  # type: ignore[arg-type]
            cross_attention_dim=32,
            use_linear_projection=True,
        )
        return program.Net(unet, deepcopy(decoder))

    decoder = decoder_of_adcsr()
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        for net in (decoder, net_of_adcsr(decoder))
    ]
    once = {name: shape for name, shape in shapes[1].items() if not name.startswith("body.1.body.")}
    weights, light = files.adcsr(folder, once, shapes[0])
    state = torch.load(light)["state_dict"]
    decoder.load_state_dict(
        {name.removeprefix("decoder."): t for name, t in state.items() if name.startswith("decoder.")}
    )
    ends = [*decoder.up_blocks, decoder.conv_norm_out, decoder.conv_act, decoder.conv_out]
    net = torch.nn.DataParallel(net_of_adcsr(decoder))
    net.load_state_dict(torch.load(weights))
    whole = torch.nn.Sequential(net.module, *ends).eval()
    return {
        name: kept(whole(picture(*size) * 2 - 1)) for name, size in (("square", (32, 32)), ("wide", (48, 80)))
    }


def s3diff(folder: Path) -> dict[str, Tensor]:
    """S3Diff: one tile and several; blur and noise are what its estimator sees in the input."""
    program = import_module("s3diff_tile").S3Diff
    estimator = import_module("de_net").DEResNet(num_in_ch=3, num_degradation=2)
    pin()
    weights, degradation = files.s3diff(folder / "s3diff")
    estimator.load_model(degradation)
    defaults = Path("src/my_utils/testing_utils.py").read_text()
    words = {
        name: [re.search(f'"--{name}", type=str, default="(.*?)"', defaults)[1]]  # type: ignore[index]
        for name in ("pos_prompt", "neg_prompt")
    }
    out = {}
    for name, size, small in (
        ("whole", (128, 128), {}),
        ("tiled", (192, 160), {"latent_tiled_size": 16, "latent_tiled_overlap": 8}),
    ):
        lq = picture(*size)
        model = program(
            lora_rank_unet=files.RANK,
            lora_rank_vae=files.RANK,
            sd_path=base(folder),
            pretrained_path=str(weights),
            args=Namespace(**tiles(**small)),
        )
        model.set_eval()
        degrees = estimator(lq)
        print("blur and noise", degrees)
        out[name] = kept(model(lq * 2 - 1, degrees, **words))
        out[f"{name}_degrees"] = degrees
    return out


def main() -> None:
    """Run one family."""
    family, source, target = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve()
    os.chdir(source)
    sys.path[:0] = [str(source), str(source / "GDPOSR"), str(source / "src")]
    with tempfile.TemporaryDirectory() as name, torch.no_grad(), OnTheCpu():
        numbers = globals()[family](Path(name))
    save_file({key: tensor.contiguous() for key, tensor in numbers.items()}, target)


if __name__ == "__main__":
    main()
