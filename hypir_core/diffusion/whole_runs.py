"""Sampling as one object: a model, a schedule, and a rule that walks from noise to a picture.

Engines walk step by step over tiles and do not use it. It is for scripts, for training, and the base class of samplers
of one's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, RangeError, UnknownNameError
from ..registry import Registry, lazy
from ..weights.spec import Prediction
from .betas import BaseScheduler
from .catalog import SCHEDULERS
from .edits.base import X0Edit, apply_edits
from .prediction import predict_x0
from .samplers import SAMPLERS
from .samplers.base import Step, plan_steps, remembered
from .schedule import a_bars64
from .timesteps import Spacing, karras_timesteps, strided_timesteps, timesteps

SPACINGS = ("strided", "karras", *(each.value for each in Spacing))


class BaseSampler(ABC):
    """A way from noise to a picture. One's own: write `sample`.

    Args:
        model: x_t and timesteps → a prediction.
        scheduler: the noise schedule, or the name of one.
        num_timesteps: timesteps of a schedule that is given by name.
        num_steps: how many of them are visited; None: all.
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        scheduler: str | BaseScheduler = "cosine",
        num_timesteps: int = 1000,
        num_steps: int | None = None,
    ):
        schedule: BaseScheduler = (
            SCHEDULERS.create(scheduler, num_timesteps=num_timesteps)
            if isinstance(scheduler, str)
            else scheduler
        )
        if num_steps is not None and not 1 <= num_steps <= schedule.num_timesteps:
            raise ConfigError(
                f"num_steps must lie in 1 … {schedule.num_timesteps}, the timesteps of the schedule, got {num_steps}"
            )
        self.model, self.scheduler, self.num_steps = model, schedule, num_steps

    @abstractmethod
    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return pictures; usually ``sample(shape, device, …)``."""


class RuleSampler(BaseSampler):
    """A sampler of `SAMPLERS`, run over a whole schedule.

    Args:
        model: x_t [b c …] and timesteps [b] → a prediction like x_t, or an object that holds it as ``.sample``.
        rule: the name in `SAMPLERS`.
        scheduler, num_timesteps, num_steps: as `BaseSampler`.
        ddim_steps: an older name of `num_steps`.
        prediction: what the model predicts: eps, v or x0.
        v_parameterization: an older way to say ``prediction="v"``.
        clip_denoised: whether clean estimates are cut to [-1, 1].
        spacing: which timesteps: strided (both ends), karras, trailing, leading, linspace.
        own: options of the rule, such as ``eta``.

    Raises:
        ConfigError: a value out of its range, or an option that the rule does not take.
        UnknownNameError: no such rule or schedule.
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        rule: str = "ddim",
        scheduler: str | BaseScheduler = "cosine",
        num_timesteps: int = 1000,
        num_steps: int | None = None,
        ddim_steps: int | None = None,
        prediction: str = "eps",
        v_parameterization: bool = False,
        clip_denoised: bool = True,
        spacing: str = "strided",
        **own: Any,
    ):
        super().__init__(
            model,
            scheduler=scheduler,
            num_timesteps=num_timesteps,
            num_steps=ddim_steps if num_steps is None else num_steps,
        )
        kinds = [each.value for each in Prediction]
        if prediction not in kinds:
            raise UnknownNameError("prediction", prediction, kinds)
        if spacing not in SPACINGS:
            raise UnknownNameError("spacing", spacing, SPACINGS)
        self.rule = SAMPLERS.create(rule, own)
        self.prediction = Prediction.v if v_parameterization else Prediction(prediction)
        self.clip_denoised, self.spacing = clip_denoised, spacing

    def plan(self) -> tuple[Step, ...]:
        """Return the steps of a run."""
        curve = a_bars64(self.scheduler.as_schedule())
        train, count = len(curve), self.num_steps or len(curve)
        if self.spacing == "strided":
            visited: Sequence[float] = strided_timesteps(train, count)
        elif self.spacing == "karras":
            visited = karras_timesteps(curve, count)
        else:
            visited = timesteps(train, count, Spacing(self.spacing))
        return plan_steps(curve, visited)

    def sample(
        self,
        shape: Sequence[int],
        device: torch.device | str | None = None,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        edits: Sequence[X0Edit] = (),
    ) -> Tensor:
        """Return pictures of `shape` [b c …] in network units, float32.

        Args:
            shape: of the result.
            device: where the model is; None: the CPU.
            y: what the model is told besides, [b c' …], given to it as more channels behind x_t.
            generator: of the noise, on the CPU: a seed means the same noise on every device. None: seed 0.
            edits: corrections of every clean estimate, in this order.

        Raises:
            ConfigError: there is no model.
            RangeError: the model predicts NaN or infinity.
        """
        *_, (_, end, _) = self.walk(shape, device, y, generator=generator, edits=edits)
        return end

    @torch.no_grad()
    def walk(
        self,
        shape: Sequence[int],
        device: torch.device | str | None = None,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        edits: Sequence[X0Edit] = (),
    ) -> Iterator[tuple[Step, Tensor, Tensor]]:
        """Yield step, x after it, and its clean estimate, for every step; see `sample`."""
        if self.model is None:
            raise ConfigError(f"sampler {self.rule.name!r} has no model to ask; create it with model=…")
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        x = torch.randn(tuple(shape), generator=generator).to(device or "cpu")
        earlier: list[Tensor] = []
        for step in self.plan():
            x0 = apply_edits(self._clean(x, step, y), step, edits)
            noise = torch.randn(tuple(shape), generator=generator).to(x) if self.rule.stochastic else None
            moved = self.rule.move(x, x0, step, noise=noise, earlier=tuple(earlier))
            if self.rule.history:
                earlier = [remembered(self.rule, x, x0, step), *earlier][: self.rule.history]
            x = moved
            yield step, x, x0

    def _clean(self, x: Tensor, step: Step, y: Tensor | None) -> Tensor:
        told = torch.full((len(x),), step.t, device=x.device)
        told = told.long() if float(step.t).is_integer() else told
        model: Any = self.model
        predicted = model(x if y is None else torch.cat([x, y.to(x)], 1), told)
        predicted = predicted if isinstance(predicted, Tensor) else predicted.sample
        if not bool(predicted.isfinite().all()):
            raise RangeError(
                f"step {step.index + 1} of {step.of}: the model predicts NaN or infinity; check its weights and input"
            )
        x0 = predict_x0(x, predicted, a_bar=step.a_bar, kind=self.prediction)
        return x0.clamp(-1, 1) if self.clip_denoised else x0


