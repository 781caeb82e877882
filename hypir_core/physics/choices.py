"""What can be chosen about physics, by name; settings read it, so nothing heavy is imported."""

from __future__ import annotations

from enum import Enum


class Boundary(str, Enum):
    """How a picture goes on beyond its edges."""

    reflect = "reflect"
    """Mirrored, the edge not repeated."""
    edge = "edge"
    """The last cell repeated."""
    zero = "zero"
    """Dark."""
    periodic = "periodic"
    """The other side comes in: only for pictures that really repeat."""


class Term(str, Enum):
    """Which distance of y and μ is measured."""

    pkl = "pkl"
    """Poisson's negative log likelihood, Kullback and Leibler's distance for counts. With reading noise both are
    shifted by σ² (Snyder, Hammoud and White, J. Opt. Soc. Am. A 10, 1014, 1993): Σ (m − (y + σ²)·log m), m = μ + σ²."""
    kl = "kl"
    """Gauss with one variance: ½·Σ (μ − y)²/max(σ², 1)."""
    anscombe = "anscombe"
    """Squares after Anscombe's root f(n) = 2·√(n + ⅜), which makes the noise of counts even: ½·Σ (f(μ) − f(y))²."""
    l2 = "l2"
    """½·Σ (μ − y)²."""


class Rule(str, Enum):
    """How the gradient g of the data term changes the estimate x, in electrons."""

    multiplicative = "multiplicative"
    """x ← x·(1 − s·g/Aᵀ1): with pkl and s = 1 a step of Richardson and Lucy's."""
    prox = "prox"
    """Towards argmin of the data term + ‖x − x0‖²/(2τ), τ = s·(1 − ā)·(electrons per network unit)²: the more noise
    was left, the less the estimate is trusted (Zhu et al., DiffPIR, arXiv 2305.08995; variance 1 − ā as Song et al.,
    ΠGDM, ICLR 2023)."""
    seed = "seed"
    """x ← x − λ·g, λ = 0.1·s/(‖g‖ + 1e-3)·min((T − t)/(T − 800), 1), T = 1000. ‖g‖ is that of the whole picture, so
    the step is 0.1 electrons over all pixels together: kept to reproduce published code, it changes nothing visible."""
