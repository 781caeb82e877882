"""The codec, denoiser and conditioner of a Stable Diffusion backbone, made of diffusers modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from ...device import free_memory_bytes
from ...diffusion.samplers.base import Step
from ...models.layers.compiled import compile_blocks_
from ...models.layers.cpu_attention import use_cpu_attention_
from ...models.layers.fast_layers import use_fast_layers_
from ...models.layers.shared_attention import SharedAttention, diffusers_sites
from ...models.layers.shared_layers import SharedLayers
from ...models.layers.shared_norms import SharedNorms
from ...models.sd.backbone import Backbone
from ...models.sd.prompt import encode_prompt, tokenize, truncation_note
from ...models.sd.tiny_decoder import VAE_NUMBERS, TinyDecoder
from ...models.sd.vae_exact import exact_decode, exact_encode, map_bytes_per_px
from ...request import Request
from ...residency import send_home
from .parts import Codec, Condition, Conditioner, Denoiser, Placing
from .sizing import Placed

PROMPTS_KEPT = 8
"""How many prompts' conditions are remembered; 0.3 MB each."""

LATENT_PX = 8
"""Output pixels per latent cell."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Networks:
    """What a backbone gives to a diffusion engine."""

    codec: Codec
    denoiser: Denoiser
    conditioner: Conditioner


def diffusers_networks(
    backbone: Backbone,
    *,
    dtype: torch.dtype,
    device: torch.device,
    exact_vae: bool = False,
    alike: bool = True,
    tiny_decoder: TinyDecoder | None = None,
    passes: Sequence[tuple[float, nn.Module]] = (),
    compiled: bool = False,
) -> Networks:
    """Wrap a backbone whose UNet has its LoRA merged and its timestep folded (`models.sd.fold`).

    UNet and VAE are cast to `dtype`, in the memory layout that convolutions like on `device`, and go to a
    device when a stage places them. The text encoder stays on the CPU in float32: it runs once per prompt.
    With `exact_vae`, encode and decode want whole canvases (`models.sd.vae_exact`). Without `alike`, every
    tile is treated by itself. A `tiny_decoder` decodes in the VAE's place and goes where the VAE goes. The prediction
    is the weighted sum of `passes`, (weight, UNet) each; without any, the backbone's UNet predicts alone. `compiled`
    UNets go through torch.compile, block by block.
    """
    for_device = partial(ready_for, dtype=dtype, device=device, compiled=compiled)
    weighed = [(weight, for_device(unet)) for weight, unet in passes or ((1.0, backbone.unet),)]
    unets = [unet for _, unet in weighed]
    layout = layout_for(dtype, device)

    def predict(z: Tensor, _step: Step, condition: Tensor, _guides: Mapping[str, Tensor]) -> Tensor:
        dtype = unets[0].dtype  # float32 for a while, where a tile is made again
        condition = condition.to(z.device, dtype).expand(z.shape[0], -1, -1)
        z = z.to(dtype, memory_format=layout)
        if len(weighed) == 1 and weighed[0][0] == 1:
            return unets[0](z, 0, condition, return_dict=False)[0]
        parts = [weight * unet(z, 0, condition, return_dict=False)[0].float() for weight, unet in weighed]
        return torch.stack(parts).sum(0)

    return Networks(
        codec=vae_codec(
            backbone, dtype=dtype, device=device, exact=exact_vae, alike=alike, tiny_decoder=tiny_decoder
        ),
        denoiser=Denoiser(
            predict=predict, placing=unet_placing(unets[0], dtype=dtype, alike=alike, others=unets[1:])
        ),
        conditioner=prompt_conditioner(backbone),
    )


def ready_for(net: nn.Module, *, dtype: torch.dtype, device: torch.device, compiled: bool = False) -> Any:
    """Return a network with the quickest layers for `device`, cast to `dtype`, in the layout that its convolutions like.

    Merge a LoRA and fold the timesteps before.
    """
    use_fast_layers_(net)
    if device.type == "cpu":
        use_cpu_attention_(net)
    if compiled:
        compile_blocks_(net)
    return _cast(net, dtype, layout_for(dtype, device))


def unet_placing(unet: Any, *, dtype: torch.dtype, alike: bool, others: Sequence[nn.Module] = ()) -> Placing:
    """Return where a UNet lies, together with the networks that work beside it.

    Args:
        unet: sets the working memory.
        dtype: of its activations.
        alike: treat all tiles of a picture alike.
        others: ControlNets.
    """
    nets = nn.ModuleList((unet, *others)) if others else unet
    return Placing(
        bytes_per_px=60.0 * unet.config.block_out_channels[0] * dtype.itemsize / LATENT_PX**2,
        place=partial(_place, nets),
        leave=partial(send_home, nets),
        shared=SharedLayers(norms=SharedNorms(nets)) if alike else None,
        in_float32=partial(in_float32, nets),
    )


def vae_codec(
    backbone: Backbone,
    *,
    dtype: torch.dtype,
    device: torch.device,
    exact: bool = False,
    alike: bool = True,
    tiny_decoder: TinyDecoder | None = None,
) -> Codec:
    """Return the codec of a backbone's VAE; see `diffusers_networks` for the arguments."""
    layout = layout_for(dtype, device)
    vae = ready_for(backbone.vae, dtype=dtype, device=device)
    tiny = None
    if tiny_decoder is not None:
        if tiny_decoder.after_quant:
            ready_for(tiny_decoder.net, dtype=dtype, device=device)
        tiny = _cast(_whole_tiny(tiny_decoder, backbone), dtype, layout)
    coders = vae if tiny is None else nn.ModuleList((vae, tiny))
    of_vae = None
    if alike and not exact:
        of_vae = SharedLayers(norms=SharedNorms(vae), attention=SharedAttention(diffusers_sites(vae)))
    wide, wider = vae.config.block_out_channels[:2]
    placing = partial(
        Placing,
        place=partial(_place, coders),
        leave=partial(send_home, coders),
        in_float32=partial(in_float32, coders),
    )
    encode, decode = (_whole_coders if exact else _tile_coders)(vae, layout)
    of_decoder = of_vae
    if tiny is not None and tiny_decoder is not None:
        decode = _tiny_coder(tiny, backbone.scaling_factor / tiny_decoder.scaling_factor, layout)
        of_decoder = None
        if of_vae is not None and tiny_decoder.after_quant:  # it has norms and attention, as the VAE's has
            of_decoder = SharedLayers(
                norms=SharedNorms(tiny), attention=SharedAttention(diffusers_sites(tiny))
            )
    return Codec(
        encode=encode,
        decode=decode,
        cell_px=LATENT_PX,
        scale=backbone.scaling_factor,
        # Measured on a CPU in full size and bfloat16 with freed memory kept (`allocator`): tiles of 768 px take
        # 2300 to 2800 bytes per pixel in the encoder, 2900 to 3700 in the decoder; whole runs up to 4400 of the
        # decoder's tile; one step alone 570.
        encoding=placing(bytes_per_px=11.0 * wide * dtype.itemsize, shared=of_vae),
        decoding=placing(
            bytes_per_px=(VAE_NUMBERS * wider if tiny_decoder is None else tiny_decoder.numbers_per_px)
            * dtype.itemsize,
            shared=of_decoder,
        ),
        whole=exact,
    )


