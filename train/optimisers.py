"""The rules that move weights, made from the config; those of other packages are imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn

from hypir_core.errors import MissingDependencyError

from .config import Optimiser, OptimiserConfig

ELSEWHERE = {
    Optimiser.adamw8bit: ("bitsandbytes", "bitsandbytes.optim", "AdamW8bit"),
    Optimiser.schedule_free: ("schedulefree", "schedulefree", "AdamWScheduleFree"),
    Optimiser.prodigy: ("prodigyopt", "prodigyopt", "Prodigy"),
}
"""Kind → package to install, module, class."""


def build_optimiser(name: str, module: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Make the optimiser of the player `name` over what `module` has to train; weight decay acts on matrices only.

    Raises:
        MissingDependencyError: the package of this kind is not installed.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    parameters = [group for group in groups if group["params"]]
    rule: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    if config.kind in ELSEWHERE:
        return _class_of(name, config.kind)(parameters, **rule)
    kind = {Optimiser.adamw: torch.optim.AdamW, Optimiser.adam: torch.optim.Adam}[config.kind]
    fused = all(p.device.type in {"cpu", "cuda"} for p in trained)
    return kind(parameters, fused=fused, **rule)


def _class_of(name: str, kind: Optimiser) -> Any:
    package, module, cls = ELSEWHERE[kind]
    try:
        return getattr(import_module(module), cls)
    except ImportError as err:
        raise MissingDependencyError(package, None, f"optimiser.kind={kind.value} of {name}") from err
