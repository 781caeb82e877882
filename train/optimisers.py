"""The rules that move weights, made from the config; those of other packages are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from hypir_core.errors import MissingDependencyError

from .config import Optimiser, OptimiserConfig

ELSEWHERE = {
    Optimiser.adamw8bit: ("bitsandbytes", "bitsandbytes.optim", "AdamW8bit"),
    Optimiser.schedule_free: ("schedulefree", "schedulefree", "AdamWScheduleFree"),
    Optimiser.prodigy: ("prodigyopt", "prodigyopt", "Prodigy"),
}
"""Kind → package to install, module, class."""


def build_optimiser(name: str, module: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Make the optimiser of the player `name` over what `module` has to train.

    Weight decay acts on matrices, and on the slopes of PReLU if the config says so.

    Raises:
        MissingDependencyError: the package of this kind is not installed.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    slopes = {id(p) for each in module.modules() if isinstance(each, nn.PReLU) for p in each.parameters()}
    decayed = [p for p in trained if p.ndim >= 2 or (config.decay_slopes and id(p) in slopes)]
    known = {id(p) for p in decayed}
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": [p for p in trained if id(p) not in known], "weight_decay": 0.0},
    ]
    parameters = [group for group in groups if group["params"]]
    rule: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    if config.kind in ELSEWHERE:
        optimiser = _class_of(name, config.kind)(parameters, **rule)
        if config.kind is Optimiser.schedule_free:
            optimiser.train()
        return optimiser
    kind = {Optimiser.adamw: torch.optim.AdamW, Optimiser.adam: torch.optim.Adam}[config.kind]
    fused = all(p.device.type in {"cpu", "cuda"} for p in trained)
    return kind(parameters, fused=fused, **rule)


def own_average(optimiser: Any, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the averages that a schedule-free optimiser keeps of the parameters in `named`; others keep none.

    It trains at y = (1 − β₁)·z + β₁·x, where x is the average (Defazio et al., arXiv 2405.15682, eq. 6 to 8), so that
    x = y + (1 − 1/β₁)·(z − y). The parameters stay at y.
    """
    names = {id(tensor): name for name, tensor in named.items()}
    averages = {}
    for group in optimiser.param_groups:
        if "train_mode" not in group:
            return {}
        for p in group["params"]:
            z = optimiser.state[p].get("z")
            averages[names[id(p)]] = (
                p.detach().clone() if z is None else p.detach().lerp(z, 1 - 1 / group["betas"][0])
            )
    return averages


def _class_of(name: str, kind: Optimiser) -> Any:
    package, module, cls = ELSEWHERE[kind]
    try:
        return getattr(import_module(module), cls)
    except ImportError as err:
        raise MissingDependencyError(package, None, f"optimiser.kind={kind.value} of {name}") from err
