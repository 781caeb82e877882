"""Every exchangeable part by kind and name: list, create, and add one's own.

Five lists, one class: `Registry`. Losses and strategies belong to training: their lists are here, so that they can be
added to and asked for, and `train` fills them when it is imported. Listing imports no network and no optional package.

    scheduler = create_scheduler("cosine", num_timesteps=1000, s=0.008)
    sampler = create_sampler("ddim", model=model, ddim_steps=50)
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import Tensor, nn

from .config import build
from .diffusion.betas import BaseScheduler
from .diffusion.catalog import SCHEDULERS as SCHEDULER_REGISTRY
from .diffusion.whole_runs import WHOLE_RUNS as SAMPLER_REGISTRY
from .diffusion.whole_runs import BaseSampler
from .errors import UnknownNameError
from .models.architectures import ARCHITECTURES as MODEL_REGISTRY
from .registry import Registry

__all__ = [
    "KINDS",
    "LOSS_REGISTRY",
    "MODEL_REGISTRY",
    "SAMPLER_REGISTRY",
    "SCHEDULER_REGISTRY",
    "STRATEGY_REGISTRY",
    "BaseLoss",
    "BaseSampler",
    "BaseScheduler",
    "create_component",
    "create_loss",
    "create_model",
    "create_sampler",
    "create_scheduler",
    "create_strategy",
    "get_available_components",
    "register_loss",
    "register_model",
    "register_sampler",
    "register_scheduler",
    "register_strategy",
]

C = TypeVar("C", bound=Callable[..., Any])

LOSS_REGISTRY: Registry[Callable[..., Any]] = Registry("loss", group="onestep_restore.losses")
"""Name → a function of image and target with keyword options, a `BaseLoss`, or a class with `Options`."""

STRATEGY_REGISTRY: Registry[Callable[..., Any]] = Registry("strategy", group="onestep_restore.strategies")
"""Name → a way to train."""

KINDS: dict[str, Registry[Any]] = {
    "schedulers": SCHEDULER_REGISTRY,
    "samplers": SAMPLER_REGISTRY,
    "losses": LOSS_REGISTRY,
    "models": MODEL_REGISTRY,
    "strategies": STRATEGY_REGISTRY,
}
"""Kind → its list. A list of one's own that is put here is listed and created from as these are."""


class BaseLoss(nn.Module, ABC):
    """A distance of a prediction and its target. One's own: write `forward`."""

    @abstractmethod
    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return a scalar; both [b c *spatial]."""


class _CalledLoss(BaseLoss):
    """A loss that is a function, or an object of another class."""

    def __init__(self, call: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.call = call

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return self.call(pred, target)


def register_scheduler(
    name: str, aliases: Sequence[str] = (), config: Mapping[str, Any] | None = None
) -> Callable[[C], C]:
    """Return a decorator that adds a schedule; `config` are its defaults. See `Registry.decorator`."""
    return SCHEDULER_REGISTRY.decorator(name, aliases, config)


def register_sampler(
    name: str, aliases: Sequence[str] = (), config: Mapping[str, Any] | None = None
) -> Callable[[C], C]:
    """Return a decorator that adds a sampler."""
    return SAMPLER_REGISTRY.decorator(name, aliases, config)


def register_loss(
    name: str, aliases: Sequence[str] = (), config: Mapping[str, Any] | None = None
) -> Callable[[C], C]:
    """Return a decorator that adds a loss."""
    return LOSS_REGISTRY.decorator(name, aliases, config)


def register_model(
    name: str, aliases: Sequence[str] = (), config: Mapping[str, Any] | None = None
) -> Callable[[C], C]:
    """Return a decorator that adds a network."""
    return MODEL_REGISTRY.decorator(name, aliases, config)


def register_strategy(
    name: str, aliases: Sequence[str] = (), config: Mapping[str, Any] | None = None
) -> Callable[[C], C]:
    """Return a decorator that adds a way to train."""
    return STRATEGY_REGISTRY.decorator(name, aliases, config)


def create_scheduler(name: str, config: Mapping[str, Any] | None = None, **given: Any) -> BaseScheduler:
    """Return a new schedule; see `Registry.create`."""
    return SCHEDULER_REGISTRY.create(name, config, **given)


def create_sampler(name: str, config: Mapping[str, Any] | None = None, **given: Any) -> BaseSampler:
    """Return a new sampler; see `Registry.create`."""
    return SAMPLER_REGISTRY.create(name, config, **given)


def create_loss(name: str, config: Mapping[str, Any] | None = None, **given: Any) -> BaseLoss:
    """Return a new loss as a module; losses of `train` are there when `train` is imported.

    Raises:
        UnknownNameError: no such loss.
        ConfigError: an option that it does not take.
    """
    loss: Any = LOSS_REGISTRY.get(name)
    entry = LOSS_REGISTRY.entry(name)
    options = {**entry.defaults, **(config or {}), **given}
    if not inspect.isclass(loss):
        return _CalledLoss(partial(loss, **options))
    known: Any = getattr(loss, "Options", None)
    if known is not None:
        build_it: Any = loss
        made: Any = build_it(build(known, options, where=f"loss {name}"), key=entry.name, device=None)
        return _CalledLoss(made)
    made = LOSS_REGISTRY.create(name, options)
    return made if isinstance(made, BaseLoss) else _CalledLoss(made)


def create_model(name: str, config: Mapping[str, Any] | None = None, **given: Any) -> nn.Module:
    """Return a new network with random weights; see `Registry.create`."""
    return MODEL_REGISTRY.create(name, config, **given)


def create_strategy(name: str, config: Mapping[str, Any] | None = None, **given: Any) -> Any:
    """Return a new way to train; those of `train` are there when `train` is imported."""
    return STRATEGY_REGISTRY.create(name, config, **given)


def create_component(kind: str, name: str, config: Mapping[str, Any] | None = None, **given: Any) -> Any:
    """Return a new component of a kind, in the singular (``scheduler``) or as `KINDS` has it (``schedulers``).

    Raises:
        UnknownNameError: no such kind or name.
        ConfigError: a keyword that the component does not take.
    """
    listed = next((each for each, of in KINDS.items() if kind in (each, of.kind)), None)
    if listed is None and kind == "model":
        listed = "models"
    if listed is None:
        raise UnknownNameError("kind of component", kind, KINDS)
    if listed == "losses":
        return create_loss(name, config, **given)
    return KINDS[listed].create(name, config, **given)


def get_available_components() -> dict[str, list[str]]:
    """Return kind → names of what can be made here; `Registry.missing` says what cannot, and why."""
    return {
        kind: [name for name in registry.names() if name not in registry.missing()]
        for kind, registry in KINDS.items()
    }
