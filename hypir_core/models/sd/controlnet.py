"""ControlNets for Stable Diffusion 2: SeeSR's own, with image blocks, and plain ones for edges, depth and the like.

Zhang, Rao and Agrawala, "Adding Conditional Control to Text-to-Image Diffusion Models", arXiv 2302.05543, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MissingDependencyError, SpecMismatchError, WeightsError
from ...weights.tensors import read_tensors
from .backbone import config_beside, fill
from .image_blocks import MARK, MergeReport, add_image_blocks_
from .sd21 import SD21_UNET

WANTED = "a ControlNet for Stable Diffusion 2 with diffusers' names (diffusion_pytorch_model.safetensors)"

NAMES = "controlnet_cond_embedding.", "controlnet_down_blocks."
"""What the tensors of a ControlNet are called, besides those of half a UNet."""

ORIGINAL_NAMES = "control_model."
"""What they are called in checkpoints of the original release."""

_OF_UNET = (
    *("act_fn", "attention_head_dim", "block_out_channels", "cross_attention_dim", "down_block_types"),
    *("downsample_padding", "flip_sin_to_cos", "freq_shift", "in_channels", "layers_per_block"),
    *("mid_block_scale_factor", "norm_eps", "norm_num_groups", "transformer_layers_per_block"),
    "use_linear_projection",
)
"""Settings that a ControlNet shares with the UNet that it belongs to."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlNet:
    """One ControlNet in memory, on the CPU, frozen."""

    net: nn.Module
    """`diffusers.ControlNetModel`."""
    image_blocks: MergeReport | None
    """SeeSR's, if the file has them: then the net takes `image_blocks.Seen`, else the text alone."""

    def residuals(
        self,
        x: Tensor,
        timestep: float | Tensor,
        words: Tensor,
        tokens: Tensor | None,
        hint_01: Tensor,
        *,
        strength: float,
    ) -> list[Tensor]:
        """Return what is added to the UNet's skips, and last to its middle, times `strength`.

        Shapes: latent [n 4 h w], words [n m width], tokens [n m width] or None, hint [n 3 8h 8w] in [0,1]; the format
        of all is the net's.
        """
        seen = words if self.image_blocks is None else (words, tokens)
        net: Any = self.net
        down, middle = net(
            x, timestep, seen, controlnet_cond=hint_01, conditioning_scale=strength, return_dict=False
        )
        return [*down, middle]


def added(parts: Sequence[Sequence[Tensor]]) -> list[Tensor] | None:
    """Return the sum of several ControlNets' residuals, place by place; None where there are none."""
    if not parts:
        return None
    total = list(parts[0])
    for others in parts[1:]:
        total = [one + other for one, other in zip(total, others, strict=True)]
    return total


def load_controlnet(path: Path, *, dtype: torch.dtype = torch.float32) -> ControlNet:
    """Load a ControlNet file; its ``config.json`` is read where it lies beside it.

    Args:
        path: a weight file with diffusers' names.
        dtype: format of the weights. Fold timesteps in float32, then cast.

    Raises:
        WeightsError: the file cannot be read, or is no ControlNet.
        SpecMismatchError: it is one for another family.
        MissingDependencyError: diffusers is not installed.
    """
    file = read_tensors(path)
    if not all(any(name.startswith(start) for name in file.tensors) for start in NAMES):
        original = any(name.startswith(ORIGINAL_NAMES) for name in file.tensors)
        got = (
            "one with the names of the original release" if original else f"{len(file.tensors)} other tensors"
        )
        raise WeightsError(f"{path}: expected {WANTED}, got {got}")
    plain = {name: tensor for name, tensor in file.tensors.items() if MARK not in name}
    width = plain["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    given = config_beside(path) if path.with_name("config.json").is_file() else {}
    if not given and width != SD21_UNET["cross_attention_dim"]:
        raise SpecMismatchError(f"{path}: expected {WANTED}, got one whose cross-attention is {width} wide")
    net = fill(empty_controlnet(given or SD21_UNET), plain, dtype, path, wanted=WANTED)
    blocks = None
    if len(plain) < len(file.tensors):
        blocks = add_image_blocks_(net, file.tensors, where=str(path))
    return ControlNet(net=net, image_blocks=blocks)


def fresh_controlnet(unet: nn.Module) -> nn.Module:
    """Return a `diffusers.ControlNetModel` to be trained for a UNet: copies of its first half, which add nothing yet.

    Args:
        unet: `diffusers.UNet2DConditionModel` without image blocks.

    float32; what reads the control picture starts with random numbers of torch's generator.
    """
    from diffusers.models.controlnets.controlnet import ControlNetModel

    plain: Any = unet
    return ControlNetModel.from_unet(plain)


def empty_controlnet(config: Mapping[str, Any]) -> nn.Module:
    """Return a `diffusers.ControlNetModel` without numbers, on the meta device.

    Args:
        config: of a ControlNet, or of the UNet that it shall belong to.
    """
    try:
        from diffusers.models.controlnets.controlnet import ControlNetModel
    except ImportError as err:
        raise MissingDependencyError("diffusers", "diffusion", "a ControlNet") from err
    own = ("conditioning_embedding_out_channels", "conditioning_channels", "global_pool_conditions")
    settings = {name: config[name] for name in (*_OF_UNET, *own) if config.get(name) is not None}
    with torch.device("meta"):
        return ControlNetModel(**settings)