Words = tuple[Tensor, tuple[str, ...]]
"""What a prompt became, [1 77 width], and what there is to say about it."""


def word_reader(backbone: Backbone) -> Callable[[str], Words]:
    """Return what reads a prompt; it remembers the last few."""

    @lru_cache(maxsize=PROMPTS_KEPT)
    def read(prompt: str) -> Words:
        tokens = tokenize(prompt, backbone.tokenizer, vocabulary=backbone.vocabulary)
        return encode_prompt(backbone.text_encoder, tokens.ids), truncation_note(tokens)

    return read


def prompt_conditioner(backbone: Backbone) -> Conditioner:
    """Return what tells the denoiser a request's prompt and nothing else."""
    read = word_reader(backbone)

    def of_picture(image_01: Tensor, placed: Placed, request: Request) -> Condition:
        del image_01, placed
        words, notes = read(request.prompt)
        return Condition(value=words, notes=notes)

    return of_picture


Coders = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _tile_coders(vae: Any, layout: torch.memory_format) -> Coders:
    def encode(image_01: Tensor) -> Tensor:
        return vae.encode((image_01 * 2 - 1).to(vae.dtype, memory_format=layout)).latent_dist.mean

    def decode(latent: Tensor) -> Tensor:
        return vae.decode(latent.to(vae.dtype, memory_format=layout), return_dict=False)[0].float() / 2 + 0.5

    return encode, decode


def _whole_coders(vae: Any, _layout: torch.memory_format) -> Coders:
    def encode(image_01: Tensor) -> Tensor:
        return exact_encode(vae, image_01 * 2 - 1, store=_store(vae, image_01.device, image_01[:, 0].numel()))

    def decode(latent: Tensor) -> Tensor:
        store = _store(vae, latent.device, latent[:, 0].numel() * LATENT_PX**2)
        return exact_decode(vae, latent, store=store).float() / 2 + 0.5

    return encode, decode


def _whole_tiny(tiny: TinyDecoder, backbone: Backbone) -> nn.Module:
    """Return a tiny decoder with what stands before it in the VAE, which stays the VAE's: both are placed together."""
    vae: Any = backbone.vae
    return nn.Sequential(vae.post_quant_conv, tiny.net) if tiny.after_quant else tiny.net


def _tiny_coder(net: nn.Module, scale: float, layout: torch.memory_format) -> Callable[[Tensor], Tensor]:
    def decode(latent: Tensor) -> Tensor:
        dtype = next(net.parameters()).dtype
        return net((latent * scale).to(dtype, memory_format=layout)).float() / 2 + 0.5

    return decode


@contextmanager
def in_float32(net: nn.Module) -> Iterator[None]:
    """Compute in float32 for a while. The weights keep what rounding they had."""
    dtype = next(net.parameters()).dtype
    nn.Module.to(net, dtype=torch.float32)
    try:
        yield
    finally:
        nn.Module.to(net, dtype=dtype)


def _store(vae: nn.Module, device: torch.device, area_px: int) -> torch.device:
    """Return where an exact VAE keeps its maps: beside the network where they fit easily, else on the CPU."""
    fits = 2 * area_px * map_bytes_per_px(vae) < free_memory_bytes(device)
    return device if fits else torch.device("cpu")


def layout_for(dtype: torch.dtype, device: torch.device) -> torch.memory_format:
    """Return the layout that convolutions like: measured, a tenth faster for bfloat16 on a CPU.

    Not for float32 on a CPU: there torch's group norm sums squares in this layout, which loses two digits.
    """
    fast = device.type == "cuda" or (device.type == "cpu" and dtype != torch.float32)
    return torch.channels_last if fast else torch.contiguous_format


# nn.Module.to, since the override in diffusers warns about every cast.
def _cast(net: nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> Any:
    return nn.Module.to(net, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks it


def _place(net: nn.Module, device: torch.device) -> None:
    nn.Module.to(net, device)
