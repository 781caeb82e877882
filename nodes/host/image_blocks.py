"""SeeSR's image blocks in ComfyUI's own UNet and ControlNet.

After every text transformer stands a site: it hands what goes by to an image block, together with the picture's tokens.
The UNet's sites come and go with the MODEL that asks for them (an injection), and its image blocks are an additional
model, so that ComfyUI loads, casts and unloads them. A ControlNet is loaded for SeeSR alone: its sites stay.

Blocks are known by the name of the text transformer before them, in ComfyUI's own names: ``input_blocks.1.1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import comfy.controlnet
import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.utils
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from torch import Tensor, nn

from ...hypir_core.errors import HypirError, SpecMismatchError

KEY = "hypir_seesr"
"""Under this name a MODEL carries injection, additional model and, in its transformer options, tokens."""

Blocks = Mapping[str, Mapping[str, Tensor]]
"""Name of a text transformer → the tensors of the image block after it."""


class ImageBlocks(nn.Module):
    """All image blocks of one network, in ComfyUI's layers, which cast their weights to what they are given."""

    def __init__(self, net: nn.Module, blocks: Blocks, dtype: torch.dtype, *, where: str):
        super().__init__()
        self.places = tuple(blocks)
        made = [
            _image_block(net.get_submodule(place), tensors, dtype, where=f"{where}: {place}")
            for place, tensors in blocks.items()
        ]
        self.blocks = nn.ModuleList(made)


class ImageSite(nn.Module):
    """Where an image block works; what has no tokens goes by as it is."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.tokens: Tensor | None = None
        self._block = (block,)  # in a tuple, because its weights are counted and moved elsewhere

    def forward(self, x: Tensor) -> Tensor:
        """Look at the tokens that the ControlNet was given; [n c h w] → the same."""
        return x if self.tokens is None else self.look(x, self.tokens)

    def look(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Return [n c h w] after the image block; tokens [1 or b m width] count for the pictures in turn."""
        (block,) = self._block
        return block(x, comfy.utils.repeat_to_batch_size(tokens.to(x), len(x)), {})


class ControlWithImageBlocks(nn.Module):
    """The network of ComfyUI's ControlNet, which takes tokens too."""

    def __init__(self, net: nn.Module, blocks: ImageBlocks):
        super().__init__()
        self.net, self.image_blocks = net, blocks
        insert_(net, blocks)

    @property
    def dtype(self) -> torch.dtype:
        """Return what ComfyUI casts the network's inputs to."""
        net: Any = self.net
        return net.dtype

    def forward(self, *, tokens: Tensor | None = None, **inputs: Any) -> Any:
        """Run the ControlNet; without tokens the image blocks are skipped."""
        sites = _sites(self.net)
        try:
            for site in sites:
                site.tokens = tokens
            return self.net(**inputs)
        finally:
            for site in sites:
                site.tokens = None


def model_with_image_blocks(model: Any, blocks: Blocks, *, where: str) -> Any:
    """Return a clone of a MODEL with image blocks; they are skipped until it is given tokens.

    Raises:
        HypirError: this ComfyUI cannot inject.
        SpecMismatchError: a block does not fit.
    """
    injection = getattr(comfy.patcher_extension, "PatcherInjection", None)
    if injection is None or not hasattr(model, "set_injections"):
        raise HypirError(
            f"Load SeeSR needs ComfyUI 0.3.64 or newer, whose models take injections; this is {_version()}: update it"
        )
    base = model.model
    made = ImageBlocks(
        _network(base), blocks, getattr(base, "manual_cast_dtype", None) or base.get_dtype(), where=where
    )
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    with_blocks = model.clone()
    with_blocks.set_additional_models(
        KEY,
        [patcher(made, load_device=model.load_device, offload_device=management.unet_offload_device())],
    )
    with_blocks.set_injections(
        KEY,
        [
            injection(
                inject=lambda patched: insert_(_network(patched.model), made),
                eject=lambda patched: remove_(_network(patched.model)),
            )
        ],
    )
    with_blocks.set_model_forward_timestep_embed_patch((ImageSite, _look_of_unet))
    return with_blocks


def has_image_blocks(model: Any) -> bool:
    """Say whether a MODEL comes from Load SeeSR."""
    return bool(model.get_additional_models_with_key(KEY))


def label_of(model: Any) -> tuple[str, ...]:
    """Return what Load SeeSR says of a MODEL's image blocks: the files, then notes."""
    return model.attachments.get(KEY) or ("SeeSR",)


