"""The other recipes of the one-step family can be trained: what is trained is what restores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hypir_core import ColorFix, Request, Runtime, TargetSize, load_engine, restore
from hypir_core.errors import ConfigError, SpecMismatchError
from hypir_core.lora.file import read_lora
from hypir_core.lora.names import TARGET_MODULES, adaptable_modules
from hypir_core.lora.one_step_file import read_one_step
from hypir_core.models.sd.backbone import load_base
from hypir_core.weights.search.locate import locate_base
from hypir_core.weights.spec import Prediction
from train.config import LossConfig, load_config
from train.data.batch import Batch
from train.generators import build_generator
from train.players import trained_state
from train.run.export import write_weights

pytestmark = pytest.mark.tiny

CPU = torch.device("cpu")
WITH_CONV_IN = f"target_modules=[{','.join(TARGET_MODULES)},conv_in]"


@pytest.fixture
def tiny(golden: Path, photos: Path, tmp_path: Path):
    """Return a function from options of the generator to a config on the golden model."""

    def make(*assignments: str):
        model = f"base_model={golden / 'hypir' / 'model'}"
        needed = [model, f"data.root={photos}", "max_steps=1", f"output_dir={tmp_path / 'run'}"]
        config = load_config("tiny_cpu", [*needed, *(f"generator.options.{each}" for each in assignments)])
        return replace(config, discriminators={}, losses={"l2": LossConfig()})

    return make


@pytest.fixture(scope="module")
def picture_01(golden: Path) -> Tensor:
    """[1 3 128 128]"""
    return load_file(golden / "hypir" / "case_3.safetensors")["lq_uint8"][..., :128, :128].float() / 255


@pytest.mark.parametrize(
    ("options", "color_fix"),
    [
        (("model_t=273", "coeff_t=273", "recipe=omgsr_s", WITH_CONV_IN), "adain"),
        (("model_t=1", "coeff_t=1", "prediction=difference", "recipe=pisa_sr"), "adain"),
        (("model_t=100", "coeff_t=100", "noise_t=250"), "wavelet"),
        (("model_t=273", "coeff_t=273", "recipe=omgsr_s", "vae_rank=4", "noise_t=250"), "adain"),
    ],
    ids=["omgsr_s", "pisa_sr", "noise", "encoder"],
)
def test_the_trainer_computes_what_the_engine_computes(
    tiny, golden, picture_01, tmp_path, options, color_fix
):
    config = tiny(*options)
    generator = build_generator(config, CPU)
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, factor in trained_state(generator.module).items():
            if "lora_B" in name:
                factor.copy_(torch.randn(factor.shape, generator=rng) * 0.05)
        generator.module.eval()
        batch = Batch(torch.zeros_like(picture_01), picture_01, ())
        own = generator.restore(generator.module, batch).clamp(0, 1)
        generator.module.train()
        noisy = any(option.startswith("noise_t") for option in options)
        again = generator.restore(generator.module, batch).clamp(0, 1)
        assert torch.equal(own, again) != noisy  # in training every step draws noise of its own
    spec = generator.spec(config.export, "test")
    write_weights(tmp_path / "lora.safetensors", trained_state(generator.module), spec)
    given = {"base_model": str(golden / "hypir" / "model"), "lora": tmp_path / "lora.safetensors"}
    engine = load_engine("one-step", options=given, device=CPU, dtype="float32")
    request = Request(target=TargetSize(scale=1), color_fix=ColorFix.none)
    restored = restore(engine, picture_01, request, Runtime()).image_01
    torch.testing.assert_close(own, restored, rtol=0, atol=3e-4)
    assert engine.spec.color_fix == color_fix
    assert engine.denoiser.kind is (
        Prediction.difference if "prediction=difference" in options else Prediction.eps
    )


def test_what_does_not_fit_is_named(tiny):
    with pytest.raises(
        ConfigError, match=r"the base model predicts eps, got v; leave it out, or say difference"
    ):
        build_generator(tiny("prediction=v"), CPU)
    with pytest.raises(ConfigError, match=r"unknown recipe 'osedif' \(did you mean 'osediff'\?\)"):
        build_generator(tiny("recipe=osedif"), CPU)


def test_the_encoder_learns_and_its_lora_is_restored_with(tiny, picture_01, golden, tmp_path):
    """As OSEDiff and OMGSR: one step changes both LoRAs; decoder, base UNet and base encoder stay."""
    generator = build_generator(tiny("vae_rank=4", "rank=4"), CPU)
    module = generator.module
    names = list(trained_state(module))
    assert {name.split(".")[0] for name in names} == {"unet", "vae"}
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert any(name.startswith("vae.encoder.conv_in.lora_A") for name in names)
    assert not any("quant_conv" in name or "decoder" in name for name in names)
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    before = {name: tensor.clone() for name, tensor in trained_state(module).items()}
    batch = Batch(picture_01.flip(-1), picture_01, ())
    for _ in range(2):  # at first B is 0, and A has no gradient
        optimiser.zero_grad()
        generator.restore(module, batch).sub(batch.hq).square().mean().backward()
        optimiser.step()
    after = trained_state(module)
    assert [name for name in names if torch.equal(before[name], after[name])] == []

    path = tmp_path / "lora.safetensors"
    written = write_weights(path, after, generator.spec(tiny().export, "test"), original_pth=True)
    assert written == (path,)  # the published container has no place for a VAE's
    file = read_one_step(path, *modules_of(golden))
    assert file.vae is not None
    assert file.vae.rank == 4
    assert len(file.vae.factors) == len([n for n in names if n.startswith("vae.") and ".lora_A." in n])
    assert file.notes == ()
    with pytest.raises(SpecMismatchError, match="got one that changes the VAE's encoder too"):
        read_lora(path)


def modules_of(golden):
    """Return name → weight shape of the golden model's UNet and VAE."""
    base = load_base(locate_base(str(golden / "hypir" / "model")))
    return [adaptable_modules(dict(net.named_parameters())) for net in (base.unet, base.vae)]
