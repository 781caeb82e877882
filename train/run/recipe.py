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

from ..config import TrainConfig, Turn
from ..data.batch import Batch
from ..discriminators import Rival
from ..discriminators.rival import mean_logit
from ..players import optimiser_step, trained_state
from ..strategies import faded
from ..tasks import Attempt
from .best import export_spec, found_so_far, validate_average, validation_due
from .building import Run, build
from .checkpoint import amend_checkpoint, best_as_plain, save_checkpoint
from .checkpoint_folders import checkpoint_dir, checkpoints
from .divergence import check_weights
from .export import export_generator
from .logbook import StepLog, write_histograms, write_images, write_scalars
from .meter import Meter
from .phases import begins_at
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
        if step > run.start and begins_at(config, step):
            run.stream = run.open_stream(step, run.stream.position)
        one_step(run, step, step_log)
        step_log.meter.step_done()
        done = step + 1
        last = done == config.max_steps
        if done % config.tracking.every == 0 or last:
            run.latest = write_scalars(run, done, step_log)
            bar.values(done, run.latest)
        bar.step(done)
        write_images(run, done, step_log)
        write_histograms(run, done, step_log)
        stopping = stop.anywhere(run.accelerator)
        with step_log.meter.apart():
            _keep(run, done, stopping=stopping, last=last)
        if _no_better(run):
            log.info(
                "step %d  stopped: %d validations without a new best (validation.stop_after)",
                done,
                run.misses,
            )
            if not last:
                with step_log.meter.apart():
                    checkpoint(run, done)
            break
        if stopping:
            log.info("stopped at step %d; the same command goes on from there", done)
            break
    return done


def one_step(run: Run, step: int, step_log: StepLog) -> None:
    """Move every player that is due, once, in the order that the settings say."""
    rivals = [rival for rival in run.rivals if rival.due(step)]
    if run.config.turn is Turn.discriminators_first and run.player.due(step):
        (batch, _), *_ = _batches(run, step, step_log)
        attempt = run.task.attempt(run.player.module, batch, step)
        for rival in rivals:
            discriminator_step(run, rival, step, [attempt.detached()], step_log)
        generator_step(run, step, step_log, made=attempt)
        return
    attempts = generator_step(run, step, step_log) if run.player.due(step) else []
    for rival in rivals:
        if not (attempts and run.config.share_batch):
            attempts = attempts_only(run, step, step_log)
        discriminator_step(run, rival, step, attempts, step_log)


def generator_step(run: Run, step: int, step_log: StepLog, *, made: Attempt | None = None) -> list[Attempt]:
    """Move the generator once; return what it made, for the discriminators.

    With `made` it learns from that, rather than from new batches.
    """
    attempts = []
    for batch, last in [(made.batch, True)] if made else _batches(run, step, step_log):
        with _syncing(run, run.player.module, last=last):
            attempt = made or run.task.attempt(run.player.module, batch, step)
            losses = generator_losses(run, step, attempt)
            run.watch.check(step, {**losses.terms, "total": losses.total})
            _measure_loss_gradients(run, step, losses, step_log)
            run.accelerator.backward(losses.total / run.config.accumulation)
        for name, value in losses.terms.items():
            step_log.add(f"loss/{name}", value)
            step_log.add(f"weighted/{name}", losses.weights[name] * value)
        step_log.add("loss/total", losses.total)
        attempts.append(attempt.detached())
    step_log.add("gradient/generator", optimiser_step(run.player, run.accelerator, step))
    step_log.latest = attempts[-1]
    return attempts


def generator_losses(run: Run, step: int, attempt: Attempt) -> StepLosses:
    """Return every loss of the generator at `step`; a term whose weight is still 0 is not computed.

    Raises:
        ConfigError: no loss has a weight at this step.
    """
    terms = {name: term for name, (_, term) in attempt.terms.items()}
    weights = {name: weight for name, (weight, _) in attempt.terms.items()}
    if compared := attempt.compared:
        for entry in run.losses:
            if weight := entry.weight_at(step):
                terms[entry.name], weights[entry.name] = entry.of(compared), weight
        for rival in run.rivals:
            for name, (weight, term) in rival.generator_terms(step, compared, run.accelerator).items():
                terms[name], weights[name] = term, weight
    if not terms:
        raise ConfigError(f"losses: none has a weight at step {step}; let one begin earlier")
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return StepLosses(terms, weights, total)


def discriminator_step(run: Run, rival: Rival, step: int, attempts: list[Attempt], step_log: StepLog) -> None:
    """Move one discriminator once, on images that the generator has already made."""
    seen = [attempt.compared for attempt in attempts if attempt.compared]
    for number, compared in enumerate(seen, 1):
        with _syncing(run, rival.player.module, last=number == len(seen)):
            terms, logits = rival.own_terms(step, compared)
            run.watch.check(step, {name: term for name, (_, term) in terms.items()})
            total = torch.stack([weight * term for weight, term in terms.values()]).sum()
            run.accelerator.backward(total / len(seen))
        for name, (_, term) in terms.items():
            step_log.add(f"loss/{name}", term)
        for name, value in logits.items():
            step_log.add(f"logits/{name}", mean_logit(value))
        step_log.logits |= logits
    step_log.add(f"gradient/{rival.player.name}_own", optimiser_step(rival.player, run.accelerator, step))


@torch.no_grad()
def attempts_only(run: Run, step: int, step_log: StepLog) -> list[Attempt]:
    """Return what the generator makes of new batches, for discriminators only."""
    return [
        run.task.attempt(run.player.module, batch, step).detached()
        for batch, _ in _batches(run, step, step_log)
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
            **found_so_far(run),
            "request": run.point.request,
            "weights": spec_to_metadata(export_spec(run, done)),
        },
        aside=run.aside,
        best_steps=[step for _, step in run.scores],
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


def _batches(run: Run, step: int, step_log: StepLog) -> Iterator[tuple[Batch, bool]]:
    """Yield the batches of one optimiser step, each with whether it is the last one."""
    for number in range(1, run.config.accumulation + 1):
        asked = time.perf_counter()
        batch = next(run.stream)
        waited_s = time.perf_counter() - asked
        step_log.meter.add(samples=len(batch) * run.accelerator.num_processes, waited_s=waited_s)
        yield faded(batch, run.config.fade_at(step)), number == run.config.accumulation


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
    validate_average(run, done)
    if not due and any(step == done for _, step in run.scores):
        checkpoint(run, done)
    elif due and run.accelerator.is_main_process:
        facts = {"best": best_as_plain(run.best), **found_so_far(run)}
        try:
            amend_checkpoint(checkpoint_dir(run.config.output_dir, done), facts)
        except (OSError, HypirError) as err:
            log.warning(
                "step %d  the checkpoint cannot be told its validation (%s), training goes on", done, err
            )


def _no_better(run: Run) -> bool:
    validation = run.config.validation
    return bool(validation and validation.stop_after and run.misses >= validation.stop_after)


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