def takes_tokens(network: Any) -> bool:
    """Say whether the network of a CONTROL_NET comes from Load SeeSR."""
    return isinstance(network, ControlWithImageBlocks)


def model_with_tokens(model: Any, tokens: Tensor | None) -> Any:
    """Return a clone of a MODEL that is told a picture's tokens [b m width], or none."""
    told = model.clone()
    told.model_options["transformer_options"][KEY] = tokens
    return told


def tokens_of(model: Any) -> Tensor | None:
    """Return the tokens [b m width] that a MODEL is told."""
    return model.model_options["transformer_options"].get(KEY)


def control_with_image_blocks(tensors: Mapping[str, Tensor], blocks: Blocks, *, where: str) -> Any:
    """Return ComfyUI's ControlNet with image blocks inside.

    Args:
        tensors: of the ControlNet, under the names of the original release.
        blocks: its image blocks.
        where: names the file in errors.

    Raises:
        SpecMismatchError: a block does not fit, or ComfyUI does not know the ControlNet.
    """
    loaded = comfy.controlnet.load_controlnet_state_dict(dict(tensors))
    if type(loaded) is not comfy.controlnet.ControlNet:
        raise SpecMismatchError(f"{where}: ComfyUI does not take it for a ControlNet of Stable Diffusion 2")
    net = loaded.control_model
    with_blocks = ControlWithImageBlocks(net, ImageBlocks(net, blocks, net.dtype, where=where))
    control = comfy.controlnet.ControlNet(
        with_blocks, load_device=loaded.load_device, manual_cast_dtype=loaded.manual_cast_dtype
    )
    control.upscale_algorithm = "bicubic"  # the picture itself is looked at, which nearest pixels would spoil
    return control


def insert_(net: nn.Module, blocks: ImageBlocks) -> None:
    """Put a site after every text transformer, in place of those that are there; all other names stay."""
    remove_(net)
    for place, block in zip(blocks.places, blocks.blocks, strict=True):
        sequence, _, number = place.rpartition(".")
        into = net.get_submodule(sequence)
        children = list(into.named_children())
        for name, _child in children:
            delattr(into, name)
        for name, child in children:
            into.add_module(name, child)
            if name == number:
                into.add_module(f"{number}_image", ImageSite(block))


def remove_(net: nn.Module) -> None:
    """Take every site out."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ImageSite):
                delattr(module, name)


def _look_of_unet(
    site: ImageSite,
    x: Tensor,
    _emb: Any,
    _context: Any,
    transformer_options: Mapping[str, Any],
    *_others: Any,
) -> Tensor:
    """Look at the tokens that the MODEL was told; ComfyUI calls it for every site."""
    tokens = transformer_options.get(KEY)
    return x if tokens is None else site.look(x, tokens)


def _sites(net: nn.Module) -> list[ImageSite]:
    return [module for module in net.modules() if isinstance(module, ImageSite)]


def _network(base: Any) -> nn.Module:
    """Return the UNet itself, also where torch.compile wraps it."""
    return getattr(base.diffusion_model, "_orig_mod", base.diffusion_model)


def _image_block(like: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype, *, where: str) -> nn.Module:
    """Return a transformer like a text transformer whose cross-attention is as wide as its tensors say."""
    attention = like.transformer_blocks[0].attn1
    block = SpatialTransformer(
        like.in_channels,
        attention.heads,
        attention.dim_head,
        depth=len(like.transformer_blocks),
        context_dim=_token_width(tensors, where),
        use_linear=like.use_linear,
        use_checkpoint=False,
        attn_precision=attention.attn_precision,
        dtype=dtype,
        device=torch.device("meta"),
        operations=comfy.ops.manual_cast,
    )
    missing, unexpected = block.load_state_dict(
        {n: t.to(dtype) for n, t in tensors.items()}, strict=False, assign=True
    )
    wrong = [*missing, *unexpected]
    if wrong:
        raise SpecMismatchError(
            f"{where}: {len(wrong)} tensors of the image block do not fit, the first is {wrong[0]}"
        )
    return block.eval().requires_grad_(False)


def _token_width(tensors: Mapping[str, Tensor], where: str) -> int:
    found: Iterable[int] = (t.shape[1] for name, t in tensors.items() if name.endswith("attn2.to_k.weight"))
    width = next(iter(found), None)
    if width is None:
        raise SpecMismatchError(
            f"{where}: the image block has no cross-attention (attn2.to_k); get the file again"
        )
    return width


def _version() -> str:
    try:
        from comfyui_version import __version__
    except ImportError:
        return "an older one"
    return __version__
