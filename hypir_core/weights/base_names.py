"""Names inside a base model's VAE and text encoder: from any layout to that of diffusers and transformers.

The layouts are those of the original release ("ldm", with OpenCLIP's text tower), of current diffusers and
transformers, and of diffusers before 0.12, whose VAE attention has other names. The UNet's names are in
`ldm_names`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..errors import WeightsError
from .ldm_names import LDM_TEXT_PREFIX, LDM_VAE_PREFIX
from .tensors import listed

VAE_PREFIXES = (LDM_VAE_PREFIX, "vae.", "")
TEXT_PREFIXES = (f"{LDM_TEXT_PREFIX}model.", "text_encoder.", "text_model.", "model.", "")

_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OPEN_CLIP_OUTER = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_UNUSED_TEXT = ("text_projection", "logit_scale", "attn_mask", "embeddings.position_ids")
"""Parts of a text tower's file that the last hidden state does not depend on."""


def vae_tensors(tensors: Mapping[str, Tensor], *, where: object) -> dict[str, Tensor]:
    """Return a VAE's tensors under `diffusers.AutoencoderKL`'s names.

    Args:
        tensors: a VAE file or a whole checkpoint, in any known layout.
        where: names the source in errors.

    Raises:
        WeightsError: there is no VAE in it.
    """
    inside = _part(tensors, VAE_PREFIXES, "decoder.conv_in.weight", "a VAE", where)
    out: dict[str, Tensor] = {}
    for new, name in vae_names(inside).items():
        tensor = inside[name]
        # Attention was once a 1×1 convolution.
        is_attention = ".attentions." in new and "norm" not in new
        out[new] = tensor.flatten(1) if is_attention and tensor.ndim == 4 else tensor
    return {
        name: tensor
        for name, tensor in out.items()
        if name.startswith(("encoder.", "decoder.", "quant_", "post_"))
    }


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """Return `diffusers.AutoencoderKL`'s name → its name here, for the tensors of a VAE in any known layout."""
    own = list(names)
    levels = 1 + max(
        (int(found[1]) for name in own if (found := re.match(r"decoder\.up\.(\d+)\.", name))), default=0
    )
    return {_vae_name(name, levels): name for name in own}


def text_tensors(tensors: Mapping[str, Tensor], *, layers: int, where: object) -> dict[str, Tensor]:
    """Return a CLIP text tower's tensors under `transformers.CLIPTextModel`'s names, without ``text_model.``.

    Args:
        tensors: a text encoder file or a whole checkpoint, in any known layout.
        layers: how many layers are used; the later ones of a longer tower are left out.
        where: names the source in errors.

    Raises:
        WeightsError: there is no text tower of CLIP in it.
    """
    hugging_face = [f"{p}text_model." for p in ("", "text_encoder.", f"{LDM_TEXT_PREFIX}transformer.")]
    try:
        found = _part(tensors, (*hugging_face, ""), "embeddings.token_embedding.weight", "", where)
    except WeightsError:
        inside = _part(tensors, TEXT_PREFIXES, "token_embedding.weight", "a CLIP text encoder", where)
        found = _from_open_clip(inside)
    kept: dict[str, Tensor] = {}
    for name, tensor in found.items():
        layer = re.match(r"encoder\.layers\.(\d+)\.", name)
        if not name.startswith(_UNUSED_TEXT) and (layer is None or int(layer[1]) < layers):
            kept[name] = tensor
    return kept


def _part(
    tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], landmark: str, what: str, where: object
) -> dict[str, Tensor]:
    prefix = next((p for p in prefixes if f"{p}{landmark}" in tensors), None)
    if prefix is None:
        raise WeightsError(
            f"{where}: expected {what}, got {listed(list(tensors))} other tensors; "
            "give the files of Stable Diffusion 2.1-base"
        )
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _vae_name(name: str, levels: int) -> str:
    name = re.sub(r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets.", name)
    name = re.sub(r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0.", name)
    name = re.sub(r"\.up\.(\d+)\.block\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.resnets.", name)
    name = re.sub(
        r"\.up\.(\d+)\.upsample\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.upsamplers.0.", name
    )
    name = re.sub(r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", name)
    name = name.replace(".mid.attn_1.", ".mid_block.attentions.0.").replace(
        ".nin_shortcut.", ".conv_shortcut."
    )
    name = re.sub(r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out.", name)
    attention = re.fullmatch(r"(.+\.attentions\.\d+)\.(\w+)\.(weight|bias)", name)
    if attention and attention[2] in _ATTENTION:
        name = f"{attention[1]}.{_ATTENTION[attention[2]]}.{attention[3]}"
    return name


def _from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", name)
        if layer is None:
            out[_OPEN_CLIP_OUTER.get(name, name)] = tensor
            continue
        stem, inner = f"encoder.layers.{layer[1]}", layer[2]
        joined = re.fullmatch(r"attn\.in_proj_(weight|bias)", inner)
        if joined:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                out[f"{stem}.self_attn.{part}_proj.{joined[1]}"] = rows
            continue
        module, _, kind = inner.rpartition(".")
        out[f"{stem}.{_OPEN_CLIP_LAYER.get(module, module)}.{kind}"] = tensor
    return out
