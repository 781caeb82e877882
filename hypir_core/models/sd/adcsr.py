"""AdcSR: Stable Diffusion 2.1 cut down to a network that enlarges four times in one pass.

Chen et al., "Adversarial Diffusion Compression for Real-World Image Super-Resolution", arXiv 2411.13383. The picture is
folded by 2 in place of an encoder; the UNet has three quarters of its channels, no timestep, no text and no
cross-attention; what it makes goes straight into the features of the light decoder (`light_decoder`), whose middle block
was trained along with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ...errors import SpecMismatchError
from .backbone import fill
from .light_decoder import decoder_tensors, light_decoder

FOLD = 2
"""Pixels of a side that become channels."""

SCALE = 4

HEAD_CHANNELS = 48
"""Of one head of attention: three quarters of Stable Diffusion's 64."""

LEVEL_RESNETS = 2
"""In each level of the UNet on the way down; one more on the way up."""

GROUP_COUNTS = (32, 24, 16, 12, 8, 6, 4, 2, 1)
"""A group norm has the first of these that divides its channels."""

WANTED = "the network of AdcSR (net_params_200.pkl)"
WANTED_DECODER = "the light decoder of AdcSR (halfDecoder.ckpt)"

UNET, MIDDLE = "body.1.", "body.2."
"""Where a file keeps the UNet and the decoder's middle block."""

TWICE = "body."
"""Below the UNet, everything a second time."""


def _groups(channels: int) -> int:
    return next(count for count in GROUP_COUNTS if channels % count == 0)


def _resnet(inside: int, outside: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=inside,
        out_channels=outside,
        temb_channels=None,  # type: ignore[arg-type]  # as diffusers' own Decoder makes it
        groups=_groups(inside),
        groups_out=_groups(outside),
        eps=1e-5,
    )


def _attention(channels: int) -> Transformer2DModel:
    return Transformer2DModel(
        num_attention_heads=channels // HEAD_CHANNELS,
        attention_head_dim=HEAD_CHANNELS,
        in_channels=channels,
        norm_num_groups=_groups(channels),
        use_linear_projection=True,
    )


class _Level(nn.Module):
    """Residual blocks, each with self-attention behind it or none, and a change of resolution."""

    def __init__(self, widths: list[tuple[int, int]], *, attend: bool):
        super().__init__()
        self.resnets = nn.ModuleList(_resnet(inside, outside) for inside, outside in widths)
        self.attentions = nn.ModuleList(_attention(outside) for _, outside in widths) if attend else None

    def block(self, i: int, x: Tensor) -> Tensor:
        """Run one residual block, and what is behind it."""
        x = self.resnets[i](x, None)
        return x if self.attentions is None else self.attentions[i](x, return_dict=False)[0]


class _Down(_Level):
    def __init__(self, inside: int, outside: int, *, attend: bool, shrink: bool):
        super().__init__(
            [(inside if i == 0 else outside, outside) for i in range(LEVEL_RESNETS)], attend=attend
        )
        self.downsamplers = (
            nn.ModuleList([Downsample2D(outside, use_conv=True, name="op")]) if shrink else None
        )

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.block(i, x)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x


class _Up(_Level):
    def __init__(self, inside: int, outside: int, skips: list[int], *, attend: bool, enlarge: bool):
        super().__init__(
            [((inside if i == 0 else outside) + skip, outside) for i, skip in enumerate(skips)], attend=attend
        )
        self.upsamplers = nn.ModuleList([Upsample2D(outside, use_conv=True)]) if enlarge else None

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.block(i, torch.cat([x, skips.pop()], dim=1))
        return x if self.upsamplers is None else self.upsamplers[0](x)


class _Middle(_Level):
    def __init__(self, width: int):
        super().__init__([(width, width)] * 2, attend=False)
        self.attentions = nn.ModuleList([_attention(width)])

    def forward(self, x: Tensor) -> Tensor:
        assert self.attentions is not None
        x = self.attentions[0](self.resnets[0](x, None), return_dict=False)[0]
        return self.resnets[1](x, None)


class Trunk(nn.Module):
    """The UNet: [n 12 h w] → [n features h w]; sides divide by 2 for every level but the last."""

    def __init__(self, inside: int, widths: tuple[int, ...], outside: int):
        super().__init__()
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(inside, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _Down(widths[max(i - 1, 0)], width, attend=i < last, shrink=i < last)
            for i, width in enumerate(widths)
        )
        self.mid_block = _Middle(widths[-1])
        made = [widths[0]]
        for i, width in enumerate(widths):
            made += [width] * (LEVEL_RESNETS + (i < last))
        ups = []
        below = widths[-1]
        for i, width in enumerate(reversed(widths)):
            skips = [made.pop() for _ in range(LEVEL_RESNETS + 1)]
            ups.append(_Up(below, width, skips, attend=i > 0, enlarge=i < last))
            below = width
        self.up_blocks = nn.ModuleList(ups)
        self.conv_norm_out = nn.GroupNorm(_groups(widths[0]), widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], outside, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = self.conv_in(x)
        skips = [x]
        for down in self.down_blocks:
            x = down(x, skips)
        x = self.mid_block(x)
        for up in self.up_blocks:
            x = up(x, skips)
        return self.conv_out(nn.functional.silu(self.conv_norm_out(x)))


