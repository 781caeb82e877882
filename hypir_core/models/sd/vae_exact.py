"""A VAE on a picture of any size, exactly as if it went through in one piece.

Tiled by its input, a VAE normalises every tile by the tile's own statistics: brightness and contrast drift
from tile to tile. Here the picture is cut inside the network instead. Every layer runs over the whole feature
map in bands of rows that overlap by the reach of its convolution, and every group norm takes its statistics
from the whole map, so cutting changes nothing but the rounding. The mid-block attention lets every cell see
every other, as untiled: queries go in chunks, which is exact too, but its work grows with the square of the
area: a quarter of the convolutions' at 2048² px, as much as theirs at 4096².

Whole maps are kept: for the decoder, at the finest level, four times the channels of the first level per
pixel, 1 kB in bfloat16. They may lie on the CPU while bands are computed on another device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import SpecMismatchError

BAND_BYTES = 1 << 28
"""Working memory of one band, and of one chunk of attention."""


def exact_encode(vae: nn.Module, image_pm1: Tensor, *, store: torch.device) -> Tensor:
    """Return the posterior mean, not scaled: [n 3 h w] in [-1,1] → [n c h/8 w/8].

    Args:
        vae: `diffusers.AutoencoderKL`; computes where it lies, in its own format.
        image_pm1: sides divide by 8.
        store: where whole feature maps lie.

    Raises:
        SpecMismatchError: the VAE is built of other layers than Stable Diffusion's.
    """
    v: Any = vae
    net, bands = v.encoder, _bands_for(vae, store)
    x = bands.conv(image_pm1.to(store, bands.dtype), net.conv_in)
    for block in net.down_blocks:
        x = _resnets(bands, x, block.resnets)
        for sampler in block.downsamplers or ():
            _require(sampler.padding == 0 and sampler.norm is None, "another kind of downsampling")
            x = bands.conv(x, sampler.conv, _Way.down)
    x = _middle(bands, x, net.mid_block)
    x = bands.conv(x, net.conv_out, before=bands.activation(x, net.conv_norm_out))
    return bands.conv(x, v.quant_conv).to(bands.device).chunk(2, dim=1)[0]


def exact_decode(vae: nn.Module, latent: Tensor, *, store: torch.device) -> Tensor:
    """Return the picture: [n c h w], not scaled → [n 3 8h 8w] in [-1,1]; as `exact_encode` otherwise."""
    v: Any = vae
    net, bands = v.decoder, _bands_for(vae, store)
    x = bands.conv(latent.to(store, bands.dtype), v.post_quant_conv)
    x = _middle(bands, bands.conv(x, net.conv_in), net.mid_block)
    for block in net.up_blocks:
        x = _resnets(bands, x, block.resnets)
        for sampler in block.upsamplers or ():
            _require(sampler.norm is None, "another kind of upsampling")
            x = bands.conv(x, sampler.conv, _Way.up)
    return bands.conv(x, net.conv_out, before=bands.activation(x, net.conv_norm_out)).to(bands.device)


def map_bytes_per_px(vae: nn.Module) -> int:
    """Return the size of the whole maps that are alive at once at the finest level, per picture pixel."""
    v: Any = vae
    return 2 * v.config.block_out_channels[1] * v.dtype.itemsize


class _Way(Enum):
    """How a convolution changes the size of a map."""

    same = 1
    down = 2
    """Stride 2 with one line of zeros to the right and below."""
    up = 3
    """Each cell repeated 2×2, then a convolution."""


Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bands:
    """Layer by layer over whole maps: read a band from `store`, compute it on `device`, put it back."""

    device: torch.device
    dtype: torch.dtype
    store: torch.device

    def conv(
        self,
        x: Tensor,
        conv: Any,
        way: _Way = _Way.same,
        *,
        before: Activation | None = None,
        add_to: Tensor | None = None,
    ) -> Tensor:
        """Convolve a map, 3×3 or 1×1; `before` is applied to it first; into a new map or added to one."""
        n, _, h, w = x.shape
        reach = conv.kernel_size[0] // 2
        _require(conv.kernel_size in {(1, 1), (3, 3)} and conv.groups == 1, "another kind of convolution")
        height, width = {_Way.same: (h, w), _Way.down: (h // 2, w // 2), _Way.up: (2 * h, 2 * w)}[way]
        out = add_to
        if out is None:
            out = torch.empty(n, conv.out_channels, height, width, dtype=self.dtype, device=self.store)
        channels = max(conv.in_channels, conv.out_channels)
        for top, bottom in self.rows(height, n * width * channels):
            band = _rows_for(x, top, bottom, way, reach, lambda rows: self._prepare(rows, before))
            made = nn.functional.conv2d(band, conv.weight, conv.bias, stride=2 if way is _Way.down else 1)
            target = out[:, :, top:bottom]
            if add_to is None:
                target.copy_(made)
            else:
                target.add_(made.to(self.store))
        return out

    def activation(self, x: Tensor, norm: Any) -> Activation:
        """Return σ(group norm) of a map, with statistics of the whole map."""
        normalise = self.group_norm(x, norm)
        return lambda rows: nn.functional.silu(normalise(rows))

    def group_norm(self, x: Tensor, norm: Any) -> Activation:
        """Return a function of a band that normalises it by the statistics of the whole map.

        Bands are joined by the parallel formula of Chan, Golub and LeVeque ("Algorithms for computing the
        sample variance", The American Statistician 37(3), 1983, eq. 2.1), in float64.
        """
        n, c, h, w = x.shape
        count, mean, spread = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for top, bottom in self.rows(h, n * c * w):
            grouped = x[:, :, top:bottom].to(self.device).float().reshape(n, norm.num_groups, -1)
            var, band_mean = torch.var_mean(grouped, dim=-1, correction=0)
            cells, shift = grouped.shape[-1], band_mean.double().cpu() - mean
            total = count + cells
            spread = spread + var.double().cpu() * cells + shift**2 * (count * cells / total)
            mean, count = mean + shift * (cells / total), total
        scale = (spread / count + norm.eps).rsqrt().repeat_interleave(c // norm.num_groups, 1)
        gain = scale * norm.weight.double().cpu()
        offset = norm.bias.double().cpu() - mean.repeat_interleave(c // norm.num_groups, 1) * gain
        gain, offset = (t.float().to(self.device)[:, :, None, None] for t in (gain, offset))
        return lambda rows: (rows.float() * gain + offset).to(self.dtype)

    def rows(self, height: int, cells_per_row: int) -> Iterator[tuple[int, int]]:
        """Cut a map into bands that take about `BAND_BYTES`: five copies of it in float32."""
        band = max(8, BAND_BYTES // (20 * cells_per_row))
        for top in range(0, height, band):
            yield top, min(top + band, height)

    def _prepare(self, rows: Tensor, before: Activation | None) -> Tensor:
        rows = rows.to(self.device, self.dtype)
        return before(rows) if before else rows


def _rows_for(x: Tensor, top: int, bottom: int, way: _Way, reach: int, prepare: Activation) -> Tensor:
    """Return what a convolution needs for its result's rows [top, bottom), zeros around the map included."""
    h = x.shape[2]
    if way is _Way.down:
        last = min(2 * bottom + 1, h)
        return nn.functional.pad(prepare(x[:, :, 2 * top : last]), (0, 1, 0, 2 * bottom + 1 - last))
    if way is _Way.same:
        first, last = max(top - reach, 0), min(bottom + reach, h)
        rows = prepare(x[:, :, first:last])
    else:
        first, last = max(top - reach, 0), min(bottom + reach, 2 * h)
        low = first // 2
        rows = prepare(x[:, :, low : -(-last // 2)])
        rows = rows.repeat_interleave(2, -1).repeat_interleave(2, -2)[:, :, first - 2 * low : last - 2 * low]
    above, below = first - (top - reach), bottom + reach - last
    return nn.functional.pad(rows, (reach, reach, above, below))


def _resnets(bands: _Bands, x: Tensor, resnets: Any) -> Tensor:
    for r in resnets:
        plain = r.time_emb_proj is None and r.upsample is None and r.downsample is None
        _require(plain and r.output_scale_factor == 1, "another kind of resnet")
        h = bands.conv(x, r.conv1, before=bands.activation(x, r.norm1))
        shortcut = bands.conv(x, r.conv_shortcut) if r.conv_shortcut is not None else x
        x = bands.conv(h, r.conv2, before=bands.activation(h, r.norm2), add_to=shortcut)
    return x


def _middle(bands: _Bands, x: Tensor, block: Any) -> Tensor:
    x = _resnets(bands, x, block.resnets[:1])
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = _resnets(bands, _attend_(bands, x, attention), [resnet])
    return x


def _attend_(bands: _Bands, x: Tensor, attention: Any) -> Tensor:
    """Add the attention of all cells over all cells, in place."""
    a = attention
    _require(a.heads == 1 and a.residual_connection and a.rescale_output_factor == 1, "another attention")
    n, c, h, w = x.shape
    normalise = bands.group_norm(x, a.group_norm)
    tokens = normalise(x.to(bands.device)).flatten(2).transpose(1, 2)
    key, value = a.to_k(tokens), a.to_v(tokens)
    flat = x.flatten(2)
    chunk = max(64, BAND_BYTES // (8 * n * h * w))
    for first in range(0, h * w, chunk):
        query = a.to_q(tokens[:, first : first + chunk])
        seen = nn.functional.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        flat[:, :, first : first + chunk] += a.to_out[0](seen).transpose(1, 2).to(bands.store)
    return flat.reshape(n, c, h, w)


def _bands_for(vae: nn.Module, store: torch.device) -> _Bands:
    weight = next(vae.parameters())
    return _Bands(device=weight.device, dtype=weight.dtype, store=store)


def _require(fits: bool, what: str) -> None:
    if not fits:
        raise SpecMismatchError(
            f"the exact VAE knows Stable Diffusion's VAE only, got {what}; leave out vae_exact"
        )
