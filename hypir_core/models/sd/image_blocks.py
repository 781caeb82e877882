"""SeeSR's image blocks: after every look at the text, a second transformer looks at the picture's own tokens.

Wu et al., "SeeSR: Towards Semantics-Aware Real-World Image Super-Resolution", arXiv 2311.16518, section 3.2. Each block
is a whole transformer of Stable Diffusion (self-attention, cross-attention, feed-forward) under the published names
``….image_attentions.N.…``, beside ``….attentions.N.…``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import SpecMismatchError, WeightsError
from ...weights.tensors import listed

MARK = ".image_attentions."

Seen = tuple[Tensor, Tensor | None]
"""What a network with image blocks is given for `encoder_hidden_states`: the text [n words width] and the picture's
tokens [n tokens width], or None, which skips the image blocks."""


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What a file gave to a network."""

    merged: int
    """Tensors of image blocks that went in."""
    unused: int
    """Other tensors of the file, which were not read."""


class BlockPair(nn.Module):
    """A transformer that looks at the text, and one after it that looks at the picture's tokens."""

    def __init__(self, text: nn.Module, image: nn.Module):
        super().__init__()
        self.text, self.image = text, image

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Seen, **others: Any) -> tuple[Tensor]:
        """Return the map after both, [n c h w], as the first of a tuple; takes what diffusers' transformers take."""
        words, tokens = encoder_hidden_states
        (hidden_states,) = self.text(hidden_states, encoder_hidden_states=words, **others)
        if tokens is not None:
            (hidden_states,) = self.image(hidden_states, encoder_hidden_states=tokens, **others)
        return (hidden_states,)


def add_image_blocks_(net: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> MergeReport:
    """Give a diffusers UNet or ControlNet the image blocks of a file, in place; everything else of it stays.

    From then on it takes `Seen` for its encoder_hidden_states. Gradients pass.

    Args:
        net: with numbers, or on the meta device; the blocks come in float32.
        tensors: of SeeSR's file, under its names; those without `MARK` are not touched.
        where: names the file in errors.

    Raises:
        WeightsError: the file holds no image blocks.
        SpecMismatchError: a place of the network gets no block, a block has no place, or a shape does not fit.
    """
    blocks = image_blocks(tensors, where=where)
    places = dict(_places(net))
    require_same_places(places, blocks, where)
    for name, (attentions, number) in places.items():
        text: Any = attentions[number]
        attentions[number] = BlockPair(text, _image_block(text, blocks[name], f"{where}: {name}"))
    merged = sum(map(len, blocks.values()))
    return MergeReport(merged=merged, unused=len(tensors) - merged)


def image_blocks(tensors: Mapping[str, Tensor], *, where: str) -> dict[str, dict[str, Tensor]]:
    """Return the image blocks of a file: name of the text transformer that each follows → its own tensors.

    Raises:
        WeightsError: the file, named by `where`, holds none.
    """
    blocks: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if MARK in name:
            place, _, rest = name.partition(MARK)
            number, _, inner = rest.partition(".")
            blocks.setdefault(f"{place}.attentions.{number}", {})[inner] = tensor
    if not blocks:
        raise WeightsError(
            f"{where}: expected SeeSR's image blocks, holds no tensor with {MARK!r} in its name"
        )
    return blocks


def add_empty_image_blocks_(net: nn.Module, *, width: int) -> None:
    """Give a diffusers UNet or ControlNet image blocks without numbers, on the meta device, for tokens of `width`."""
    for attentions, number in dict(_places(net)).values():
        text: Any = attentions[number]
        attentions[number] = BlockPair(text, _empty_block(text, width))


def add_fresh_image_blocks_(net: nn.Module, *, width: int) -> None:
    """Give a diffusers UNet or ControlNet image blocks to be trained, in place, for tokens of `width`.

    Each starts as a copy of the text transformer before it and ends in zeros, so that the network says what it said
    (the zero convolutions of Zhang et al., arXiv 2302.05543, section 3.1). What reads the tokens is as wide as they
    are, not as the text, and starts with random numbers of torch's generator. float32, on the CPU.
    """
    for attentions, number in dict(_places(net)).values():
        text: Any = attentions[number]
        block = _empty_block(text, width).to_empty(device="cpu")
        own = text.state_dict()
        with torch.no_grad():
            for name, weight in block.named_parameters():
                if name.startswith("proj_out."):
                    weight.zero_()
                elif own[name].shape == weight.shape:
                    weight.copy_(own[name])
                else:
                    weight.normal_(std=width**-0.5)
        attentions[number] = BlockPair(text, block)


def published_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's tensors as SeeSR's files call them: `attentions` and `image_attentions` side by side."""
    return {
        name.replace(".attentions.", MARK).replace(".image.", ".", 1)
        if ".image." in name
        else name.replace(".text.", ".", 1): tensor
        for name, tensor in tensors.items()
    }


def token_width(tensors: Mapping[str, Tensor]) -> int | None:
    """Return how wide the tokens are that a file's image blocks read; None where it holds none."""
    return next(
        (t.shape[1] for name, t in tensors.items() if MARK in name and name.endswith("attn2.to_k.weight")),
        None,
    )


def _places(net: nn.Module) -> Iterator[tuple[str, tuple[Any, int]]]:
    """Yield where text transformers stand: their full names, and the list and number that hold them."""
    for name, module in net.named_modules():
        if name.endswith(".attentions") and isinstance(module, nn.ModuleList):
            for number, block in enumerate(module):
                if type(block).__name__ == "Transformer2DModel":
                    yield f"{name}.{number}", (module, number)


def require_same_places(places: Mapping[str, Any], blocks: Mapping[str, Any], where: str) -> None:
    """Raise SpecMismatchError unless every text transformer gets an image block, and every block has a place."""
    missing, too_many = [sorted(a.keys() - b.keys()) for a, b in ((places, blocks), (blocks, places))]
    if missing or too_many:
        raise SpecMismatchError(
            f"{where}: expected one image block for every transformer of the base model; "
            f"without one: {listed(missing)}; without a place: {listed(too_many)}; "
            "give SeeSR's files and a Stable Diffusion 2 base"
        )


def _image_block(text: Any, tensors: Mapping[str, Tensor], where: str) -> nn.Module:
    """Return a transformer like `text` whose cross-attention is as wide as the file says."""
    block = _empty_block(text, token_width({f"{MARK}{n}": t for n, t in tensors.items()}))
    wants = {name: tuple(t.shape) for name, t in block.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if wants != found:
        wrong = sorted(n for n in wants.keys() | found.keys() if wants.get(n) != found.get(n))
        raise SpecMismatchError(
            f"{where}: {len(wrong)} tensors of the image block do not fit, the first is {wrong[0]}: expected "
            f"{wants.get(wrong[0], 'none')}, got {found.get(wrong[0], 'none')}"
        )
    block.load_state_dict({name: t.float() for name, t in tensors.items()}, assign=True)
    return block.eval().requires_grad_(False)


def _empty_block(text: Any, width: int | None) -> nn.Module:
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    like = text.config
    with torch.device("meta"):
        return Transformer2DModel(
            num_attention_heads=like.num_attention_heads,
            attention_head_dim=like.attention_head_dim,
            in_channels=like.in_channels,
            num_layers=like.num_layers,
            cross_attention_dim=width,
            norm_num_groups=like.norm_num_groups,
            use_linear_projection=like.use_linear_projection,
        )
