"""The code blocks of pkl_dg's architecture document (MIT, docs/ARCHITECTURE.md), with only the package name replaced.

Those about trainers and presets belong to `train.factory`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hypir_core import components
from hypir_core.components import KINDS, BaseLoss, BaseSampler, BaseScheduler, create_component
from hypir_core.errors import ConfigError, UnknownNameError, WrongTypeError

USAGE = """
from pkl_dg.models import create_scheduler, create_sampler

# Modern registry-based usage
scheduler = create_scheduler("cosine", num_timesteps=1000, s=0.008)
sampler = create_sampler("ddim", model=model, ddim_steps=50)

# Automatic component discovery
from pkl_dg.models import get_available_components
print(get_available_components())
"""

PLUGIN = """
from pkl_dg.models.registry import register_scheduler, SCHEDULER_REGISTRY
from pkl_dg.models.schedulers import BaseScheduler
@register_scheduler("my_scheduler")
class MyScheduler(BaseScheduler):
    def get_betas(self):
        # Implementation
        pass
config = {}
component = SCHEDULER_REGISTRY.create("my_scheduler", **config)
"""

OWN_SCHEDULER = """
from pkl_dg.models.registry import register_scheduler
from pkl_dg.models.schedulers import BaseScheduler

@register_scheduler(
    name="my_scheduler",
    aliases=["custom", "experimental"],
    config={"default_param": 1.0}
)
class MyScheduler(BaseScheduler):
    def __init__(self, num_timesteps=1000, default_param=1.0):
        super().__init__(num_timesteps)
        self.param = default_param

    def get_betas(self):
        # Implementation
        return torch.linspace(0.0001, 0.02, self.num_timesteps)
"""

OWN_SAMPLER = """
from pkl_dg.models.registry import register_sampler
from pkl_dg.models.sampler import BaseSampler

@register_sampler(
    name="my_sampler",
    config={"num_steps": 50}
)
class MySampler(BaseSampler):
    def sample(self, shape, device, **kwargs):
        # Implementation
        return torch.randn(shape, device=device)
"""

TESTS = """
# Test scheduler in isolation
def test_cosine_scheduler():
    scheduler = create_scheduler("cosine", num_timesteps=100)
    betas = scheduler.get_betas()
    assert len(betas) == 100

# Test sampler in isolation
def test_ddim_sampler():
    sampler = create_sampler("ddim", model=mock_model)
    samples = sampler.sample(shape=(1, 1, 64, 64))
    assert samples.shape == (1, 1, 64, 64)