class AdcSR(nn.Module):
    """[n 3 h w] in [0,1] → [n 3 4h 4w] in about [0,1], float32 on both sides; sides divide by `multiple`."""

    def __init__(self, trunk: Trunk, middle: nn.Module, decoder: Any):
        """`decoder` gives its levels and its end; its own beginning is not used."""
        super().__init__()
        self.trunk, self.middle = trunk, middle
        self.up_blocks = decoder.up_blocks
        self.conv_norm_out, self.conv_out = decoder.conv_norm_out, decoder.conv_out

    @property
    def multiple(self) -> int:
        """What sides divide by."""
        return FOLD * 2 ** (len(self.trunk.down_blocks) - 1)

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest feature map, for every input pixel: the decoder's last level has it."""
        return SCALE**2 * int(self.up_blocks[-1].resnets[0].conv1.in_channels)

    def forward(self, image_01: Tensor) -> Tensor:
        """Enlarge a batch of pictures."""
        x = nn.functional.pixel_unshuffle(image_01.to(self.conv_out.weight.dtype) * 2 - 1, FOLD)
        x = self.middle(self.trunk(x))
        for block in self.up_blocks:
            x = block(x)
        x = self.conv_out(nn.functional.silu(self.conv_norm_out(x)))
        return x.float() / 2 + 0.5


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    folded: int
    widths: tuple[int, ...]
    features: int


def adcsr(
    tensors: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    where: Path,
    decoder_where: Path,
    dtype: torch.dtype = torch.float32,
) -> AdcSR:
    """Build the network that the tensors of both files fit, frozen.

    Args:
        tensors: of the file with the network, without the prefix ``module.``.
        decoder: of the file with the light decoder.
        where: names the first file in errors.
        decoder_where: names the second.
        dtype: number format it runs in.

    Raises:
        SpecMismatchError: one of them is another network's.
    """
    trunk = {
        name.removeprefix(UNET): tensor
        for name, tensor in tensors.items()
        if name.startswith(UNET) and not name.startswith(UNET + TWICE)
    }
    middle = {name.removeprefix(MIDDLE): t for name, t in tensors.items() if name.startswith(MIDDLE)}
    sizes = _sizes(trunk, where)
    with torch.device("meta"):
        empty: Any = Trunk(sizes.folded, sizes.widths, sizes.features)
    inside = decoder_tensors(decoder, decoder_where)
    if inside is None:
        raise SpecMismatchError(
            f"{decoder_where}: expected {WANTED_DECODER}, got a file without a decoder; give the right one"
        )
    light, widths = light_decoder(inside, decoder_where)
    ends: Any = light
    if widths[-1] != sizes.features:
        raise SpecMismatchError(
            f"{decoder_where}: expected a decoder whose coarsest level has {sizes.features} channels, as {where.name} "
            f"makes them, got {widths[-1]}; use two files that belong together"
        )
    filled: Any = fill(empty, trunk, torch.float32, where, wanted=WANTED)
    return AdcSR(
        filled,
        fill(ends.mid_block, middle, torch.float32, where, wanted=WANTED),
        light,
    ).to(dtype)


def is_adcsr(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether the tensors of a file are those of AdcSR's network."""
    return f"{UNET}conv_in.weight" in tensors and f"{MIDDLE}resnets.0.conv1.weight" in tensors


def _sizes(trunk: Mapping[str, Tensor], where: Path) -> _Sizes:
    widths = []
    while (key := f"down_blocks.{len(widths)}.resnets.0.conv2.weight") in trunk:
        widths.append(trunk[key].shape[0])
    conv_in, conv_out = trunk.get("conv_in.weight"), trunk.get("conv_out.weight")
    if not widths or conv_in is None or conv_out is None or any(width % HEAD_CHANNELS for width in widths):
        raise SpecMismatchError(
            f"{where}: expected {WANTED}: tensors called {UNET}down_blocks… of widths that divide by {HEAD_CHANNELS}, "
            f"got {len(trunk)} such tensors with widths {tuple(widths)}; give the right file"
        )
    if conv_in.shape[1] != 3 * FOLD**2:
        raise SpecMismatchError(
            f"{where}: expected {WANTED}, which takes {3 * FOLD**2} channels, got {conv_in.shape[1]}; give the right "
            "file"
        )
    return _Sizes(folded=conv_in.shape[1], widths=tuple(widths), features=conv_out.shape[0])
