"""The small latent model: made end to end at its smallest, loaded by the engine; the measures of the proof."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import hypir_core
from benchmarks.tiny_latent.fitting import SAVE_EVERY, fit
from benchmarks.tiny_latent.make_base import make_base
from benchmarks.tiny_latent.measures import feature_distance
from benchmarks.tiny_latent.networks import SMALLEST, make_vae
from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.errors import ConfigError
from hypir_core.lora.file import Lora, factor_shapes, write_lora
from hypir_core.lora.names import LoraForm, adapted_modules
from hypir_core.models.sd.backbone import load_base
from hypir_core.models.sd.sd21 import unet_module_shapes
from hypir_core.weights.search.locate import locate_base

EXAMPLES = Path(hypir_core.__file__).parent / "examples"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny_latent")
    return folder, make_base(EXAMPLES, folder, SMALLEST, seed=3)


def weights(folder, net):
    return load_file(folder / "model" / net / "diffusion_pytorch_model.safetensors")


def test_the_engine_loads_what_was_made(run):
    """With a LoRA of zeros, which changes nothing: only the base is asked about."""
    folder, report = run
    backbone = load_base(locate_base(str(folder / "model")))
    assert backbone.scaling_factor == report["scaling_factor"]
    shapes = adapted_modules(unet_module_shapes(backbone.unet.config))
    factors = {name: tuple(torch.zeros(s) for s in factor_shapes(shape, 2)) for name, shape in shapes.items()}
    lora = folder / "zero.safetensors"
    write_lora(lora, Lora(factors=factors, rank=2, alpha=2.0), form=LoraForm.kohya)
    options = {"base_model": str(folder / "model"), "lora": lora}
    engine = load_engine("one-step", options=options, device=torch.device("cpu"), dtype="float32")
    picture = torch.rand(1, 3, 70, 90, generator=torch.Generator().manual_seed(1))
    request = Request(target=TargetSize(scale=1))
    result = restore(engine, picture, request, Runtime()).image_01
    assert result.shape == picture.shape
    assert result.std() > 0


def test_training_moved_both_networks_and_the_same_seed_moves_them_alike(run, tmp_path):
    folder, _ = run
    make_base(EXAMPLES, tmp_path / "again", SMALLEST, seed=3)
    make_base(EXAMPLES, tmp_path / "less", replace(SMALLEST, vae_steps=1, unet_steps=1), seed=3)
    for net in ("vae", "unet"):
        made, again, less = (weights(f, net) for f in (folder, tmp_path / "again", tmp_path / "less"))
        assert all(torch.equal(tensor, again[name]) for name, tensor in made.items())
        assert any(not torch.equal(tensor, less[name]) for name, tensor in made.items())


def test_stopped_between_the_networks_it_goes_on_to_the_same_weights(run, tmp_path):
    folder, _ = run
    make_base(EXAMPLES, tmp_path, SMALLEST, seed=3)
    (tmp_path / "unet.pt").unlink()
    make_base(EXAMPLES, tmp_path, SMALLEST, seed=3)
    made, resumed = weights(folder, "unet"), weights(tmp_path, "unet")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in made.items())


def test_stopped_in_the_middle_it_goes_on_from_the_checkpoint_to_the_same_weights(tmp_path):
    def train(checkpoint, stop_at=None):
        torch.manual_seed(0)
        net = torch.nn.Linear(4, 1)
        calls = iter(range(1000))

        def loss(generator):
            if next(calls) == stop_at:
                raise KeyboardInterrupt
            return net(torch.rand(8, 4, generator=generator)).square().mean()

        return fit(net, loss, steps=SAVE_EVERY + 30, lr=0.1, seed=1, checkpoint=checkpoint), net.weight

    losses, straight = train(tmp_path / "straight.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped.pt", stop_at=SAVE_EVERY + 10)
    resumed_losses, resumed = train(tmp_path / "stopped.pt")
    assert torch.equal(resumed, straight)
    assert resumed_losses == losses
    assert losses[-1] < losses[0]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected a folder of photographs"):
        make_base(tmp_path, tmp_path / "run", SMALLEST, seed=3)


def test_feature_distance_knows_equal_and_softer_pictures(rng):
    truth = torch.rand(2, 3, 32, 32, generator=rng)
    soft = torch.nn.functional.avg_pool2d(truth, 3, stride=1, padding=1)
    torch.manual_seed(0)
    vae = make_vae(SMALLEST)
    assert torch.equal(feature_distance(vae, truth, truth), torch.zeros(2))
    assert (feature_distance(vae, soft, truth) > 0.01).all()
