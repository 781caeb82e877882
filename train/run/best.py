"""Measuring the moving average on the fixed pairs, and keeping the best weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import broadcast

from hypir_core.errors import WeightsError
from hypir_core.weights.spec import WeightsSpec

from ..data.batch import Batch
from ..players import averaged_state
from .building import Run
from .checkpoint import Best
from .export import BEST, write_weights
from .sharding import whole
from .validation import FixedPairs, Validated, using_weights, validate
from .validation_pictures import write_pictures

log = logging.getLogger(__name__)


def validation_due(run: Run, done: int) -> bool:
    """Say whether `done` steps are a place to measure: before the first step, every so many, at the end."""
    config = run.config.validation
    return config is not None and (done % config.every == 0 or done == run.config.max_steps)


def validate_average(run: Run, done: int) -> bool:
    """Measure what training would export; say whether it is the best so far. Every process calls this.

    Before the first step it is only measured, for comparison.
    """
    config = run.config.validation
    assert config is not None
    found = measure_average(run, run.pairs) if run.pairs else None
    if found and run.accelerator.is_main_process:
        run.trackers.scalars(done, found.scalars)
        if (grid := found.grid) is not None:
            run.trackers.picture(done, "val/lq_bicubic_restored_target", grid)
        write_pictures(run.config.output_dir, done, found.shown)
        values = "  ".join(f"{name} {value:.3f}" for name, value in found.scalars.items())
        log.info("step %d  %s", done, values)
    run.validated = done
    _plateaus(run, done, {**found.scalars, **found.over_all} if found else {})
    pairs = run.pairs.hash if run.pairs else ""
    score = _from_main(run, found.score if found else 0.0)
    better = run.best is None or not _comparable(run.best, config.best, pairs) or score > run.best.value
    if done == 0:
        return False
    comparable = run.best is None or _comparable(run.best, config.best, pairs)
    ranked = [*(run.scores if comparable else []), (score, done)]
    run.scores = sorted(ranked, key=lambda each: -each[0])[: run.config.checkpoint.keep_best]
    if not _from_main(run, float(better)):
        run.misses += 1
        return False
    run.misses = 0
    weights = whole(averaged_state(run.player, run.accelerator))
    if not _written(run, done, weights):
        run.scores = [each for each in run.scores if each[1] != done]
        return False
    run.best = Best(step=done, metric=config.best, value=score, pairs=pairs)
    return True


def found_so_far(run: Run) -> dict[str, Any]:
    """Return what a checkpoint must know of the validations so far, besides the best."""
    return {"validated": run.validated, "scores": run.scores, "misses": run.misses}


def export_spec(run: Run, done: int) -> WeightsSpec:
    """Return what goes into the metadata of weights after `done` steps."""
    return run.generator.spec(run.config.export, f"train at commit {run.commit}, {done} steps")


def _plateaus(run: Run, done: int, measured: Mapping[str, float]) -> None:
    """Show every player's plateau the number that it looks at; every process sees the main one's."""
    for name, player in run.players.items():
        if player.plateau is None or done == 0:
            continue
        metric = player.plateau.config.metric
        values = {**measured, **run.latest}
        if run.accelerator.is_main_process and metric not in values:
            player.look_at(values)
        value = _from_main(run, values.get(metric, 0.0))
        if player.look_at({metric: value}):
            rate = float(player.optimiser.param_groups[0]["lr"])
            log.info(
                "step %d  %s has reached a plateau, the learning rate of %s is %.2e", done, metric, name, rate
            )


def _comparable(best: Best, metric: str, pairs: str) -> bool:
    """Say whether a score was measured with the same metric on the same pairs."""
    return best.metric == metric and best.pairs in {"", pairs}


def _written(run: Run, done: int, weights: Any) -> bool:
    """Write the best weights; say whether that worked. A full disk is no reason to lose a training."""
    fine = 1.0
    if run.accelerator.is_main_process:
        try:
            write_weights(
                run.config.output_dir / BEST,
                weights,
                export_spec(run, done),
                original_pth=run.config.export.original_pth,
            )
        except WeightsError as err:
            log.warning("step %d  the best weights cannot be written, training goes on: %s", done, err)
            fine = 0.0
    return bool(_from_main(run, fine))


def measure_average(run: Run, pairs: FixedPairs) -> Validated:
    """Return what the moving average, or what there is instead of one, does on the pairs."""
    module = run.accelerator.unwrap_model(run.player.module)

    @torch.no_grad()
    def restore(batch: Batch) -> torch.Tensor:
        return run.task.restore(module, batch.to(run.accelerator.device)).float().cpu()

    @torch.no_grad()
    def checks(batch: Batch) -> Mapping[str, float]:
        return run.task.checks(module, batch.to(run.accelerator.device))

    with using_weights(module, averaged_state(run.player, run.accelerator)):
        return validate(pairs, restore, checks)


def _from_main(run: Run, value: float) -> float:
    """Give every process the value of the main one."""
    shared: Any = broadcast(torch.tensor(value, device=run.accelerator.device))
    return float(shared)
