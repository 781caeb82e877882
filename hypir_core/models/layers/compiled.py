"""Transformer blocks made quicker by torch.compile, block by block.

A Stable Diffusion UNet holds sixteen of them in four widths: compiled one by one, four programs serve all, and making
them takes a minute, not many. Group norms stay outside: their forward is replaced while a picture's tiles share
statistics (`shared_norms`). The compiled code is kept on disk by torch, in TORCHINDUCTOR_CACHE_DIR or the folder for
temporary files: the next process starts warm.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import torch
from torch import nn

from ...errors import ConfigError

BLOCK = "BasicTransformerBlock"
"""diffusers' name of self-attention, cross-attention and feed-forward with their layer norms."""

COMPILERS = ("c++", "g++", "clang++", "cl")
"""Any of them serves a CPU."""


def compile_blocks_(net: nn.Module) -> int:
    """Let torch.compile make the transformer blocks of a diffusers UNet or ControlNet quicker, in place.

    Do it after everything else was changed. Names, weights and dtypes stay; the first tiles of a run take a minute
    longer, results differ by rounding. Programs are made for any tile size, after the second size was seen.

    Returns:
        How many blocks will be compiled.
    """
    blocks = [module for module in net.modules() if type(module).__name__ == BLOCK]
    for block in blocks:
        block.compile()
    return len(blocks)


def require_compiler(device: torch.device) -> None:
    """Find out whether torch.compile can work, before a model is loaded.

    Raises:
        ConfigError: Triton is missing (graphics cards), or a C++ compiler (CPUs).
    """
    if device.type == "cpu":
        missing = None if any(map(shutil.which, COMPILERS)) else f"a C++ compiler ({', '.join(COMPILERS)})"
    else:
        missing = None if find_spec("triton") else "the package triton"
    if missing is not None:
        raise ConfigError(
            f"compile needs {missing}, and it is not installed here; install it or leave out compile"
        )
