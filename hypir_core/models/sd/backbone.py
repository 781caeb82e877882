"""The base model: UNet, VAE and text encoder of Stable Diffusion 2.1-base, from any packaging, offline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...diffusion.schedule import NoiseSchedule, read_schedule
from ...errors import MissingDependencyError, SpecMismatchError, WeightsError
from ...weights.base_names import text_tensors, vae_tensors
from ...weights.ldm_names import unet_names
from ...weights.once import Once
from ...weights.search.base_files import BaseFiles, Packaging
from ...weights.spec import Prediction
from ...weights.tensors import TensorFile, listed, read_tensors
from .prompt import find_tokenizer
from .sd21 import SD21_TEXT_ENCODER, SD21_UNET, SD21_VAE

WANTED = "Stable Diffusion 2.1-base (v2-1_512-ema-pruned.safetensors, or its diffusers folder)"

_TEXT_ENCODERS: Once[nn.Module] = Once()

CONTEXT_WIDTHS = {768: "Stable Diffusion 1.x", 1280: "the SDXL refiner", 2048: "SDXL"}
"""Cross-attention widths of other families."""

INPUT_CHANNELS = {
    5: "a depth model",
    7: "an upscaling model",
    8: "an instruction model",
    9: "an inpainting model",
}
"""Input channels of other Stable Diffusion UNets."""

V_MARK = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
V_MARK_SPREAD = 0.09
"""The 512 and the 768 px model of version 2 have the same shapes; without a scheduler's word, the spread of
this tensor tells them apart: above 0.09 it is v-prediction. ComfyUI decides by the same mark."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    """A base model in memory, on the CPU, frozen, ready to be moved and cast."""

    unet: nn.Module
    """`diffusers.UNet2DConditionModel`."""
    vae: nn.Module
    """`diffusers.AutoencoderKL`."""
    text_encoder: nn.Module
    """`transformers.CLIPTextModel`, float32."""
    tokenizer: Any | None
    """`transformers.CLIPTokenizer`, or None: then only the empty prompt is understood."""
    schedule: NoiseSchedule
    prediction: Prediction
    scaling_factor: float
    """VAE latents are multiplied by this before the UNet."""
    native_px: int
    """Side of the pictures the UNet was trained on."""
    vocabulary: int
    """Size of the text encoder's vocabulary."""
    found_in: str
    """Where it comes from, for reports."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Text metadata of the UNet's file."""


def load_base(files: BaseFiles, *, dtype: torch.dtype = torch.float32, wanted: str = WANTED) -> Backbone:
    """Load a base model; nothing is fetched.

    Args:
        files: from `weights.search.locate.locate_base`.
        dtype: format of the UNet and the VAE. Merge a LoRA and fold the timestep in float32, then cast.
        wanted: what errors say was expected.

    Raises:
        WeightsError: a file cannot be read.
        SpecMismatchError: it is another model (version 1, SDXL, inpainting, v-prediction, …); names the right
            one. Version 2.0-base has the same shapes and prediction as 2.1-base and cannot be told apart.
        MissingDependencyError: diffusers or transformers is not installed.
    """
    sources = _read(files, wanted)
    unet_tensors = _unet_tensors(sources.unet, wanted)
    _refuse_other_models(unet_tensors, sources.unet.path, wanted)
    unet = fill(empty_unet(sources.unet_config), unet_tensors, dtype, sources.unet.path, wanted=wanted)
    vae_file, text_file = sources.vae.path, sources.text_encoder.path
    vae = fill(
        empty_vae(sources.vae_config),
        vae_tensors(sources.vae.tensors, where=vae_file),
        dtype,
        vae_file,
        wanted=wanted,
    )
    text = text_tensors(
        sources.text_encoder.tensors, layers=sources.text_config["num_hidden_layers"], where=text_file
    )
    # No restorer changes it, and it stays on the CPU in float32: engines on one base share it.
    text_encoder = _TEXT_ENCODERS.of(
        text_file,
        lambda: fill(empty_text_encoder(sources.text_config), text, torch.float32, text_file, wanted=wanted),
        json.dumps(dict(sources.text_config), sort_keys=True, default=str),
    )
    schedule, prediction = _schedule(files, unet_tensors)
    return Backbone(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=find_tokenizer(files.tokenizer, beside=files.single_file or files.unet),
        schedule=schedule,
        prediction=prediction,
        **facts(unet, vae, sources.text_config, wanted=wanted),
        found_in=files.found_in,
        metadata=sources.unet.metadata,
    )


def facts(unet: Any, vae: Any, text_config: Mapping[str, Any], *, wanted: str = WANTED) -> dict[str, Any]:
    """Return the numbers of a `Backbone` that follow from the configurations.

    Raises:
        SpecMismatchError: the text encoder's width is not what the UNet's cross-attention reads.
    """
    width, read = text_config["hidden_size"], unet.config.cross_attention_dim
    if width != read:
        raise SpecMismatchError(
            f"expected a text encoder {read} wide, as the UNet's cross-attention, got {width}; give {wanted}"
        )
    return {
        "scaling_factor": float(vae.config.scaling_factor),
        "native_px": int(unet.config.sample_size) * 2 ** (len(vae.config.block_out_channels) - 1),
        "vocabulary": int(text_config["vocab_size"]),
    }


def require_prediction(backbone: Backbone, wanted: Prediction, *, eps_base: str = WANTED) -> None:
    """Refuse a base that predicts something else than what it is needed for; `eps_base` names the right one for ε.

    Raises:
        SpecMismatchError: names the right file.
    """
    if backbone.prediction is not wanted:
        right = (
            eps_base if wanted is Prediction.eps else "Stable Diffusion 2.1 (v2-1_768-ema-pruned.safetensors)"
        )
        raise SpecMismatchError(
            f"{backbone.found_in}: expected a base model with {wanted.value} prediction, got "
            f"{backbone.prediction.value} prediction (as Stable Diffusion 2.1 at 768 px has); give {right}"
        )


