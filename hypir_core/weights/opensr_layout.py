"""What a generator of opensr-srgan is, read off the names and shapes of its tensors.

Range and `res_scale` leave no trace in them: those are in the settings that it was trained with (`opensr_config`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

GENERATOR = "generator."
"""Prefix of the generator's tensors in a training checkpoint, next to the discriminator's."""


def generator_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the generator's tensors of a checkpoint, without the prefix; others as they are."""
    of_generator = {
        name.removeprefix(GENERATOR): tensor for name, tensor in tensors.items() if name.startswith(GENERATOR)
    }
    return of_generator or dict(tensors)


def layout_of(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    """Return architecture and options of a generator's tensors, or None where they are another network's.

    The options rebuild a network of exactly these tensors, except for what leaves no trace.
    """
    for first, read in (
        ("net.conv_block1.conv_block.0.weight", _srresnet),
        ("conv_first.weight", _esrgan),
        ("head.0.weight", _trunk),
    ):
        if first in tensors and tensors[first].ndim == 4:
            try:
                return read(tensors)
            except KeyError:  # a tensor that all of the kind have is not there
                return None
    return None


def _srresnet(t: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    head, tail = t["net.conv_block1.conv_block.0.weight"], t["net.conv_block3.conv_block.0.weight"]
    body = t["net.residual_blocks.0.conv_block1.conv_block.0.weight"]
    return "srresnet", {
        **_common(head, tail, steps=_count(t, r"net\.subpixel_convolutional_blocks\.(\d+)\.conv\.weight")),
        "blocks": _count(t, r"net\.residual_blocks\.(\d+)\.conv_block1\.conv_block\.0\.weight"),
        "head_kernel": head.shape[-1],
        "body_kernel": body.shape[-1],
    }


def _esrgan(t: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    head, tail = t["conv_first.weight"], t["conv_last.weight"]
    return "esrgan", {
        **_common(head, tail, steps=_count(t, r"upsampler\.(\d+)\.weight") // 2),
        "blocks": _count(t, r"body\.(\d+)\.db1\.c1\.weight"),
        "growth": t["body.0.db1.c1.weight"].shape[0],
    }


BLOCKS = {
    "res": "body.0.body.0.weight",
    "rcab": "body.0.se.1.weight",
    "rrdb": "body.0.db1.c1.weight",
    "lka": "body.0.lka.dw5.weight",
}
"""Kind of block → a tensor that only it has."""


def _trunk(t: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    head, tail = t["head.0.weight"], t["tail.weight"]
    options = {
        **_common(head, tail, steps=_count(t, r"upsampler\.(\d+)\.weight") // 2),
        "blocks": _count(t, r"body\.(\d+)\..*"),
        "head_kernel": head.shape[-1],
        "body_kernel": t["body_tail.weight"].shape[-1],
    }
    latent = t.get("body.0.noise_mlp.0.weight")
    if latent is not None:
        return "stochastic", options | {"noise_dim": latent.shape[1]}
    block = next((kind for kind, name in BLOCKS.items() if name in t), None)
    if block is None:
        raise KeyError("body")
    return "residual", options | {"block": block}


def _common(head: Tensor, tail: Tensor, *, steps: int) -> dict[str, Any]:
    return {
        "in_channels": head.shape[1],
        "out_channels": tail.shape[0],
        "channels": head.shape[0],
        "scale": 2**steps,
    }


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Return how many different numbers stand where the pattern has its group."""
    return len({match[1] for name in tensors if (match := re.fullmatch(pattern, name))})
