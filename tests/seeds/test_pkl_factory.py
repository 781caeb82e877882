"""The blocks about trainers in pkl_dg's architecture document (MIT), with only the package name replaced."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

from hypir_core.components import create_scheduler
from hypir_core.diffusion.whole_runs import BaseSampler, RuleSampler
from hypir_core.errors import ConfigError, MissingDependencyError, UnknownNameError
from hypir_core.image.ranges import Range
from train.factory import DDPMTrainer, ModelFactory, create_from_preset

pytest.importorskip("diffusers", reason="the network is the one of diffusers")

CREATE = """
from pkl_dg.models.factory import ModelFactory

# Create complete trainer
trainer = ModelFactory.create_trainer(
    scheduler_type="cosine",
    sampler_type="ddim"
)
"""

PRESETS = """
from pkl_dg.models.factory import create_from_preset

# Use preset for common scenarios
trainer = create_from_preset("microscopy_2p", image_size=512)
made.append(trainer)
trainer = create_from_preset("fast_inference", num_steps=25)
made.append(trainer)
trainer = create_from_preset("high_quality", image_size=1024)
made.append(trainer)
"""

FILES = """
# Load from YAML/JSON
trainer = ModelFactory.from_config_file("config.yaml")
"""

COMPOSED = """
# Good: Composition
trainer = DDPMTrainer(
    model=unet,
    scheduler=cosine_scheduler,
    sampler=ddim_sampler,
)
"""

INTEGRATION = """
def test_trainer_integration():
    trainer = ModelFactory.create_trainer(
        scheduler_type="cosine",
        sampler_type="ddim"
    )
    # Test training loop
    loss = trainer.training_step(batch, 0)
    assert isinstance(loss, torch.Tensor)
"""

TINY = {"options": {"channels": [8, 8], "groups": 4, "layers": 1}}


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """accelerate keeps its settings for the whole process; other tests use different ones."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    GradientState._reset_state()


def run(block: str, **names) -> dict:
    scope = {"torch": torch, **names}
    block = block.replace("pkl_dg.models.factory", "train.factory")
    exec(compile(block, "<the document>", "exec"), scope)  # the document's own code
    return scope


