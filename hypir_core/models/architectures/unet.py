"""`unet`: the U-Net of diffusers for pixels, told a timestep; for denoising diffusion, and for regression in one step.

Ho et al., arXiv 2006.11239, appendix B; the blocks are `diffusers.UNet2DModel`. Around it: cells of `fold`×`fold`
pixels become channels (Shi et al., arXiv 1609.05158, eq. 4), which makes a small network quick, and pictures of any
size are mirrored up to the network's grain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import ConfigError, MissingDependencyError
from .nd import shuffle, unshuffle
from .sizes import Sizes, at_least_one


@dataclass(frozen=True, kw_only=True)
class UnetOptions(Sizes):
    """Size of the network."""

    in_channels: int = 1
    """Channels that it takes: those of the noised picture, behind them those of a condition."""
    scale: int | tuple[int, ...] = 1
    """A U-Net keeps the size."""
    channels: tuple[int, ...] = (64, 128, 256, 512)
    """Of the feature maps, level by level, the finest first; each level has half the side of the one before."""
    layers: int = 2
    """Residual blocks of a level on the way down; one more on the way up."""
    attention: tuple[int, ...] = ()
    """Levels with attention, counted from the finest as 0. The size of the picture has no say in it."""
    middle_attention: bool = False
    """Whether the coarsest feature map attends to itself once more."""
    head_channels: int = 64
    """Channels of an attention head."""
    fold: int = 1
    """Side of the cells of pixels that become channels: 1 works on pixels, 2 is four times as quick."""
    groups: int = 32
    """Of the group norms; every number in `channels` divides by it."""
    dropout: float = 0.0
    """0 to 1, in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = at_least_one(self, "layers", "fold", "groups", "head_channels")
        if set(self.scales) != {1} or self.dims != 2:
            problems.append(
                "a unet keeps the size of pictures of 2 axes: scale must be 1 and dims 2, "
                f"got {self.scale} and {self.dims}"
            )
        if not self.channels:
            problems.append("channels must name one level or more, got none")
        problems += [
            f"channels: {number} does not divide by the {self.groups} groups; change groups, or the number"
            for number in self.channels
            if self.groups >= 1 and (number < 1 or number % self.groups)
        ]
        levels = {level for level in range(len(self.channels)) if level in self.attention}
        if len(levels) != len(self.attention):
            problems.append(
                f"attention: levels are counted from 0 to {len(self.channels) - 1}, each once, "
                f"got {list(self.attention)}"
            )
        attending = {self.channels[level] for level in levels}
        attending |= set(self.channels[-1:]) if self.middle_attention else set()
        problems += [
            f"head_channels: {number} channels that attend do not divide by {self.head_channels}"
            for number in sorted(attending)
            if self.head_channels >= 1 and number % self.head_channels
        ]
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout must be 0 or more and below 1, got {self.dropout:g}")
        if problems:
            raise ConfigError(problems)

    @property
    def grain_px(self) -> int:
        """Sides of pictures are mirrored up to a multiple of it."""
        return self.fold * 2 ** (len(self.channels) - 1)


class Unet(nn.Module):
    """x and a timestep → a prediction.

    Shapes: [b in_channels h w] → [b out_channels h w], any size, in network units; runs in its weights' format.
    """

    Options = UnetOptions

    def __init__(self, options: UnetOptions):
        """Make it with random weights.

        Raises:
            MissingDependencyError: diffusers is not installed.
        """
        super().__init__()
        self.options = options
        self.net: nn.Module = _unet2d(options)

    @property
    def fold(self) -> int:
        """Sides of tiles divide by it, so that tiles and picture are cut alike."""
        return self.options.grain_px

    @property
    def maps_per_cell(self) -> int:
        """Numbers of the largest feature map, for every pixel, with the shortcut that lies beside it."""
        o = self.options
        return max(1, 2 * o.channels[0] // o.fold**2)

    @property
    def receptive_radius(self) -> int:
        """Pixels that a result depends on to each side through convolutions; norms and attention see all."""
        o, reach, deepest = self.options, 0, len(self.options.channels) - 1
        for level in range(len(o.channels)):
            cell = o.fold * 2**level
            blocks = 2 * o.layers + 1 + (2 if level == deepest else 0)
            reach += cell * (2 * blocks + (2 if level < deepest else 0))
        return reach + 2 * o.fold

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Return the prediction.

        Args:
            x: the noised picture, behind it the condition (`physics.condition`), zeros for none.
            t: timestep, one for all or [b]; without it 0, as a generator that regresses in one step is asked.
        """
        dtype, (height, width), grain = self._dtype, x.shape[-2:], self.options.grain_px
        wide = mirrored(mirrored(x.to(dtype), -2, -height % grain), -1, -width % grain)
        folded = unshuffle(wide, (self.options.fold,) * 2)
        told = torch.as_tensor(t, device=x.device, dtype=torch.float32).expand(x.shape[0])
        made = shuffle(self.net(folded, told, return_dict=False)[0], (self.options.fold,) * 2)
        return made[..., :height, :width].to(x.dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def mirrored(x: Tensor, axis: int, more: int) -> Tensor:
    """Continue a tensor at the end of an axis by `more` cells: mirrored, the edge not repeated; one cell is repeated."""
    if not more:
        return x
    length = x.shape[axis]
    period = max(1, 2 * length - 2)
    place = torch.arange(length + more, device=x.device) % period
    return x.index_select(axis, torch.where(place < length, place, period - place))


def _unet2d(o: UnetOptions) -> nn.Module:
    try:
        from diffusers.models.unets.unet_2d import UNet2DModel
    except ImportError as err:
        raise MissingDependencyError("diffusers", "diffusion", "a unet") from err
    attends = [level in o.attention for level in range(len(o.channels))]
    cells = o.fold**2
    return UNet2DModel(
        in_channels=o.in_channels * cells,
        out_channels=o.makes * cells,
        block_out_channels=o.channels,
        layers_per_block=o.layers,
        down_block_types=tuple("AttnDownBlock2D" if yes else "DownBlock2D" for yes in attends),
        up_block_types=tuple("AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attends)),
        add_attention=o.middle_attention,
        attention_head_dim=o.head_channels,
        norm_num_groups=o.groups,
        dropout=o.dropout,
    )
