"""One loop for both networks: AdamW, a cosine schedule, and a checkpoint from which it goes on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from hypir_core.atomic import atomic_file

log = logging.getLogger(__name__)

WARMUP_STEPS = 50
SAVE_EVERY = 100
SAY_EVERY = 50


def fit(
    net: nn.Module,
    loss: Callable[[Generator], Tensor],
    *,
    steps: int,
    lr: float,
    seed: int,
    checkpoint: Path,
) -> list[float]:
    """Train `net` in place and return the mean losses of every `SAY_EVERY` steps.

    Args:
        net: what is trained.
        loss: draws a batch from the generator it is given, which is new for every step, and returns a scalar.
        steps: optimiser steps in all.
        lr: highest learning rate; it rises over `WARMUP_STEPS` and falls to 0 along a cosine.
        seed: of the batches.
        checkpoint: written every `SAVE_EVERY` steps; if it is there, training goes on from it.
    """
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    start, losses = 0, []
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        start, losses = state["step"], state["losses"]
        log.info("%s: going on from step %d", checkpoint.stem, start)
    recent: list[float] = []
    began = time.perf_counter()
    for step in range(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * lr_factor(step, steps)
        value = loss(Generator().manual_seed(seed * 1_000_003 + step))
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        recent.append(float(value.detach()))
        done = step + 1
        if done % SAY_EVERY == 0 or done == steps:
            losses.append(sum(recent) / len(recent))
            step_s = (time.perf_counter() - began) / (done - start)
            log.info("%s: step %d/%d loss %.4f %.3f s/step", checkpoint.stem, done, steps, losses[-1], step_s)
            recent.clear()
        if done % SAVE_EVERY == 0 or done == steps:
            state = {
                "net": net.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": done,
                "losses": losses,
            }
            with atomic_file(checkpoint) as file:
                torch.save(state, file)
    return losses


def lr_factor(step: int, steps: int) -> float:
    """Return the factor on the learning rate: a linear rise, then half a cosine down to 0."""
    rise = min(1.0, (step + 1) / WARMUP_STEPS)
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))