"""


def run(block: str, **names) -> dict:
    for module in ("models.registry", "models.schedulers", "models.sampler", "models"):
        block = block.replace(f"pkl_dg.{module} ", "hypir_core.components ")
    scope = {"torch": torch, **names}
    exec(compile(block, "<the document>", "exec"), scope)  # the document's own code
    return scope


@pytest.fixture
def forget():
    """Take out what a block adds."""
    before = {kind: set(registry.names()) for kind, registry in KINDS.items()}
    yield
    for kind, registry in KINDS.items():
        for name in set(registry.names()) - before[kind]:
            registry.remove(name)


def model(x, t):
    return torch.zeros_like(x)


def test_usage(capsys):
    made = run(USAGE, model=model)
    assert made["scheduler"].num_timesteps == 1000
    assert len(made["sampler"].plan()) == 51
    listed = capsys.readouterr().out
    assert "'cosine'" in listed
    assert "'ddim'" in listed
    assert "'rrdb'" in listed


@pytest.mark.usefixtures("forget")
def test_a_plugin():
    assert type(run(PLUGIN)["component"]).__name__ == "MyScheduler"
    with pytest.raises(ConfigError, match="scheduler 'my_scheduler' is registered twice"):
        run(OWN_SCHEDULER)


@pytest.mark.usefixtures("forget")
def test_own_schedulers_and_samplers():
    run(OWN_SCHEDULER)
    made = components.create_scheduler("experimental", default_param=2.0, num_timesteps=7)
    assert (made.param, len(made.get_betas())) == (2.0, 7)
    assert components.create_scheduler("custom").param == 1.0
    run(OWN_SAMPLER)
    sampler = components.create_sampler("my_sampler")
    assert sampler.num_steps == 50
    assert sampler.sample((1, 1, 4, 4), "cpu").shape == (1, 1, 4, 4)


def test_its_tests():
    made = run(
        TESTS,
        create_scheduler=components.create_scheduler,
        create_sampler=components.create_sampler,
        mock_model=model,
    )
    made["test_cosine_scheduler"]()
    made["test_ddim_sampler"]()


@pytest.mark.parametrize("base", [BaseScheduler, BaseSampler, BaseLoss])
def test_base_classes_are_abstract(base):
    with pytest.raises(TypeError, match="abstract"):
        base()


def test_errors_name_what_is_known():
    for create in (components.create_scheduler, components.create_sampler):
        with pytest.raises(ValueError, match=r"unknown .* 'nosuch'"):
            create("nosuch")
    with pytest.raises(LookupError, match=r"did you mean 'cosine'"):
        components.SCHEDULER_REGISTRY.get("cosin")
    with pytest.raises(UnknownNameError, match="kind of component"):
        create_component("wheel", "x")
    with pytest.raises(ConfigError, match=r"'ddim': takes no etta.*did you mean 'eta'"):
        components.create_sampler("ddim", etta=1)
    with pytest.raises(WrongTypeError, match="expected a class or a function, got int"):
        components.register_model("number")(3)


def test_every_sampler_finds_what_a_perfect_denoiser_knows(rng):
    picture = torch.rand(2, 1, 5, 6, generator=rng) * 2 - 1
    for name in components.SAMPLER_REGISTRY.names():
        sampler = components.create_sampler(
            name, model=lambda x, t: picture, prediction="x0", num_steps=6, scheduler="linear"
        )
        assert torch.equal(sampler.sample(picture.shape), picture), name
    assert components.create_sampler("stochastic").rule.name == "ddpm"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("ddim", "ddim"),
        ("deterministic", "ddim"),
        ("ddpm", "ddpm"),
        (
            "ancestral",
            "ddpm",
        ),  # the original's class of this name was hidden behind an alias, and its step was wrong
        ("stochastic", "ddpm"),
        ("dpm_solver", "dpmpp_2m"),
        ("euler", "euler"),
        ("lms", "lms"),
        ("pndm", "pndm"),
    ],
)
def test_samplers_are_created_alike_by_every_name(name, rule):
    sampler = components.create_sampler(name, model=model, num_steps=5)
    assert isinstance(sampler, BaseSampler)
    assert sampler.rule.name == rule
    assert sampler.sample(shape=(1, 1, 64, 64)).shape == (1, 1, 64, 64)
    every = [components.SAMPLER_REGISTRY.entry(n) for n in components.SAMPLER_REGISTRY.names()]
    words = [word for entry in every for word in (entry.name, *entry.aliases)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("name", ["unet", "progressive_unet", "compact", "rrdb"])
def test_networks_are_created_by_name(name):
    small = {"channels": (8, 8), "layers": 1, "groups": 4} if "unet" in name else {}
    options = components.MODEL_REGISTRY.get(name).Options
    made = create_component("model", name, options=options(**small))
    assert isinstance(made, torch.nn.Module)
    x = torch.rand(1, options(**small).in_channels, 9, 7)
    y = made(x, torch.tensor([3.0])) if "unet" in name else made(x)
    assert y.shape[-2] % 9 == 0


def test_losses_come_with_train(rng):
    import train.losses

    assert train.losses.LOSSES is components.LOSS_REGISTRY
    pred, target = torch.rand(2, 1, 1, 8, 8, generator=rng)
    for name in ("mse", "l1", "fourier", "huber"):
        loss = create_component("loss", name)
        assert isinstance(loss, BaseLoss)
        assert float(loss(pred, pred)) == 0 < float(loss(pred, target))


def test_listing_imports_nothing_heavy_and_reuse_is_asked_for():
    code = (
        "import sys; from hypir_core.components import get_available_components as g; g();"
        "print([m for m in ('diffusers','transformers','tifffile','scipy','train') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
    registry = components.SCHEDULER_REGISTRY
    assert registry.cached("cosine", s=0.01) is registry.cached("cosine_schedule", {"s": 0.01})
    assert registry.create("cosine") is not registry.create("cosine")
    with pytest.raises(ConfigError) as problems:
        registry.create_many({"cosine": {"x": 1}, "nosuch": {}, "linear": {}})
    assert len(problems.value.problems) == 2
