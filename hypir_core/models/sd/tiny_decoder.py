"""A tiny decoder in place of the VAE's, for previews: diffusers' `AutoencoderTiny`, of which TAESD is the known one.

TAESD (Ollin Boer Bohan, https://github.com/madebyollin/taesd, MIT licence) is a short stack of convolutions, trained
to decode what Stable Diffusion's VAE encoded. It has no normalisation and no attention. A light decoder
(`light_decoder`), the VAE's own with half of its channels, is taken as well: slower, and much closer to the VAE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MissingDependencyError, SpecMismatchError, WeightsError, WeightsNotFoundError
from ...weights.file_names import network_files
from ...weights.search.hub_cache import hub_cache_folder, is_repo_id, snapshots
from ...weights.tensors import read_tensors
from .backbone import config_beside, fill
from .light_decoder import decoder_tensors, light_decoder
from .sd21 import SD21_VAE

KIND = "AutoencoderTiny"

WANTED = f"a tiny decoder for Stable Diffusion 1 and 2 (TAESD, or another {KIND} of diffusers)"

SIZES = (4, 3, 8)
"""Latent channels, colours, enlargement."""

VAE_NUMBERS = 10.5
"""Working memory of a VAE's decoder: numbers per output pixel and channel of its second level. Measured on a CPU in full
size and bfloat16: 2900 to 3700 bytes per pixel in tiles of 768 px."""

_ORIGINAL_NAME = re.compile(r"(\d+)\.(.+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class TinyDecoder:
    """A tiny decoder in memory, on the CPU, float32, frozen."""

    net: nn.Module
    """Latent [n 4 h w], scaled → picture [n 3 8h 8w], about [-1,1]."""
    scaling_factor: float
    """Latents that the UNet knows are divided by this. TAESD's is 1: it takes them as they are."""
    numbers_per_px: float
    """Working memory: numbers per output pixel."""
    name: str
    """For reports: the name of the folder or file, or the repository and its revision."""
    path: Path
    """The weight file."""
    after_quant: bool = False
    """Whether it reads what the VAE's `post_quant_conv` gives."""
    kind: str = "a tiny decoder"
    quality: str = "a preview, fine detail is approximate"


def load_tiny_decoder(given: str) -> TinyDecoder:
    """Load a tiny decoder; nothing is fetched.

    Args:
        given: a diffusers folder, a weight file (with its ``config.json`` beside it, else built as TAESD), or the id
            ``owner/name`` of a repository in the Hugging Face cache. A file may hold the whole autoencoder
            under diffusers' names, or the decoder alone under TAESD's own (``taesd_decoder.safetensors``).

    Raises:
        WeightsNotFoundError: there is no such file, or no weights in it; says how to get one.
        WeightsError: a file cannot be read.
        SpecMismatchError: it is another kind of model, or for other latents. TAESDXL has the same shapes as
            TAESD and cannot be told apart.
        MissingDependencyError: diffusers is not installed.
    """
    path, name = _locate(given)
    if not path.with_name("config.json").is_file():
        tensors = decoder_tensors(read_tensors(path).tensors, path)
        if tensors is not None:
            return _light(tensors, path, name)
    model = _empty(config_beside(path) if path.with_name("config.json").is_file() else {}, path)
    net = fill(
        model.decoder, _decoder_tensors(read_tensors(path).tensors), torch.float32, path, wanted=WANTED
    )
    return TinyDecoder(
        net=net,
        scaling_factor=float(model.config.scaling_factor),
        # Measured: one tile of TAESD, 64 channels wide, takes 500 (at 512 px) to 810 (at 768 px) bytes in bfloat16.
        numbers_per_px=6.5 * int(model.config.decoder_block_out_channels[-1]),
        name=name,
        path=path,
    )


def _light(tensors: Mapping[str, Tensor], path: Path, name: str) -> TinyDecoder:
    net, widths = light_decoder(tensors, path)
    return TinyDecoder(
        net=net,
        scaling_factor=float(SD21_VAE["scaling_factor"]),
        numbers_per_px=VAE_NUMBERS * widths[1],
        name=name,
        path=path,
        after_quant=True,
        kind="a light decoder",
        quality="close to the VAE's own, not the same",
    )


def _locate(given: str) -> tuple[Path, str]:
    """Return the weight file and the name for reports."""
    path = Path(given).expanduser()
    if path.is_file():
        return path, path.name
    folders, reason = [(path, path.resolve().name)], "a folder without diffusion_pytorch_model.safetensors"
    if not path.exists():
        known = snapshots(given) if is_repo_id(given) else []
        folders = [(snapshot, f"{given}@{snapshot.name[:8]}") for snapshot in known]
        if not known:
            reason = f"no such file or folder, and nothing of that name in the Hugging Face cache {hub_cache_folder()}"
    for folder, name in folders:
        weights = network_files(folder)
        if weights:
            return weights[0], name
    raise WeightsNotFoundError(
        f"{given}: expected {WANTED}, got {reason}; get TAESD (10 MB, MIT licence) with "
        "`hf download madebyollin/taesd` and give madebyollin/taesd, or leave out fast_decoder"
    )


def _empty(config: Mapping[str, Any], path: Path) -> Any:
    """Return the autoencoder without numbers, on the meta device."""
    try:
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    except ImportError as err:
        raise MissingDependencyError("diffusers", "diffusion", "the one-step engine") from err
    where = path.with_name("config.json") if config else path
    kind = config.get("_class_name", KIND)
    if kind != KIND:
        raise SpecMismatchError(f"{where}: expected {WANTED}, got {kind}; give another folder or file")
    # Not with `from_config`, which warns about an entry that diffusers itself writes into every such file.
    known = {name: config[name] for name in signature(AutoencoderTiny).parameters if name in config}
    try:
        with torch.device("meta"):
            model: Any = AutoencoderTiny(**known)
        c = model.config
        enlargement = c.upsampling_scaling_factor ** (len(c.num_decoder_blocks) - 1)
    except (TypeError, ValueError) as err:
        raise WeightsError(f"{where}: expected the sizes of an {KIND}, cannot build it ({err})") from err
    sizes = (c.latent_channels, c.out_channels, enlargement)
    if sizes != SIZES:
        raise SpecMismatchError(f"{where}: expected {WANTED}, {_said(SIZES)}; got {_said(sizes)}")
    return model


def _said(sizes: tuple[int, int, int]) -> str:
    return "{} latent channels to {} colours at {} times the size".format(*sizes)


def _decoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the decoder's tensors under the names that diffusers gives them."""
    inside = {name.removeprefix("decoder."): t for name, t in tensors.items() if name.startswith("decoder.")}
    if inside:
        return inside
    # TAESD's own layer 0 is a clamp without weights, which diffusers does not count.
    matches = {name: _ORIGINAL_NAME.fullmatch(name) for name in tensors}
    return {f"layers.{int(m[1]) - 1}.{m[2]}": tensors[name] for name, m in matches.items() if m}