WHOLE_RUNS: Registry[type[BaseSampler]] = Registry("sampler", group="onestep_restore.samplers")
"""Name → class. All but one's own are `RuleSampler` with a rule of the same name."""

for _name, _aliases, _defaults in (
    (
        "ddim",
        ("ddim_sampler", "deterministic"),
        {
            "num_timesteps": 1000,
            "ddim_steps": 100,
            "eta": 0.0,
            "clip_denoised": True,
            "v_parameterization": False,
        },
    ),
    ("ddpm", ("ddpm_sampler",), {}),
    ("ancestral", ("ancestral_sampler", "stochastic"), {"rule": "ddpm"}),
    ("euler", (), {"num_steps": 50}),
    ("euler_ancestral", (), {"num_steps": 50}),
    ("dpmpp_2m", ("dpm_solver", "dpmpp"), {"num_steps": 25, "spacing": "karras"}),
    ("lms", (), {"num_steps": 50}),
    ("pndm", ("plms",), {"num_steps": 50}),
):
    WHOLE_RUNS.add(
        _name,
        lazy(".whole_runs:RuleSampler", __package__),
        summary=SAMPLERS.entry(str(_defaults.get("rule", _name))).summary,
        lazy=True,
        aliases=_aliases,
        defaults={"rule": _name, **_defaults},
    )
