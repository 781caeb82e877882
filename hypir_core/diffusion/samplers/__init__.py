"""Samplers and the one list of them."""

from __future__ import annotations

from collections.abc import Callable

from ...registry import Registry, lazy
from .base import Sampler

SAMPLERS: Registry[Callable[..., Sampler]] = Registry("sampler")
"""Name → a frozen dataclass whose fields are the sampler's own options, all with defaults."""

SAMPLERS.add(
    "ddim",
    lazy(".ddim:DDIM", __package__),
    summary="implicit, deterministic unless eta is above 0 (arXiv 2010.02502)",
    lazy=True,
)
SAMPLERS.add(
    "ddpm",
    lazy(".ddpm:DDPM", __package__),
    summary="ancestral, draws noise in every step but the last (arXiv 2006.11239)",
    lazy=True,
)
SAMPLERS.add(
    "euler",
    lazy(".euler:Euler", __package__),
    summary="straight steps along the probability flow; the same step as ddim with eta 0 (arXiv 2206.00364)",
    lazy=True,
)
SAMPLERS.add(
    "euler_ancestral",
    lazy(".ancestral:EulerAncestral", __package__),
    summary='"Euler a": a step below the next level, then noise up to it; strength of the noise by s_noise',
    lazy=True,
)
SAMPLERS.add(
    "dpmpp_2m",
    lazy(".dpmpp_2m:DPMpp2M", __package__),
    summary="DPM-Solver++(2M), second order, remembers one estimate; good at 10 to 25 steps (arXiv 2211.01095)",
    lazy=True,
)
SAMPLERS.add(
    "lms",
    lazy(".lms:LMS", __package__),
    summary="linear multistep in σ, up to fourth order, remembers three noise estimates (arXiv 2206.00364)",
    lazy=True,
)
SAMPLERS.add(
    "pndm",
    lazy(".pndm:PNDM", __package__),
    summary="fixed weights on the last four noise estimates, for equal timesteps (arXiv 2202.09778)",
    lazy=True,
    aliases=("plms",),
)
