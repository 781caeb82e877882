"""Several trainings one after the other in two processes, started once, since that takes longest.

Each is ``python -m train`` with its own words. The only argument is a JSON list of `Launched`. The processes meet as
those of torchrun do, through the same environment variables, but are forked once everything is imported.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from unittest.mock import patch

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.fsdp import FSDPModule

from train.config import Precision, TrainConfig
from train.run import building, recipe
from train.run.building import build

PROCESSES = 2

IMPORTED_ON_THE_WAY = (
    "diffusers.models.autoencoders.autoencoder_kl", "diffusers.models.unets.unet_2d_condition", "lpips", "open_clip",
    "peft", "torch._dynamo", "torchvision", "transformers.models.clip.modeling_clip",
)  # fmt: skip
"""What a training imports when it needs it."""


@dataclass(frozen=True)
class Launched:
    """One training."""

    words: list[str]
    """What follows ``python -m train``, without the folder."""
    output_dir: str
    split: bool = False
    """Networks split by FSDP, instead of a whole one in each process."""
    keep_as: str = ""
    """Folder that `output_dir` is copied to afterwards, for a training that goes on from it."""


def launch(runs: list[Launched]) -> None:
    for name in IMPORTED_ON_THE_WAY:
        import_module(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(PROCESSES)}
    torch.multiprocessing.start_processes(run_all, args=(runs,), nprocs=PROCESSES, start_method="fork")


def run_all(rank: int, runs: list[Launched]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(PROCESSES)}
    for each in runs:
        run(each)
    torch.distributed.destroy_process_group()


def run(launched: Launched) -> None:
    sys.argv[1:] = [*launched.words, f"output_dir={launched.output_dir}"]
    with networks_split_on_cpu() if launched.split else nullcontext():
        try:
            runpy.run_module("train", run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            if ended.code != 0:
                raise
    if launched.keep_as and torch.distributed.get_rank() == 0:
        shutil.copytree(launched.output_dir, launched.keep_as)
    torch.distributed.barrier()
    # accelerate keeps its settings for the whole process; the processes stay connected.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@contextmanager
def networks_split_on_cpu() -> Iterator[None]:
    """Let `train` split its networks by accelerate's FSDP 2 inside the block.

    accelerate offers FSDP on GPUs only; here its state is told so after the processes (gloo) have met. What splits
    the networks, clips and synchronises is accelerate's own code.
    """
    with (
        patch.object(building, "_accelerator", split_accelerator),
        patch.object(recipe, "build", build_split),
    ):
        yield


def split_accelerator(config: TrainConfig) -> Accelerator:
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
    split = build(config)
    assert all(isinstance(player.module, FSDPModule) for player in split.players.values())
    return split


if __name__ == "__main__":
    launch([Launched(**entry) for entry in json.loads(sys.argv[1])])
