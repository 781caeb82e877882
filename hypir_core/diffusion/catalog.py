"""The list of noise schedules by name."""

from __future__ import annotations

from ..registry import Registry, lazy
from .betas import BaseScheduler

SCHEDULERS: Registry[type[BaseScheduler]] = Registry("scheduler", group="onestep_restore.schedulers")
"""Name → class; its keywords are ``num_timesteps`` and the curve's own numbers, all with defaults."""

for _name, _target, _aliases, _summary in (
    ("linear", ".betas:LinearScheduler", ("linear_schedule",), "β in equal steps (arXiv 2006.11239)"),
    ("scaled_linear", ".betas:ScaledLinearScheduler", (), "√β in equal steps: Stable Diffusion"),
    (
        "cosine",
        ".betas:CosineScheduler",
        ("cosine_schedule", "improved_ddpm"),
        "ā follows a squared cosine (arXiv 2102.09672)",
    ),
    (
        "improved_cosine",
        ".betas:ImprovedCosineScheduler",
        ("improved_cosine_schedule", "stable_cosine"),
        "the cosine with a power of its own, 1 by default",
    ),
    (
        "exponential",
        ".betas:ExponentialScheduler",
        ("exp", "exponential_schedule"),
        "β by equal factors",
    ),
    ("polynomial", ".betas:PolynomialScheduler", (), "β with a power of the place, 2 by default"),
    ("sigmoid", ".betas:SigmoidScheduler", (), "β along an S"),
    ("warmup", ".betas:WarmupScheduler", (), "a base schedule whose first β rise from nearly nothing"),
    ("interpolated", ".betas:InterpolatedScheduler", (), "straight lines between points of one's own"),
    (
        "resolution_aware",
        ".betas_by_size:ResolutionAwareScheduler",
        (),
        "the cosine over a factor of the picture's size",
    ),
    (
        "shifted_cosine",
        ".betas_by_size:ShiftedCosineScheduler",
        (),
        "the cosine with more noise for larger pictures (arXiv 2301.11093)",
    ),
    (
        "hierarchical_cosine",
        ".betas_by_size:HierarchicalCosineScheduler",
        (),
        "the cosine with an offset for each level",
    ),
    (
        "hierarchical_linear",
        ".betas_by_size:HierarchicalLinearScheduler",
        (),
        "the straight line with ends for each level",
    ),
    (
        "frequency_adaptive",
        ".betas_by_size:FrequencyAdaptiveScheduler",
        (),
        "the hierarchical cosine with more noise for the finer levels",
    ),
    (
        "microscopy_optimized",
        ".betas:MicroscopyScheduler",
        ("microscopy", "medical_imaging"),
        "the cosine with less noise early and late",
    ),
    (
        "consistency_training",
        ".betas:ConsistencyScheduler",
        ("consistency", "ct_schedule"),
        "noise levels by equal factors (arXiv 2303.01469)",
    ),
    ("adaptive", ".betas_learned:AdaptiveScheduler", (), "the cosine, changed by the slope of the loss"),
    ("learned", ".betas_learned:LearnedScheduler", (), "a small network, which starts as the cosine"),
    (
        "dpm_solver",
        ".betas:DpmSolverScheduler",
        ("dpm", "dpm_solver_plus", "dpmpp"),
        "linear β, for the sampler dpmpp_2m",
    ),
    (
        "euler",
        ".betas:EulerScheduler",
        ("euler_discrete", "euler_ancestral"),
        "linear β, for the sampler euler",
    ),
    ("lms", ".betas:LmsScheduler", ("lms_discrete", "linear_multistep"), "linear β, for the sampler lms"),
    (
        "pndm",
        ".betas:PndmScheduler",
        ("pseudo_numerical", "pndm_scheduler"),
        "linear β, for the sampler pndm",
    ),
):
    SCHEDULERS.add(_name, lazy(_target, __package__), summary=_summary, lazy=True, aliases=_aliases)
