"""Denoising in the latents of a base model: the same error of the prediction, under the base model's own schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from accelerate.state import PartialState
from torch import Tensor, nn

from hypir_core.components import BaseScheduler, create_sampler
from hypir_core.diffusion.schedule import NoiseSchedule, a_bars64
from hypir_core.errors import ConfigError
from hypir_core.image.ranges import UNIT, AnyRange

from ..config import TrainConfig
from ..config.checks import raise_all
from ..config.denoising import LATENT, PIXEL, DenoisingConfig
from ..data.batch import Batch
from ..data.seeds import generator_for
from ..generators.base import Generator, Latents
from .base import Attempt, Task
from .denoising import DenoisingTask, drawn_timesteps, errors_at_grid, guessed


class LatentDenoisingTask:
    """The error of the prediction at a random timestep; pictures are made for validation only."""

    values: AnyRange = UNIT

    def __init__(self, config: TrainConfig, latents: Latents):
        """Take the settings.

        Raises:
            ConfigError: a setting would not be read; lists all of them.
            UnknownNameError: no such sampler.
        """
        _refuse_what_is_not_read(config)
        self._config, self._settings, self._latents = config, config.denoising, latents
        self._a_bars = a_bars64(latents.schedule)
        self._rank = PartialState().process_index
        self._passes = (-1, 0)
        create_sampler(self._settings.sampler, self._sampling)

    @property
    def _sampling(self) -> Mapping[str, object]:
        return {"spacing": "trailing", "clip_denoised": False, **self._settings.sampler_keywords}

    def attempt(self, module: nn.Module, batch: Batch, step: int) -> Attempt:
        """Return the error of the prediction.

        Timesteps, noise, and whose words are left out depend on (seed, step, pass of the step, process) alone.
        """
        settings, latents = self._settings, self._latents
        draw = self._draw(step)
        x0 = latents.encode(batch.hq)
        t = drawn_timesteps(settings, len(batch), total=len(self._a_bars), step=step, draw=draw)
        told = torch.rand(len(batch), generator=draw) >= settings.condition_dropout
        guess = guessed(
            latents.ask(module, batch, told),
            x0,
            None,
            eps=torch.randn(x0.shape, generator=draw).to(x0),
            a_bar=self._a_bars[t].to(x0).view(-1, 1, 1, 1),
            t=t.to(x0.device),
            kind=latents.prediction,
        )
        error = (guess.predicted - guess.wanted).square().mean()
        return Attempt(batch, None, {latents.prediction.value: (settings.weight, error)})

    def restore(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return what a short run of the sampler makes of noise, held by the degraded pictures."""
        h, w = batch.hq.shape[-2:]
        shape = self._latents.encode(torch.zeros(1, 3, h, w).to(batch.hq)).shape[1:]
        sampler = create_sampler(
            self._settings.sampler,
            self._sampling,
            model=self._latents.ask(module, batch, _everyone(batch)),
            scheduler=_Given(self._latents.schedule),
            prediction=self._latents.prediction.value,
        )
        noise = generator_for(self._config.seed, "validation noise")
        made = sampler.sample((len(batch), *shape), batch.hq.device, None, generator=noise)
        return self._latents.decode(made)

    def checks(self, module: nn.Module, batch: Batch) -> Mapping[str, float]:
        """Return the error of the prediction at fixed timesteps, with fixed noise."""
        return errors_at_grid(
            self._latents.ask(module, batch, _everyone(batch)),
            self._latents.encode(batch.hq),
            None,
            a_bars=self._a_bars,
            kind=self._latents.prediction,
            seed=self._config.seed,
        )

    def _draw(self, step: int) -> torch.Generator:
        """Return the random numbers of the next pass of `step`."""
        last, count = self._passes
        number = count + 1 if step == last else 0
        self._passes = (step, number)
        return generator_for(self._config.seed, "denoising", step, number, self._rank)


class _Given(BaseScheduler):
    """A base model's schedule, for a sampler."""

    def __init__(self, schedule: NoiseSchedule):
        super().__init__(schedule.steps)
        a_bars = a_bars64(schedule)
        before = torch.cat([torch.ones_like(a_bars[:1]), a_bars[:-1]])
        self._betas = 1 - a_bars / before

    def get_betas(self) -> Tensor:
        """See `BaseScheduler`."""
        return self._betas


def _everyone(batch: Batch) -> Tensor:
    return torch.ones(len(batch), dtype=torch.bool)


def _refuse_what_is_not_read(config: TrainConfig) -> None:
    name, plain = config.generator.name, DenoisingConfig()
    changed = [
        f"denoising.{each.name}"
        for each in fields(plain)
        if each.name not in LATENT and getattr(config.denoising, each.name) != getattr(plain, each.name)
    ]
    problems = []
    if changed:
        problems.append(
            f"{', '.join(changed)}: not read with the generator {name}, which has its base model's schedule and "
            "prediction; leave it out"
        )
    if not config.denoising.weight > 0:
        problems.append(
            f"denoising.weight must be above 0 with the generator {name}, which learns nothing else"
        )
    problems += [
        f"{key}: not read with the generator {name}, which makes no picture while it learns; set it to {{}}"
        for key in ("losses", "discriminators")
        if getattr(config, key)
    ]
    if config.strategy.name != "plain":
        problems.append(
            f"strategy.name: expected plain with the generator {name}, got {config.strategy.name}"
        )
    raise_all(problems)


def denoising(config: TrainConfig, generator: Generator) -> Task:
    """Return the task for what the generator denoises: pixels, or latents.

    Raises:
        ConfigError: the generator is no diffusion model, or a setting does not go with the task.
        UnknownNameError: no such schedule or sampler.
    """
    if generator.latents is not None:
        return LatentDenoisingTask(config, generator.latents)
    if config.generator.name != PIXEL:
        raise ConfigError(
            f"task: denoising is for the generators {PIXEL} and seesr, got {config.generator.name}; use task=gan"
        )
    return DenoisingTask(config, generator)
