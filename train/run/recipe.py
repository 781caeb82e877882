"""All of training: build → (generator step, discriminator steps) → log → checkpoint → validate → export."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hypir_core.errors import ConfigError, HypirError, TrainingDivergedError
from hypir_core.weights.spec import spec_to_metadata

from ..config import TrainConfig
from ..data.batch import Batch
from ..discriminators import Rival
from ..players import optimiser_step, trained_state
from .best import export_spec, validate_average, validation_due
from .building import Run, build
from .checkpoint import amend_checkpoint, best_as_plain, save_checkpoint
from .checkpoint_folders import checkpoint_dir, checkpoints
from .divergence import check_weights
from .export import export_generator
from .logbook import Generated, StepLog, write_images, write_scalars
from .meter import Meter
from .progress_bar import ProgressBar, progress_bar
from .start_message import start_lines
from .stop import StopRequest, stop_on_signals

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StepLosses:
    """The losses of one forward pass."""

    terms: Mapping[str, Tensor]
    """Every term as it is."""
    weights: Mapping[str, float]
    """What each counts at this step."""
    total: Tensor
    """Their weighted sum."""


def train(config: TrainConfig) -> Path:
    """Run the training that `config` describes and return the run folder.

    It goes on from the newest checkpoint in that folder, if there is one and the settings do not say otherwise. The
    first SIGINT or SIGTERM ends it early with a checkpoint and an export.

    Raises:
        ConfigError: the settings do not fit the data, the machine or the checkpoint; names every key.
        TrainingDivergedError: a loss, gradient or weight is lost; the last checkpoint is untouched.
        HypirError: a checkpoint cannot be written or read.
    """
    with stop_on_signals() as stop:
        run = build(config)
        if run.accelerator.is_main_process:
            for line in start_lines(run):
                log.info("%s", line)
        try:
            with progress_bar(run) as bar:
                finish(run, steps(run, stop, bar))
        except TrainingDivergedError as err:
            raise TrainingDivergedError(err.step, err.term, err.value, advice=_way_out(config)) from err
        finally:
            run.trackers.close()
    return config.output_dir


def steps(run: Run, stop: StopRequest, bar: ProgressBar) -> int:
    """Go from `run.start` to max_steps, or to where somebody asks to stop; return the steps done."""
    config, done = run.config, run.start
    step_log = StepLog(Meter(run.accelerator.device))
    if validation_due(run, done) and not _already_validated(run, done):
        with step_log.meter.apart():
            validate_average(run, done)
    for step in range(run.start, config.max_steps):
        generated = generator_step(run, step, step_log) if run.player.due(step) else []
        for rival in run.rivals:
            if rival.due(step):
                if not (generated and config.share_batch):
                    generated = generate(run, step_log)
                discriminator_step(run, rival, step, generated, step_log)
        step_log.meter.step_done()
        done = step + 1
        last = done == config.max_steps
        if done % config.tracking.every == 0 or last:
            bar.values(done, write_scalars(run, done, step_log))
        bar.step(done)
        write_images(run, done, step_log)
        stopping = stop.anywhere(run.accelerator)
        with step_log.meter.apart():
            _keep(run, done, stopping=stopping, last=last)
        if stopping:
            log.info("stopped at step %d; the same command goes on from there", done)
            break
    return done


def generator_step(run: Run, step: int, step_log: StepLog) -> list[Generated]:
    """Move the generator once; return what it made, for the discriminators."""
    generated = []
    for batch, last in _batches(run, step_log):
        with _syncing(run, run.player.module, last=last):
            image_01 = run.generator.restore(run.player.module, batch)
            losses = generator_losses(run, step, image_01, batch)
            run.watch.check(step, {**losses.terms, "total": losses.total})
            _measure_loss_gradients(run, step, losses, step_log)
            run.accelerator.backward(losses.total / run.config.accumulation)
        for name, value in losses.terms.items():
            step_log.add(f"loss/{name}", value)
            step_log.add(f"weighted/{name}", losses.weights[name] * value)
        step_log.add("loss/total", losses.total)
        generated.append(Generated(batch, image_01.detach()))
    step_log.add("gradient/generator", optimiser_step(run.player, run.accelerator, step))
    step_log.latest = generated[-1]
    return generated


def generator_losses(run: Run, step: int, image_01: Tensor, batch: Batch) -> StepLosses:
    """Return every loss of the generator at `step`; a term whose weight is still 0 is not computed."""
    image_pm1, target_pm1 = image_01.float() * 2 - 1, batch.hq_01 * 2 - 1
    terms: dict[str, Tensor] = {}
    weights: dict[str, float] = {}
    for entry in run.losses:
        if weight := entry.weight_at(step):
            terms[entry.name], weights[entry.name] = entry.loss(image_pm1, target_pm1), weight
    for rival in run.rivals:
        for name, (weight, term) in rival.generator_terms(
            step, image_pm1, target_pm1, run.accelerator
        ).items():
            terms[name], weights[name] = term, weight
    total = image_pm1.new_zeros(())
    for name, term in terms.items():
        total = total + weights[name] * term
    return StepLosses(terms, weights, total)


def discriminator_step(
    run: Run, rival: Rival, step: int, generated: list[Generated], step_log: StepLog
) -> None:
    """Move one discriminator once, on images that the generator has already made."""
    for number, each in enumerate(generated, 1):
        with _syncing(run, rival.player.module, last=number == len(generated)):
            terms, logits = rival.own_terms(step, each.image_01.float() * 2 - 1, each.batch.hq_01 * 2 - 1)
            run.watch.check(step, {name: term for name, (_, term) in terms.items()})
            total = torch.stack([weight * term for weight, term in terms.values()]).sum()
            run.accelerator.backward(total / len(generated))
        for name, (_, term) in terms.items():
            step_log.add(f"loss/{name}", term)
        for name, value in logits.items():
            step_log.add(f"logits/{name}", value)
    step_log.add(f"gradient/{rival.player.name}_own", optimiser_step(rival.player, run.accelerator, step))


@torch.no_grad()
def generate(run: Run, step_log: StepLog) -> list[Generated]:
    """Return new batches with what the generator makes of them, for discriminators only."""
    return [
        Generated(batch, run.generator.restore(run.player.module, batch))
        for batch, _ in _batches(run, step_log)
    ]


def checkpoint(run: Run, done: int) -> None:
    """Write a checkpoint of `done` steps; every process calls this.

    Raises:
        TrainingDivergedError: a weight is not finite.
        HypirError: it cannot be written.
    """
    for name, player in run.players.items():
        state = trained_state(run.accelerator.unwrap_model(player.module))
        check_weights(done, name, state.values())
    save_checkpoint(
        run.config.output_dir,
        step=done,
        players=run.players,
        position=run.stream.position,
        best=run.best,
        settings=run.settings,
        keep=run.config.checkpoint,
        accelerator=run.accelerator,
        facts={
            "validated": run.validated,
            "request": run.point.request,
            "weights": spec_to_metadata(export_spec(run, done)),
        },
        aside=run.aside,
    )
    run.aside = ()


def finish(run: Run, done: int) -> None:
    """Export the weights; every process calls this."""
    state = trained_state(run.accelerator.unwrap_model(run.player.module))
    check_weights(done, run.player.name, state.values())
    for path in export_generator(
        run.config.output_dir,
        run.player,
        export_spec(run, done),
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


def _keep(run: Run, done: int, *, stopping: bool, last: bool) -> None:
    """Write the checkpoint that is due, then validate: a validation that fails or is killed loses no steps."""
    due = stopping or last or done % run.config.checkpoint.every == 0
    if due:
        checkpoint(run, done)
    if not validation_due(run, done) or (stopping and not last):
        return
    improved = validate_average(run, done)
    if improved and run.config.checkpoint.keep_best and not due:
        checkpoint(run, done)
    elif due and run.accelerator.is_main_process:
        facts = {"best": best_as_plain(run.best), "validated": done}
        try:
            amend_checkpoint(checkpoint_dir(run.config.output_dir, done), facts)
        except (OSError, HypirError) as err:
            log.warning(
                "step %d  the checkpoint cannot be told its validation (%s), training goes on", done, err
            )


def _already_validated(run: Run, done: int) -> bool:
    """Say whether the run was stopped after the validation of this step, not between checkpoint and validation."""
    return done > 0 and (run.validated is None or run.validated >= done)


def _way_out(config: TrainConfig) -> str:
    """Return what to do about a training that diverged; every command here is accepted."""
    names = [folder.name for folder in checkpoints(config.output_dir)]
    if not names:
        return "there is no checkpoint yet; start again with a lower learning rate or weight of this term"
    older = f" checkpoint.resume_from={names[0]} goes back further." if len(names) > 1 else ""
    return (
        f"{names[-1]} is whole. Go on from it with a lower learning rate or weight of this term: the same command with "
        f"checkpoint.resume=all generator.optimiser.lr={config.generator.optimiser.lr / 2:g}.{older}"
    )
