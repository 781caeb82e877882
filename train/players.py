"""Players: what is optimised, each with its own optimiser, schedule, clipping, cadence and average."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from hypir_core.errors import ConfigError, TrainingDivergedError, nearest_hint

from .config import EmaConfig, Optimiser, OptimiserConfig
from .ema import Ema
from .lr_plan import Plateau, lr_factor
from .optimisers import build_optimiser, own_average
from .run.sharding import at_rest, like, optimiser_state_like, whole

GENERATOR = "generator"
"""Name of the player that restores; the others are called as in ``discriminators``."""

SETTINGS = frozenset({"lr", "initial_lr", "betas", "eps", "weight_decay"})
"""What of an optimiser's groups comes from the config; the rest it keeps there for itself."""


@dataclass(frozen=True, eq=False)
class Player:
    """One side of the game. `module` is what accelerate prepared; its trained tensors are `trained_state`."""

    name: str
    module: nn.Module
    optimiser: Any
    """The prepared optimiser (accelerate's wrapper)."""
    lr_schedule: LambdaLR
    config: OptimiserConfig
    ema: Ema | None
    plateau: Plateau | None = None

    def due(self, step: int) -> bool:
        """Say whether this player moves at `step`."""
        return step % self.config.every == 0

    def state_dict(self, accelerator: Accelerator) -> dict[str, Any]:
        """Return what a checkpoint needs: trained tensors, optimiser, schedule and moving average."""
        state = {
            "weights": trained_state(accelerator.unwrap_model(self.module)),
            "optimiser": self.optimiser.state_dict(),
            "lr_schedule": self.lr_schedule.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "plateau": self.plateau.state_dict() if self.plateau else None,
        }
        if self.config.kind is Optimiser.schedule_free:
            state["averaged"] = averaged_state(self, accelerator)
        return whole(state)

    def load_state_dict(self, state: Mapping[str, Any], accelerator: Accelerator) -> None:
        """Take over a state made by `state_dict`."""
        load_trained_state(accelerator.unwrap_model(self.module), state["weights"])
        self.optimiser.load_state_dict(optimiser_state_like(state["optimiser"], self.optimiser))
        self.lr_schedule.load_state_dict(state["lr_schedule"])
        self._load_plateau(state)
        if self.ema and state["ema"]:
            self.ema.load_state_dict(state["ema"])

    def load_weights(self, state: Mapping[str, Any], accelerator: Accelerator) -> None:
        """Take over weights and moving average only; an average that the state lacks starts at the weights."""
        module = accelerator.unwrap_model(self.module)
        load_trained_state(module, state["weights"])
        if self.ema:
            start = {"shadow": trained_state(module), "updates": 0}
            self.ema.load_state_dict(state["ema"] or start)

    def load_optimiser(self, state: Mapping[str, Any]) -> None:
        """Take over what the optimiser has learnt, and the place in the schedule; the settings stay this run's."""
        own = [{key: group[key] for key in SETTINGS & group.keys()} for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(optimiser_state_like(state["optimiser"], self.optimiser))
        for group, settings in zip(self.optimiser.param_groups, own, strict=True):
            group.update(settings)
        self.load_schedule(state)

    def load_schedule(self, state: Mapping[str, Any]) -> None:
        """Take over the place in the schedule and what plateaus have made of it; the curve stays this run's."""
        schedule = self.lr_schedule
        schedule.load_state_dict({**state["lr_schedule"], "base_lrs": schedule.base_lrs})
        self._load_plateau(state)
        self._set_rates()

    def look_at(self, values: Mapping[str, float]) -> bool:
        """Show the plateau what was measured; say whether it lowered the learning rate.

        Raises:
            ConfigError: its number is not among them.
        """
        if self.plateau is None:
            return False
        metric = self.plateau.config.metric
        if metric not in values:
            raise ConfigError(
                f"the plateau of {self.name}: {metric} is not measured{nearest_hint(metric, values)}; there is: "
                f"{', '.join(sorted(values))}"
            )
        lowered = self.plateau.look(values[metric])
        if lowered:
            self._set_rates()
        return lowered

    def _load_plateau(self, state: Mapping[str, Any]) -> None:
        if self.plateau and state.get("plateau"):
            self.plateau.load_state_dict(state["plateau"])

    def _set_rates(self) -> None:
        """Give the optimiser the rates of the present place, between two steps of the schedule."""
        schedule = self.lr_schedule
        rates = [
            base * factor(schedule.last_epoch)
            for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates


def build_player(
    name: str,
    module: nn.Module,
    config: OptimiserConfig,
    *,
    ema: EmaConfig | None,
    accelerator: Accelerator,
    max_steps: int,
    start: int = 0,
    factor: Callable[[int], float] = lambda _: 1.0,
) -> Player:
    """Make a player of what `module` has to train, on the accelerator's device; it moves from step `start` on.

    `factor` is one more on the learning rate, by step of the loop.
    """
    module = module.to(accelerator.device)
    optimiser = build_optimiser(name, module, config)
    moves = math.ceil(max_steps / config.every) - math.ceil(start / config.every)
    plateau = Plateau(config.plateau, config.lr) if config.plateau else None
    first = math.ceil(start / config.every)

    def rate(move: int) -> float:
        """Return the factor on the learning rate of a move."""
        curve = lr_factor(config, move, moves) * (plateau.factor if plateau else 1.0)
        return curve * factor((first + move) * config.every)

    lr_schedule = LambdaLR(optimiser, rate)
    prepared_module, prepared_optimiser = accelerator.prepare(module, optimiser)
    average = _average(accelerator.unwrap_model(prepared_module), ema) if ema else None
    return Player(name, prepared_module, prepared_optimiser, lr_schedule, config, average, plateau)


def _average(module: nn.Module, config: EmaConfig) -> Ema:
    return Ema(
        trained_state(module),
        decay=config.decay,
        warmup=config.warmup,
        first=config.first,
        start=config.start,
        copied=[name for name, _ in module.named_buffers()] if config.copy_buffers else (),
    )


def optimiser_step(player: Player, accelerator: Accelerator, step: int) -> Tensor:
    """Make one optimiser step with the gradients at hand and clear them; return the norm before clipping.

    The schedule advances once per optimiser step, and the average follows it. With fp16, a step that the loss
    scaler skips advances neither.

    Raises:
        TrainingDivergedError: the gradient is not finite (fp16 excepted, where the step is skipped).
    """
    parameters = [p for p in player.module.parameters() if p.requires_grad]
    limit = player.config.clip_norm or math.inf
    norm = whole(torch.as_tensor(accelerator.clip_grad_norm_(parameters, limit)).detach())
    if player.config.clip_value:
        nn.utils.clip_grad_value_(parameters, player.config.clip_value)
    if accelerator.scaler is None and not norm.isfinite():
        raise TrainingDivergedError(step, f"gradient of {player.name}", float(norm))
    player.optimiser.step()
    player.optimiser.zero_grad(set_to_none=True)
    if not player.optimiser.step_was_skipped:
        player.lr_schedule.step()
        if player.ema:
            player.ema.update(trained_state(accelerator.unwrap_model(player.module)))
    return norm


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that training changes: trainable parameters and the buffers that belong to them.

    A buffer belongs to its nearest enclosing module that has parameters of its own, so that spectral norm's
    vectors are kept while the statistics of a frozen trunk are not.
    """
    at_rest(module)
    parameters = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    trained_modules = {name.rpartition(".")[0] for name in parameters}
    owning = {name.rpartition(".")[0] for name, _ in module.named_parameters()}
    persistent = module.state_dict(keep_vars=True)
    buffers = {
        name: b
        for name, b in module.named_buffers()
        if name in persistent and _owner(name, owning) in trained_modules
    }
    return parameters | buffers


def averaged_state(player: Player, accelerator: Accelerator) -> dict[str, Tensor]:
    """Return the tensors that restore best: the moving average, else the optimiser's own, else the weights."""
    if player.ema:
        return player.ema.shadow
    module = accelerator.unwrap_model(player.module)
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    return trained_state(module) | own_average(player.optimiser, named)


def load_trained_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy tensors made by `trained_state` into a module of the same build."""
    with torch.no_grad():
        for name, tensor in trained_state(module).items():
            tensor.copy_(like(state[name], tensor))


def _owner(buffer: str, owning: set[str]) -> str | None:
    parts = buffer.split(".")[:-1]
    heads = (".".join(parts[:end]) for end in range(len(parts), -1, -1))
    return next((head for head in heads if head in owning), None)
