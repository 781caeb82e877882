"""All of training: build → (generator step, discriminator steps) → log → checkpoint → export."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from hypir_core.errors import ConfigError, TrainingDivergedError
from hypir_core.weights.spec import WeightsSpec

from .checkpoint import Best, load_checkpoint, newest_checkpoint, save_checkpoint
from .config import Precision, TrainConfig
from .data.bad_files import BadFiles
from .data.batch import Batch
from .data.degrading import build_mixture
from .data.opening import open_source
from .data.pairs import PairSequence
from .data.stream import PairStream, Position
from .discriminators import Rival, build_rivals
from .export import BEST, export_generator, write_weights
from .generators import Generator, build_generator
from .losses import WeightedLoss, build_losses
from .options import check_options
from .players import Player, build_player, move, trained_state
from .run_folder import describe_run, resume_settings
from .sharding import check_distribution, is_split, whole
from .stop import StopRequest, stop_on_signals
from .tracking import Meter, Tracker, open_trackers, picture_grid
from .validation import FixedPairs, Validated, averaged_weights, fixed_pairs, validate

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Run:
    """Everything a step needs. Only `best` changes."""

    config: TrainConfig
    accelerator: Accelerator
    generator: Generator
    player: Player
    rivals: tuple[Rival, ...]
    losses: tuple[WeightedLoss, ...]
    stream: PairStream
    pairs: FixedPairs | None
    trackers: tuple[Tracker, ...]
    settings: Mapping[str, object]
    commit: str
    start: int
    """Steps done before this process started."""
    best: Best | None

    @property
    def players(self) -> dict[str, Player]:
        """All players by name."""
        return {player.name: player for player in (self.player, *(rival.player for rival in self.rivals))}


@dataclass(frozen=True, eq=False)
class Shot:
    """A batch and what the generator made of it, without gradient."""

    batch: Batch
    image_01: Tensor


@dataclass(frozen=True, eq=False)
class StepLosses:
    """The losses of one forward pass: every term as it is, and their weighted sum."""

    terms: Mapping[str, Tensor]
    total: Tensor


@dataclass(eq=False)
class StepLog:
    """What happened between two lines of scalars; sums stay on the device until they are read."""

    meter: Meter
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    shot: Shot | None = None
    """The latest one, for the pictures."""

    def add(self, name: str, value: Tensor) -> None:
        """Count one value of `name`."""
        self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()
        self.counts[name] = self.counts.get(name, 0) + 1

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means over the steps and processes, and the meter's figures; start again."""
        means = {name: total.float() / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        reduced: Any = accelerator.reduce(
            {name: mean.to(accelerator.device) for name, mean in means.items()}, "mean"
        )
        figures: dict[str, float] = {name: float(mean) for name, mean in reduced.items()}
        return figures | self.meter.read()


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


def build(config: TrainConfig) -> Run:
    """Make everything, and bring it to the newest checkpoint."""
    check_options(config)
    accelerator = _accelerator(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    generator = build_generator(config, accelerator.device)
    source = open_source(config.data, scale=generator.scale)
    if config.data.crop_px % generator.grain_px:
        raise ConfigError(
            f"data.crop_px: {config.data.crop_px} must divide by {generator.grain_px}, which the generator "
            f"{config.generator.name} needs"
        )
    losses = build_losses(config.losses, accelerator.device)
    mixture = build_mixture(
        config.data.degrade, scale=generator.scale, sharpen_target=config.data.sharpen_target
    )
    settings = resume_settings(config, data_hash=source.hash, base_hash=generator.base_hash)
    newest = newest_checkpoint(config.output_dir)
    if newest and not config.checkpoint.resume:
        raise ConfigError(
            f"output_dir: {config.output_dir} already holds {newest.name}; "
            "use another folder, or checkpoint.resume=true"
        )
    if config.channels_last:
        generator.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    player = build_player(
        "generator",
        generator.module,
        config.generator.optimiser,
        ema=config.generator.ema,
        accelerator=accelerator,
        max_steps=config.max_steps,
    )
    rivals = build_rivals(config, accelerator)
    players = {each.name: each for each in (player, *(rival.player for rival in rivals))}
    resumed = (
        load_checkpoint(newest, players=players, settings=settings, accelerator=accelerator)
        if newest
        else None
    )
    commit = "unknown"
    trackers: tuple[Tracker, ...] = ()
    if accelerator.is_main_process:
        commit = describe_run(config, data_hash=source.hash, processes=accelerator.num_processes)
        trackers = open_trackers(
            config.tracking,
            config.output_dir,
            start_step=resumed.step if resumed else 0,
            settings=dict(settings),
        )
        if newest:
            log.info("going on from %s", newest)
    stream = PairStream(
        PairSequence(source, config.data, mixture, seed=config.seed),
        config.data,
        device=accelerator.device,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
        position=resumed.position if resumed else Position(),
        report=BadFiles(
            config.output_dir,
            source.skipped,
            process=accelerator.process_index,
            resumed=resumed is not None,
        ).add,
    )
    return Run(
        config=config,
        accelerator=accelerator,
        generator=generator,
        player=player,
        rivals=rivals,
        losses=losses,
        stream=stream,
        pairs=_pairs(config, generator, accelerator),
        trackers=trackers,
        settings=settings,
        commit=commit,
        start=resumed.step if resumed else 0,
        best=resumed.best if resumed else None,
    )


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


def write_scalars(run: Run, done: int, step_log: StepLog) -> None:
    """Log the means since the last call; every process calls this."""
    values = step_log.read(run.accelerator)
    values |= {
        f"lr/{name}": float(player.lr_schedule.get_last_lr()[0]) for name, player in run.players.items()
    }
    for tracker in run.trackers:
        tracker.scalars(done, values)
    if run.accelerator.is_main_process:
        left_s = (run.config.max_steps - done) * values["speed/step_s"]
        terms = "  ".join(
            f"{name.removeprefix('loss/')} {value:.5f}"
            for name, value in values.items()
            if name.startswith("loss/")
        )
        log.info(
            "step %d/%d  %s  lr %.2e  %.3f s/step (%.0f%% waiting for data)  %s left",
            *(done, run.config.max_steps, terms, values["lr/generator"], values["speed/step_s"]),
            *(100 * values["speed/waiting_for_data"], time.strftime("%Hh%Mm%Ss", time.gmtime(left_s))),
        )


def write_images(run: Run, done: int, step_log: StepLog) -> None:
    """Log a grid of the latest training pairs when it is time: low quality, restored, target."""
    every, shot = run.config.tracking.images_every, step_log.shot
    if not (every and done % every == 0 and shot and run.trackers):
        return
    rows = list(zip(shot.batch.lq_01[:8], shot.image_01[:8], shot.batch.hq_01[:8], strict=True))
    for tracker in run.trackers:
        tracker.picture(done, "train/lq_restored_target", picture_grid(rows))


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


def _accelerator(config: TrainConfig) -> Accelerator:
    precision = "no" if config.precision is Precision.fp32 else config.precision.value
    if config.precision is Precision.fp16 and (config.cpu or not torch.cuda.is_available()):
        raise ConfigError("precision: fp16 needs a GPU; use bf16 or fp32 on the CPU")
    check_distribution(os.environ, config.precision)
    return Accelerator(mixed_precision=precision, cpu=config.cpu)


def _pairs(config: TrainConfig, generator: Generator, accelerator: Accelerator) -> FixedPairs | None:
    # A split network needs all processes for a pass; each then measures the same.
    if config.validation is None or not (accelerator.is_main_process or is_split(accelerator)):
        return None
    return fixed_pairs(config.validation, scale=generator.scale, grain_px=generator.grain_px)


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
