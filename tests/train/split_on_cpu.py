"""`train`, with networks split by accelerate's FSDP 2 on the CPU.

accelerate offers FSDP on GPUs only; here its state is told so after the processes (gloo) have met. What splits the
networks, clips and synchronises is accelerate's own code.
"""

from __future__ import annotations

import sys

from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.fsdp import FSDPModule

from train import building, recipe
from train.config import Precision, TrainConfig, load_config


def split_on_cpu(config: TrainConfig) -> Accelerator:
    assert config.precision is Precision.fp32
    accelerator = Accelerator(cpu=True)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="no_wrap", cpu_ram_efficient_loading=False
    )
    for state in (accelerator.state, PartialState()):  # the former is refreshed from the latter
        state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    return accelerator


def build_split(config: TrainConfig) -> building.Run:
    run = build(config)
    assert all(isinstance(player.module, FSDPModule) for player in run.players.values())
    return run


if __name__ == "__main__":
    build = recipe.build
    building._accelerator = split_on_cpu
    recipe.build = build_split
    recipe.train(load_config(sys.argv[1], sys.argv[2:]))
