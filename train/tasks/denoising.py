"""Denoising: pictures with noise of every strength, and the network says what the noise is.

Ho et al., "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, section 3.4; told the measurement besides, as
Saharia et al., arXiv 2104.07636, tell theirs the low-quality picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from accelerate.state import PartialState
from torch import Tensor, nn

from hypir_core.components import create_sampler, create_scheduler
from hypir_core.diffusion.prediction import add_noise, predict_x0
from hypir_core.diffusion.schedule import a_bars64
from hypir_core.errors import ConfigError
from hypir_core.image.ranges import AnyRange, Range
from hypir_core.physics.data_terms import Measurement
from hypir_core.physics.guidance import Guidance
from hypir_core.physics.operator import PsfOperator
from hypir_core.weights.spec import Prediction

from ..config import TrainConfig
from ..config.denoising import DenoisingConfig
from ..data.batch import Batch
from ..data.measured import Measured
from ..data.seeds import generator_for, uniform
from ..generators import Generator
from ..generators.light import Light, light_of
from ..losses import Compared
from ..strategies import strategy_of
from .base import Attempt

GRID = (0.1, 0.5, 0.9)
"""Where the prediction is measured, as shares of all timesteps."""

LEAST_SIGNAL = 0.1
"""Losses compare clean estimates of samples whose ā is at least this."""


class DenoisingTask:
    """The error of the prediction at a random timestep, and the clean estimate beside its target."""

    def __init__(self, config: TrainConfig, generator: Generator):
        """Take the settings.

        Raises:
            ConfigError: a setting does not go with this task.
            UnknownNameError: no such schedule or sampler.
        """
        if config.accumulation > 1:
            raise ConfigError(
                "accumulation must be 1 with task=denoising, whose noise is drawn for every step; make data.batch_size "
                "larger"
            )
        self._config, self._settings = config, config.denoising
        self.values: AnyRange = generator.gives
        self._scheduler = create_scheduler(self._settings.schedule, self._settings.schedule_options)
        self._a_bars = a_bars64(self._scheduler.as_schedule())
        self._conditional = bool(config.generator.options.get("conditional", True))
        self._strategy = strategy_of(config)
        self._level_a_bars = [a_bars64(each.as_schedule()) for each in self._strategy.schedules(config)]
        physics = config.data.physics
        self._measured = Measured(physics) if physics else None
        self._rank = PartialState().process_index

    def attempt(self, module: nn.Module, batch: Batch, step: int) -> Attempt:
        """Return the error of the prediction, and the clean estimates with their targets.

        Timesteps, noise, and which measurements are left out depend on (seed, step, process) alone.
        """
        draw = generator_for(self._config.seed, "denoising", step, self._rank)
        batch = self._strategy.coarsened(batch, draw)
        light = light_of(self._config, batch)
        x0 = light.to_net(batch.hq)
        a_bar, t = self._noise_levels(len(batch), step, draw)
        a_bar = a_bar.to(x0).view(-1, *[1] * (x0.ndim - 1))
        eps = torch.randn(x0.shape, generator=draw).to(x0)
        told = torch.rand(len(batch), generator=draw) >= self._settings.condition_dropout
        guess = guessed(
            module,
            x0,
            self._told(light, batch, told.to(x0)),
            eps=eps,
            a_bar=a_bar,
            t=t.to(x0),
            kind=self._settings.prediction,
        )
        error = _mean((guess.predicted - guess.wanted).square(), batch.valid)
        compared = Compared(
            image=self.values.apply(light.to_file(guess.x0)),
            target=self.values.apply(batch.hq),
            values=self.values,
            valid=_telling(a_bar, batch),
        )
        weight = self._settings.weight
        return Attempt(batch, compared, {self._settings.prediction.value: (weight, error)} if weight else {})

    def restore(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return what a short run of the sampler makes of the measurements, always of the same noise."""
        settings, light = self._settings, light_of(self._config, batch)
        sampler = create_sampler(
            settings.sampler,
            settings.sampler_keywords,
            model=module,
            scheduler=self._scheduler,
            prediction=settings.prediction.value,
        )
        y = light.condition(batch.lq) if self._conditional else None
        noise = generator_for(self._config.seed, "validation noise")
        edits = (self._guidance(light, batch),) if settings.guide else ()
        made = sampler.sample(batch.hq.shape, batch.hq.device, y, generator=noise, edits=edits)
        return light.to_file(made)

    def _guidance(self, light: Light, batch: Batch) -> Guidance:
        """Return what moves every clean estimate towards the measurements; the light of a batch of one."""
        if len(batch) != 1 or self._measured is None:
            raise ConfigError("denoising.guide wants data.physics, and batches of one picture")
        measured = Measurement(
            y=light.electrons(batch.lq),
            operator=PsfOperator(self._measured.middle_psf, boundary=self._measured.config.boundary),
            background_e=light.background_e,
            read_variance=light.read_variance,
        )
        units = Range(middle=(float(light.middle.flatten()[0]),), width=(float(light.width.flatten()[0]),))
        return Guidance(measured=measured, units=units)

    def checks(self, module: nn.Module, batch: Batch) -> Mapping[str, float]:
        """Return the error of the prediction at fixed timesteps, with fixed noise."""
        light = light_of(self._config, batch)
        x0 = light.to_net(batch.hq)
        return errors_at_grid(
            module,
            x0,
            self._told(light, batch, torch.ones(len(batch)).to(x0)),
            a_bars=self._a_bars,
            kind=self._settings.prediction,
            seed=self._config.seed,
            valid=batch.valid,
        )

    def _told(self, light: Light, batch: Batch, told: Tensor) -> Tensor | None:
        """Return what stands behind x_t: the measurement, zeros where `told` [b] is 0; None for a plain prior."""
        if not self._conditional:
            return None
        return light.condition(batch.lq) * told.view(-1, *[1] * (batch.lq.ndim - 1))

    def _noise_levels(self, count: int, step: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ā [count], float64, and the timesteps of the run's own schedule that have it.

        A strategy's own schedules decide how often which noise is seen. The network is always told the timestep at which
        its own schedule has that much noise, a fraction between two where there is none.
        """
        total = len(self._a_bars)
        t = drawn_timesteps(self._settings, count, total=total, step=step, draw=draw)
        if not self._level_a_bars:
            return self._a_bars[t], t.double()
        chosen = [int(uniform(draw, 0, len(self._level_a_bars))) for _ in range(count)]
        a_bar = torch.stack(
            [
                self._level_a_bars[level][int(at) * len(self._level_a_bars[level]) // total]
                for level, at in zip(chosen, t, strict=True)
            ]
        )
        a_bar = a_bar.clamp(float(self._a_bars[-1]), float(self._a_bars[0]))
        return a_bar, timestep_of(a_bar, self._a_bars)


def drawn_timesteps(
    settings: DenoisingConfig, count: int, *, total: int, step: int, draw: torch.Generator
) -> Tensor:
    """Return timesteps [count], int64: of all `total`, or, where the settings begin below, of the first so many."""
    grown = min(1.0, step / settings.begins_steps) if settings.begins_steps else 1.0
    share = settings.begins_below + (1 - settings.begins_below) * grown
    return torch.randint(max(1, round(share * total)), (count,), generator=draw)


def errors_at_grid(
    module: Callable[..., Tensor],
    x0: Tensor,
    told: Tensor | None,
    *,
    a_bars: Tensor,
    kind: Prediction,
    seed: int,
    valid: Tensor | None = None,
) -> dict[str, float]:
    """Return the mean squared error of the prediction at the timesteps of `GRID`, with noise that is always the same.

    `module`, `x0`, `told` and `kind` are those of `guessed`, `a_bars` [timesteps] the schedule's.
    """
    found = {}
    for share in GRID:
        t = min(round(share * len(a_bars)), len(a_bars) - 1)
        guess = guessed(
            module,
            x0,
            told,
            eps=torch.randn(x0.shape, generator=generator_for(seed, "grid", t)).to(x0),
            a_bar=a_bars[t].to(x0),
            t=torch.full((len(x0),), float(t)).to(x0),
            kind=kind,
        )
        error = _mean((guess.predicted - guess.wanted).square(), valid)
        found[f"{kind.value}_t{share:g}"] = float(error)
    return found


def timestep_of(a_bar: Tensor, a_bars: Tensor) -> Tensor:
    """Return where a falling curve [timesteps] has the values `a_bar` [n]: timesteps, fractions between two."""
    rising = a_bars.flip(0)
    above = torch.searchsorted(rising, a_bar).clamp(1, len(rising) - 1)
    low, high = rising[above - 1], rising[above]
    return len(rising) - 1 - (above - 1 + (a_bar - low) / (high - low))


@dataclass(frozen=True, eq=False)
class Guess:
    """What a network says of a noised picture, float32."""

    predicted: Tensor
    wanted: Tensor
    """What it should say."""
    x0: Tensor
    """The clean estimate that follows from what it says."""


def guessed(
    module: Callable[..., Tensor],
    x0: Tensor,
    told: Tensor | None,
    *,
    eps: Tensor,
    a_bar: Tensor,
    t: Tensor,
    kind: Prediction,
) -> Guess:
    """Noise pictures and ask the network; the one formula of every training of this kind.

    Args:
        module: x_t with `told` behind it, and timesteps [b] → a prediction.
        x0: clean pictures [b c h w] in network units.
        told: [b c' h w], or None.
        eps: the noise, like x0.
        a_bar: ā, of the shape [b 1 1 1] or of one number.
        t: timesteps [b].
        kind: what is predicted: ε, v = √ā·ε − √(1 − ā)·x0, x0, or x_t − x0.
    """
    x = add_noise(x0, eps, a_bar=a_bar)
    predicted = module(x if told is None else torch.cat([x, told], 1), t).float()
    wanted = {
        Prediction.eps: lambda: eps,
        Prediction.v: lambda: a_bar**0.5 * eps - (1 - a_bar) ** 0.5 * x0,
        Prediction.x0: lambda: x0,
        Prediction.difference: lambda: x - x0,
    }[kind]()
    return Guess(predicted, wanted, predict_x0(x, predicted, a_bar=a_bar, kind=kind))


def _telling(a_bar: Tensor, batch: Batch) -> Tensor:
    """Return where an estimate says something of the picture [b 1 h w]: not where it is guessed from noise alone.

    There an error of ε counts 1/√ā times in the estimate, which would drown every other loss.
    """
    telling = (a_bar >= LEAST_SIGNAL).expand(len(batch), 1, *batch.hq.shape[2:])
    return telling if batch.valid is None else telling & batch.valid.bool()


def _mean(error: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean over what is valid."""
    if valid is None:
        return error.mean()
    counts = valid.expand(error.shape).to(error)
    return (torch.nan_to_num(error) * counts).sum() / counts.sum().clamp(min=1)
