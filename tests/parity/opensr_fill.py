"""The weights of opensr-srgan's reference cases, which come from a formula (tests/golden/opensr/networks.md)."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def fill_(net: nn.Module, text: str) -> nn.Module:
    """Give every tensor of a network the numbers of the case `text`, but whole ones."""
    owners = {
        f"{name}.{key}".removeprefix("."): module
        for name, module in net.named_modules()
        for key in (*module._parameters, *module._buffers)
    }
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            draw = np.random.RandomState(zlib.crc32(f"{text}/{name}".encode()))  # its stream is for good
            u = draw.uniform(-1, 1, tuple(tensor.shape)).astype(np.float32)
            tensor.copy_(torch.from_numpy(np.asarray(_numbers(u, name, owners[name]), dtype=np.float32)))
    return net


def _numbers(u: np.ndarray, name: str, owner: nn.Module) -> np.ndarray:
    last = name.rpartition(".")[2]
    if last in {"weight_u", "weight_v"}:
        return u / np.linalg.norm(u)
    if u.ndim >= 2:
        return u * np.sqrt(np.float32(3 / u[0].size))
    if isinstance(owner, _BatchNorm):
        return {"weight": 1 + 0.2 * u, "running_var": 1 + 0.5 * u}.get(last, 0.2 * u)
    return 0.25 + 0.1 * u if isinstance(owner, nn.PReLU) else 0.1 * u
