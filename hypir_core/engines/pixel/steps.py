"""Which steps a run takes: solver, timesteps, and where a level begins."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...diffusion.samplers import SAMPLERS
from ...diffusion.samplers.base import Sampler, Step, plan_steps
from ...diffusion.schedule import a_bars64
from ...diffusion.spacing import Spacing
from ...diffusion.timesteps import karras_timesteps, strided_timesteps, timesteps
from ...errors import ConfigError
from ...weights.pixel_spec import PixelSpec
from .levels import first_timesteps
from .network import build_schedule
from .options import STEPS, PixelOptions, StepTimes


def solver_of(options: PixelOptions) -> Sampler:
    """Return the rule of a step.

    Raises:
        UnknownNameError: no such solver.
        ConfigError: the solver has no eta.
    """
    return SAMPLERS.create(options.solver, {} if options.eta is None else {"eta": options.eta})


def steps_of(spec: PixelSpec, options: PixelOptions, *, where: str) -> tuple[tuple[Step, ...], ...]:
    """Return the steps of every level, the coarsest first.

    Raises:
        ConfigError: more steps than timesteps, or several where the network restores in one.
    """
    curve = a_bars64(build_schedule(spec, where=where).as_schedule())
    if spec.one_step_t is not None:
        if options.steps not in {None, 1} or options.cascade or options.prior:
            raise ConfigError(
                f"{where}: these weights restore in one step, from the measurement; leave out steps, cascade and prior"
            )
        level = float(curve[spec.one_step_t])
        return ((Step(index=0, of=1, t=spec.one_step_t, a_bar=level, a_bar_next=1.0),),)
    wanted = STEPS if options.steps is None else options.steps
    whole = plan_steps(curve, _visited(curve, wanted, options.step_times))
    finer = first_timesteps(curve)
    levels = []
    for number, _ in enumerate(options.cascade, 1):
        steps = min(max(1, wanted // (number + 1)), len(finer))
        levels.append(plan_steps(finer, _visited(finer, steps, options.step_times)))
    return (whole, *levels)


def _visited(curve: Tensor, steps: int, times: StepTimes) -> Sequence[float]:
    if times is StepTimes.karras:
        return karras_timesteps(curve, steps)
    if times is StepTimes.strided:
        return strided_timesteps(len(curve), steps)
    return timesteps(len(curve), steps, Spacing(times.value))
