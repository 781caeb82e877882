"""All of training: build → (generator step, discriminator steps) → log → checkpoint → export."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from torch import Tensor, nn

from hypir_core.errors import ConfigError, TrainingDivergedError
from hypir_core.weights.spec import WeightsSpec

from ..config import TrainConfig
from ..data.batch import Batch
from ..discriminators import Rival
from ..players import move, trained_state
from .building import Run, build
from .checkpoint import Best, save_checkpoint
from .export import BEST, export_generator, write_weights
from .logbook import Shot, StepLog, write_images, write_scalars
from .sharding import whole
from .stop import StopRequest, stop_on_signals
from .tracking import Meter
from .validation import FixedPairs, Validated, averaged_weights, validate

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StepLosses:
    """The losses of one forward pass: every term as it is, and their weighted sum."""

    terms: Mapping[str, Tensor]
    total: Tensor


def train(config: TrainConfig) -> Path:
    """Run the training that `config` describes and return the run folder.

    It goes on from the newest checkpoint in that folder, if there is one. The first SIGINT or SIGTERM ends it
    early with a checkpoint and an export.

    Raises:
        ConfigError: the settings do not fit the data, the machine or the checkpoint; names every key.
        TrainingDivergedError: a loss or gradient is not finite; the last checkpoint is untouched.
        HypirError: a checkpoint cannot be written or read.
    """
    with stop_on_signals() as stop:
        run = build(config)
        try:
            finish(run, steps(run, stop))
        finally:
            for tracker in run.trackers:
                tracker.close()
    return config.output_dir


def steps(run: Run, stop: StopRequest) -> int:
    """Go from `run.start` to max_steps, or to where somebody asks to stop; return the steps done."""
    config, done = run.config, run.start
    step_log = StepLog(Meter(run.accelerator.device))
    for step in range(run.start, config.max_steps):
        shots = generator_step(run, step, step_log) if run.player.due(step) else []
        for rival in run.rivals:
            if rival.due(step):
                if not (shots and config.share_batch):
                    shots = imagine(run, step_log)
                discriminator_step(run, rival, step, shots, step_log)
        step_log.meter.step_done()
        done = step + 1
        if done % config.tracking.every == 0 or done == config.max_steps:
            write_scalars(run, done, step_log)
        write_images(run, done, step_log)
        stopping = stop.anywhere(run.accelerator)
        improved = validate_average(run, done)
        if improved or stopping or done % config.checkpoint.every == 0 or done == config.max_steps:
            checkpoint(run, done)
        if stopping:
            log.info("stopped at step %d; the same command goes on from there", done)
            break
    return done


def generator_step(run: Run, step: int, step_log: StepLog) -> list[Shot]:
    """Move the generator once; return what it made, for the discriminators."""
    shots = []
    for batch, last in _batches(run, step_log):
        with _syncing(run, run.player.module, last=last):
            image_01 = run.generator.restore(run.player.module, batch)
            losses = generator_losses(run, step, image_01, batch)
            _check_finite(step, losses.terms)
            _measure_loss_gradients(run, step, losses, step_log)
            run.accelerator.backward(losses.total / run.config.accumulation)
        for name, value in losses.terms.items():
            step_log.add(f"loss/{name}", value)
        step_log.add("loss/total", losses.total)
        shots.append(Shot(batch, image_01.detach()))
    step_log.add("gradient/generator", move(run.player, run.accelerator, step))
    step_log.shot = shots[-1]
    return shots


def generator_losses(run: Run, step: int, image_01: Tensor, batch: Batch) -> StepLosses:
    """Return every loss of the generator at `step`; a term whose weight is still 0 is not computed."""
    image_pm1, target_pm1 = image_01.float() * 2 - 1, batch.hq_01 * 2 - 1
    terms: dict[str, Tensor] = {}
    total = image_pm1.new_zeros(())
    for entry in run.losses:
        if weight := entry.weight_at(step):
            terms[entry.name] = entry.loss(image_pm1, target_pm1)
            total = total + weight * terms[entry.name]
    for rival in run.rivals:
        for name, (weight, term) in rival.generator_terms(
            step, image_pm1, target_pm1, run.accelerator
        ).items():
            terms[name] = term
            total = total + weight * term
    return StepLosses(terms, total)


def discriminator_step(run: Run, rival: Rival, step: int, shots: list[Shot], step_log: StepLog) -> None:
    """Move one discriminator once, on images that the generator has already made."""
    for number, shot in enumerate(shots, 1):
        with _syncing(run, rival.player.module, last=number == len(shots)):
            terms, logits = rival.own_terms(step, shot.image_01.float() * 2 - 1, shot.batch.hq_01 * 2 - 1)
            _check_finite(step, {name: term for name, (_, term) in terms.items()})
            total = torch.stack([weight * term for weight, term in terms.values()]).sum()
            run.accelerator.backward(total / len(shots))
        for name, (_, term) in terms.items():
            step_log.add(f"loss/{name}", term)
        for name, value in logits.items():
            step_log.add(f"logits/{name}", value)
    step_log.add(f"gradient/{rival.player.name}_own", move(rival.player, run.accelerator, step))


@torch.no_grad()
def imagine(run: Run, step_log: StepLog) -> list[Shot]:
    """Return new batches with what the generator makes of them, for discriminators only."""
    return [
        Shot(batch, run.generator.restore(run.player.module, batch)) for batch, _ in _batches(run, step_log)
    ]


def validate_average(run: Run, done: int) -> bool:
    """Measure the moving average when it is time; say whether it is the best so far."""
    config = run.config.validation
    if config is None or not (done % config.every == 0 or done == run.config.max_steps):
        return False
    found = _validate(run, run.pairs) if run.pairs else None
    if found:
        for tracker in run.trackers:
            tracker.scalars(done, found.scalars)
            if found.grid is not None:
                tracker.picture(done, "val/lq_bicubic_restored_target", found.grid)
        log.info(
            "step %d  %s", done, "  ".join(f"{name} {value:.3f}" for name, value in found.scalars.items())
        )
    score = _from_main(run, found.score if found else 0.0)
    if run.best and score <= run.best.value:
        return False
    run.best = Best(done, config.best, score)
    weights = whole(
        run.player.ema.shadow
        if run.player.ema
        else trained_state(run.accelerator.unwrap_model(run.player.module))
    )
    if run.accelerator.is_main_process:
        write_weights(
            run.config.output_dir / BEST,
            weights,
            _spec(run, done),
            original_pth=run.config.export.original_pth,
        )
    return run.config.checkpoint.keep_best


def checkpoint(run: Run, done: int) -> None:
    """Write a checkpoint of `done` steps; every process calls this."""
    save_checkpoint(
        run.config.output_dir,
        step=done,
        players=run.players,
        position=run.stream.position,
        best=run.best,
        settings=run.settings,
        keep=run.config.checkpoint,
        accelerator=run.accelerator,
    )


def finish(run: Run, done: int) -> None:
    """Export the weights; every process calls this."""
    for path in export_generator(
        run.config.output_dir,
        run.player,
        _spec(run, done),
        run.accelerator,
        original_pth=run.config.export.original_pth,
    ):
        log.info("wrote %s", path)
    for rival in run.rivals:
        log.info("wrote %s", rival.write(run.config.output_dir, run.accelerator))
    run.accelerator.wait_for_everyone()


def _batches(run: Run, step_log: StepLog) -> Iterator[tuple[Batch, bool]]:
    """Yield the batches of one optimiser step, each with whether it is the last one."""
    for number in range(1, run.config.accumulation + 1):
        asked = time.perf_counter()
        batch = next(run.stream)
        waited_s = time.perf_counter() - asked
        step_log.meter.add(samples=len(batch) * run.accelerator.num_processes, waited_s=waited_s)
        yield batch, number == run.config.accumulation


@contextmanager
def _syncing(run: Run, module: nn.Module, *, last: bool) -> Iterator[None]:
    """Exchange gradients between processes only with the last of several backward passes."""
    with nullcontext() if last else run.accelerator.no_sync(module):
        yield


def _check_finite(step: int, terms: Mapping[str, Tensor]) -> None:
    values = torch.stack([value.detach().float() for value in terms.values()]).tolist()
    for name, value in zip(terms, values, strict=True):
        if not math.isfinite(value):
            raise TrainingDivergedError(step, name, value)


def _measure_loss_gradients(run: Run, step: int, losses: StepLosses, step_log: StepLog) -> None:
    """Log the norm of each term's own gradient, unweighted, when it is time."""
    every = run.config.tracking.loss_gradients_every
    if not every or step % every:
        return
    endings = run.config.tracking.loss_gradients_of
    parameters = [
        p
        for name, p in run.player.module.named_parameters()
        if p.requires_grad and (not endings or any(f".{end}." in f".{name}" for end in endings))
    ]
    if not parameters:
        raise ConfigError(
            f"tracking.loss_gradients_of: no trained module is called {' or '.join(endings)}; leave it empty"
        )
    for name, term in losses.terms.items():
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        norms = torch.stack([g.norm() for g in gradients if g is not None])
        step_log.add(f"gradient/{name}", norms.norm())


def _validate(run: Run, pairs: FixedPairs) -> Validated:
    module = run.accelerator.unwrap_model(run.player.module)

    @torch.no_grad()
    def restore(batch: Batch) -> Tensor:
        return run.generator.restore(module, batch.to(run.accelerator.device)).float().cpu()

    with averaged_weights(module, run.player.ema):
        return validate(pairs, restore)


def _from_main(run: Run, value: float) -> float:
    """Give every process the value of the main one."""
    shared: Any = broadcast(torch.tensor(value, device=run.accelerator.device))
    return float(shared)


def _spec(run: Run, done: int) -> WeightsSpec:
    return run.generator.spec(run.config.export, f"train at commit {run.commit}, {done} steps")