class Seen(torch.nn.Module):
    """A fake network that writes down what it is asked."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.asked = []

    def forward(self, x, t):
        self.asked.append((x.shape, t.clone()))
        return x[:, :1] * self.weight


def test_creation():
    trainer = run(CREATE)["trainer"]
    assert type(trainer.scheduler).__name__ == "CosineScheduler"
    assert trainer.config.denoising.sampler == "ddim"
    euler = ModelFactory.create_trainer(scheduler_type="exp", sampler_type="euler", model=Seen())
    assert type(euler.scheduler).__name__ == "ExponentialScheduler"
    assert isinstance(euler.sampler, RuleSampler)
    assert euler.sampler.rule.name == "euler"  # the original leaves sampler_type unused


def test_presets_are_used_whole():
    made = []
    run(PRESETS, made=made)
    two_photon, fast, best = (each.config for each in made)
    assert two_photon.data.crop_px == 512
    assert two_photon.data.source.options["side_px"] == 512 + 2 * two_photon.data.margin_px
    assert two_photon.generator.options["channels"] == [64, 128, 256, 512]
    assert two_photon.denoising.schedule_options == {"s": 0.008, "max_beta": 0.999}
    assert (fast.denoising.sampler, fast.denoising.steps) == ("dpmpp_2m", 25)
    assert fast.denoising.schedule_options["max_beta"] == 0.9999  # nested keys, unused in the original
    assert (best.data.crop_px, best.denoising.steps, best.generator.ema.decay) == (1024, 200, 0.9999)
    assert best.losses["log_fourier"].weight == 0.1
    assert create_from_preset("microscopy_2p", enable_guidance=True).config.denoising.guide
    with pytest.raises(UnknownNameError, match=r"unknown preset 'microscopy'.*did you mean"):
        create_from_preset("microscopy")
    with pytest.raises(ConfigError, match="unknown key 'imagesize'"):
        create_from_preset("microscopy_2p", imagesize=3)


def test_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("extends: pixel_fast\ndenoising: {steps: 7}\n", encoding="utf-8")
    config = run(FILES, ModelFactory=ModelFactory)["trainer"].config
    assert (config.denoising.steps, config.denoising.sampler) == (7, "dpmpp_2m")
    (tmp_path / "config.json").write_text(json.dumps({"extends": "config.yaml", "seed": 4}), encoding="utf-8")
    config = ModelFactory.from_config_file("config.json").config
    assert (config.seed, config.denoising.steps) == (4, 7)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        ModelFactory.from_config_file("none.yaml")
    with pytest.raises(ValueError, match=r"ends in \.yaml, \.yml, \.json"):
        ModelFactory.from_config_file("config.toml")
    (tmp_path / "round.yaml").write_text("extends: round.yaml\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="extends itself"):
        ModelFactory.from_config_file("round.yaml")
    with pytest.raises(UnknownNameError, match="scheduler 'cosin'"):
        ModelFactory.create_trainer(scheduler_type="cosin")


def test_composition_and_its_parts():
    seen = Seen()
    schedule = create_scheduler("linear", num_timesteps=100)
    trainer = run(
        COMPOSED, DDPMTrainer=DDPMTrainer, unet=seen, cosine_scheduler=schedule, ddim_sampler="ddim"
    )["trainer"]
    pictures = torch.rand(3, 1, 8, 8)
    loss = trainer.training_step(pictures, 0)
    loss.backward()
    assert seen.weight.grad is not None
    shape, t = seen.asked[0]
    assert shape == (3, 3, 8, 8)  # the noised picture and what the microscope measured of the clean one
    assert int(t.max()) < 100
    assert torch.equal(loss.detach(), DDPMTrainer(seen, schedule).training_step(pictures, 0).detach())
    own = DDPMTrainer(seen, schedule, loss=lambda predicted, wanted: predicted.sum() * 0 + 7)
    assert float(own.training_step((torch.rand(2, 1, 8, 8), torch.zeros(2, 2, 8, 8))).detach()) == 7
    assert trainer.sample((2, 1, 8, 8)).shape == (2, 1, 8, 8)
    with pytest.raises(ConfigError, match="training_step in a loop"):
        trainer.fit()


def test_every_part_of_a_trainer_may_be_a_fake():
    """Range, microscope and sampler are given; each is used, and nothing of the settings stands in their place."""

    class Microscope:
        asked = 0

        def expose(self, picture, draw):
            self.asked += 1
            return SimpleNamespace(lq=picture * 0 + 0.25, light=torch.tensor([40.0, 4.0, 5.0, 1.0]))

    class Sampler(BaseSampler):
        def sample(self, shape, device=None, y=None, *, generator=None):
            return torch.full(tuple(shape), 0.5)

    seen, microscope = Seen(), Microscope()
    twice = Range(middle=(10.0,), width=(10.0,))
    schedule = create_scheduler("linear", num_timesteps=50)
    trainer = DDPMTrainer(
        seen, schedule, Sampler(scheduler=schedule), transform=twice, forward_model=microscope
    )
    trainer.training_step(torch.rand(2, 1, 8, 8), 0)
    assert microscope.asked == 2
    assert seen.asked[0][0] == (2, 3, 8, 8)
    assert trainer.sample((1, 1, 4, 4)).unique().tolist() == [15.0]


def test_integration(tmp_path):
    made = run(INTEGRATION, ModelFactory=ModelFactory, batch=torch.rand(1, 1, 16, 16))
    made["test_trainer_integration"]()
    settings = {
        "generator": TINY,
        "data": {"crop_px": 16, "margin_px": 8, "batch_size": 2, "source": {"options": {"side_px": 32}}},
        "max_steps": 1,
        "precision": "fp32",
        "validation": None,
        "output_dir": str(tmp_path / "run"),
    }
    trainer = ModelFactory.create_trainer(config=settings)
    assert (trainer.fit() / "generator_ema.safetensors").is_file()


def test_without_diffusers(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "diffusers.models.unets.unet_2d", None)
    trainer = create_from_preset("microscopy_small")
    with pytest.raises(MissingDependencyError, match="diffusers"):
        _ = trainer.model
