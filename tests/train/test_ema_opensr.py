"""The moving average as OpenSR makes it."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from hypir_core.errors import ConfigError
from train.config import EmaConfig, OptimiserConfig
from train.ema import Ema
from train.players import build_player, trained_state


def filled(network: nn.Sequential, case: str) -> None:
    """Fill a convolution and its norm by the golden files' formula."""
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        random = np.random.RandomState(zlib.crc32(f"{case}/{name}".encode()))
        u = torch.from_numpy(random.uniform(-1, 1, tuple(tensor.shape)).astype(np.float32))
        scales = {
            "1.weight": (1, 0.2),
            "1.running_var": (1, 0.5),
            "1.bias": (0, 0.2),
            "1.running_mean": (0, 0.2),
        }
        offset, scale = scales.get(name, (0, 0.1 if tensor.ndim == 1 else (3 / tensor[0].numel()) ** 0.5))
        tensor.copy_(offset + scale * u)


@pytest.mark.parity
@pytest.mark.parametrize("warmup", [False, True])
def test_the_originals_average(golden, warmup):
    theirs = load_file(golden / "opensr" / "ema.safetensors")
    seed = json.loads((golden / "opensr" / "losses.json").read_text())["seed"]
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    filled(network, f"{seed}/ema/0")
    config = EmaConfig(decay=0.9, warmup=warmup, first=1, copy_buffers=True)
    player = build_player(
        "generator", network, OptimiserConfig(), ema=config, accelerator=Accelerator(cpu=True), max_steps=1
    )
    assert player.ema is not None
    for n in range(1, 13):
        filled(network, f"{seed}/ema/{n}")
        player.ema.update(trained_state(network))
        for name, value in player.ema.shadow.items():
            expected = theirs.get(f"{'warm' if warmup else 'fixed'}/{n}/{name}")
            if expected is not None and value.is_floating_point():
                torch.testing.assert_close(value, expected, atol=1e-6, rtol=0, msg=f"{n} {name}")


def test_the_average_is_the_weights_until_it_starts():
    ema = Ema({"w": torch.zeros(1), "b": torch.zeros(1)}, decay=0.5, warmup=False, start=2, copied=("b",))
    seen = []
    for value in (1.0, 2.0, 4.0):
        ema.update({"w": torch.full((1,), value), "b": torch.full((1,), value)})
        seen.append((float(ema.shadow["w"]), float(ema.shadow["b"])))
    assert seen == [(1, 1), (2, 2), (3, 4)]
    with pytest.raises(ConfigError, match="first must be 0 or more"):
        EmaConfig(first=-1)
