"""A run of our samplers, and the same run of diffusers' schedulers in double precision: shared by the tests."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from hypir_core.diffusion.prediction import predict_x0
from hypir_core.diffusion.samplers.base import Sampler, Step, remembered
from hypir_core.weights.spec import Prediction


def walk(
    x: Tensor,
    denoise: Callable[[Tensor, Step], Tensor],
    steps: Sequence[Step],
    sampler: Sampler,
    noises: Sequence[Tensor] = (),
) -> Tensor:
    """Run a sampler over all steps; `denoise` gives the clean estimate."""
    earlier: list[Tensor] = []
    for step in steps:
        x0 = denoise(x, step)
        noise = noises[step.index] if sampler.stochastic else None
        seen = remembered(sampler, x, x0, step)
        x = sampler.move(x, x0, step, noise=noise, earlier=tuple(earlier))
        earlier = [seen, *earlier][: sampler.history]
    return x


def toy_network(x: Tensor, t: float) -> Tensor:
    """Return a smooth function of x and t of size about 1: a network's raw prediction, whatever it stands for."""
    return torch.tanh(0.7 * x + 0.4 * torch.sin(x.roll(1, -1)) + np.cos(t / 150.0)) * (0.6 + t / 2500.0)


def toy_denoiser(kind: Prediction) -> Callable[[Tensor, Step], Tensor]:
    """Read the toy network's prediction as `kind`."""
    return lambda x, step: predict_x0(x, toy_network(x, step.t), a_bar=step.a_bar, kind=kind)


class _Double:
    """A library whose float32 is float64."""

    def __init__(self, library: ModuleType):
        self._library = library
        self.float32 = library.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


@contextmanager
def diffusers_in_double(name: str, noises: Sequence[Tensor] = ()) -> Iterator[ModuleType]:
    """Give diffusers' module ``scheduling_<name>`` with its float32 tables and casts in float64.

    Those schedulers build their tables in float32 and cast every sample to it, which leaves agreement to 1e-6 only.
    The name float32 means float64 inside the module, so its own code runs in double; noise is drawn from `noises`.
    """
    module = importlib.import_module(f"diffusers.schedulers.scheduling_{name}")
    drawn = mock.Mock(side_effect=list(noises))
    changes: dict[str, Any] = {"torch": _Double(torch), "np": _Double(np)}
    if hasattr(module, "randn_tensor"):
        changes["randn_tensor"] = drawn
    with mock.patch.multiple(module, **changes):
        yield module
