"""FSDP splits tensors over processes (DTensor); checkpoints, averages and exports hold them whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor

from hypir_core.errors import ConfigError

from ..config import Precision


def check_distribution(environment: Mapping[str, str], precision: Precision) -> None:
    """Refuse what accelerate was told to do, in its environment variables, and this loop cannot do.

    Raises:
        ConfigError: DeepSpeed, accelerate's own torch.compile, the first version of FSDP, or FSDP in another
            precision than float32.
    """
    asked = {
        name: environment.get(f"ACCELERATE_USE_{name}", "false").lower() for name in ("FSDP", "DEEPSPEED")
    }
    if asked["DEEPSPEED"] == "true":
        raise ConfigError(
            "distributed_type: DeepSpeed takes over the optimiser steps of one model, this loop makes them for "
            "several players; use train/accelerate/fsdp.yaml, which splits the same state, or ddp.yaml"
        )
    dynamo = environment.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if dynamo.lower() not in {"", "no"}:
        raise ConfigError(
            f"dynamo_config.dynamo_backend: accelerate's {dynamo} would rename what is trained; leave it out and set "
            "compile=true"
        )
    if asked["FSDP"] != "true":
        return
    if precision is not Precision.fp32:
        # Its policy casts weights but not buffers, and spectral norm multiplies the two.
        raise ConfigError(
            f"precision: FSDP here works in fp32 only, got {precision.value}; set precision=fp32, or use "
            "train/accelerate/ddp.yaml"
        )
    if environment.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            "fsdp_config.fsdp_version: expected 2, whose parameters keep their own number formats, got "
            f"{environment.get('FSDP_VERSION', '1')}; use train/accelerate/fsdp.yaml"
        )


def is_split(accelerator: Accelerator) -> bool:
    """Say whether networks are split, so that every pass needs all processes."""
    return accelerator.distributed_type == DistributedType.FSDP


def whole(value: Any) -> Any:
    """Return `value`, a tensor or nested mappings and lists, with every split tensor put together.

    Every process must call this with the same structure; other tensors are returned as they are.
    """
    if isinstance(value, Tensor):
        return _joined(value)
    if isinstance(value, Mapping):
        return {key: whole(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(whole(entry) for entry in value)
    return value


def at_rest(module: Any) -> Any:
    """Give back what FSDP put together for the last pass, so that every parameter is split again."""
    for part in module.modules():
        if hasattr(part, "reshard"):
            part.reshard()
    return module


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a whole tensor as `other` lies: on its device, and split as it is."""
    if hasattr(tensor, "full_tensor") or not hasattr(other, "full_tensor"):
        return tensor.to(other.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)


def optimiser_state_like(state: Mapping[str, Any], optimiser: Any) -> dict[str, Any]:
    """Return a whole optimiser's state with every tensor that is shaped like its parameter split as that is."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    entries = {
        index: {
            name: like(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in entry.items()
        }
        for index, entry in state["state"].items()
    }
    return {**state, "state": entries}


@torch.no_grad()
def _joined(tensor: Tensor) -> Tensor:
    full = getattr(tensor, "full_tensor", None)
    return full() if full else tensor