def empty_unet(config: Mapping[str, Any]) -> nn.Module:
    """Return a `diffusers.UNet2DConditionModel` without numbers, on the meta device."""
    try:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    except ImportError as err:
        raise MissingDependencyError("diffusers", "diffusion", "the one-step engine") from err
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(dict(config))
    return unet


def empty_vae(config: Mapping[str, Any]) -> nn.Module:
    """Return a `diffusers.AutoencoderKL` without numbers, on the meta device."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    with torch.device("meta"):
        vae: Any = AutoencoderKL.from_config(dict(config))
    return vae


def empty_text_encoder(config: Mapping[str, Any]) -> nn.Module:
    """Return a `transformers.CLIPTextModel` without numbers, on the meta device."""
    try:
        from transformers import CLIPTextConfig, CLIPTextModel
    except ImportError as err:
        raise MissingDependencyError("transformers", "diffusion", "the one-step engine") from err
    with torch.device("meta"):
        model = CLIPTextModel(CLIPTextConfig(**config))
    # A table that no weight file holds; on the meta device it came out empty.
    for module in model.modules():
        if "position_ids" in module._buffers:
            length = config["max_position_embeddings"]
            module.register_buffer("position_ids", torch.arange(length)[None], persistent=False)
    return model


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sources:
    unet: TensorFile
    vae: TensorFile
    text_encoder: TensorFile
    unet_config: Mapping[str, Any]
    vae_config: Mapping[str, Any]
    text_config: Mapping[str, Any]


def _read(files: BaseFiles, wanted: str) -> _Sources:
    if files.single_file is not None:
        whole = read_tensors(files.single_file)
        unet = vae = text_encoder = whole
    elif files.unet is None or files.vae is None or files.text_encoder is None:
        raise WeightsError(
            f"{files.found_in}: expected a UNet, a VAE and a text encoder, got fewer; give {wanted}"
        )
    else:
        unet, vae, text_encoder = map(read_tensors, (files.unet, files.vae, files.text_encoder))
    folder = files.packaging is Packaging.diffusers_folder
    return _Sources(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        unet_config=config_beside(unet.path) if folder else SD21_UNET,
        vae_config=config_beside(vae.path) if folder else SD21_VAE,
        text_config=config_beside(text_encoder.path) if folder else SD21_TEXT_ENCODER,
    )


def config_beside(path: Path) -> Mapping[str, Any]:
    """Read the ``config.json`` beside a weight file; raises `WeightsError` where that cannot be done."""
    file = path.with_name("config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise WeightsError(f"{file}: expected the network's JSON, cannot read it ({err})") from err
    if not isinstance(config, dict):
        raise WeightsError(f"{file}: expected a JSON object, got {type(config).__name__}")
    return config


def _unet_tensors(file: TensorFile, wanted: str) -> dict[str, Tensor]:
    """Return the UNet's tensors under diffusers names."""
    names = unet_names(file.tensors)
    if names is None:
        raise WeightsError(
            f"{file.path}: expected a Stable Diffusion UNet, got {listed(list(file.tensors))} other tensors; "
            f"give {wanted}"
        )
    if any(name.startswith("add_embedding.") for name in names):
        raise SpecMismatchError(
            f"{file.path}: expected {wanted}, got SDXL or another model with label embeddings"
        )
    return {new: file.tensors[old] for new, old in names.items()}


def _refuse_other_models(unet: Mapping[str, Tensor], path: Path, wanted: str) -> None:
    channels = unet["conv_in.weight"].shape[1]
    widths = {t.shape[1] for name, t in unet.items() if name.endswith("attn2.to_k.weight")}
    other = INPUT_CHANNELS.get(channels) or next(
        (CONTEXT_WIDTHS[w] for w in widths if w in CONTEXT_WIDTHS), None
    )
    if other or channels != 4 or len(widths) != 1:
        seen = (
            f"{channels} input channels, cross-attention {', '.join(map(str, sorted(widths))) or 'none'} wide"
        )
        raise SpecMismatchError(f"{path}: expected {wanted}, got {other or 'another model'} ({seen})")


def _schedule(files: BaseFiles, unet: Mapping[str, Tensor]) -> tuple[NoiseSchedule, Prediction]:
    if files.scheduler_config is not None:
        return read_schedule(files.scheduler_config)
    mark = unet.get(V_MARK)
    is_v = mark is not None and float(mark.float().std(unbiased=False)) > V_MARK_SPREAD
    return NoiseSchedule(), Prediction.v if is_v else Prediction.eps


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    path: Path,
    *,
    wanted: str = WANTED,
) -> nn.Module:
    """Give an empty module its tensors, all of them or none; returns it, frozen.

    Raises:
        SpecMismatchError: names or shapes differ; says that `wanted` was expected in `path`.
    """
    # transformers 4 has a `text_model.` level that version 5 lacks.
    expected = {name.removeprefix("text_model."): (name, t.shape) for name, t in module.state_dict().items()}
    shapes = {short: tuple(shape) for short, (_, shape) in expected.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != found:
        wrong = sorted(n for n in shapes.keys() | found.keys() if shapes.get(n) != found.get(n))
        raise SpecMismatchError(
            f"{path}: expected {wanted}; {len(wrong)} tensors do not fit, the first is {wrong[0]}: "
            f"expected {shapes.get(wrong[0], 'none')}, got {found.get(wrong[0], 'none')}"
        )
    module.load_state_dict({expected[name][0]: t.to(dtype) for name, t in tensors.items()}, assign=True)
    return module.eval().requires_grad_(False)
