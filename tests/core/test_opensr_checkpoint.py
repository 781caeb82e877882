"""Checkpoints and settings of opensr-srgan on their way in: weights, range, and what cannot be brought along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hypir_core import Request, Runtime, load_engine, restore
from hypir_core.cli import main
from hypir_core.config import load_yaml
from hypir_core.engines.feed_forward.opensr_checkpoint import Which, convert_checkpoint, generator_of
from hypir_core.errors import ConfigError, SpecMismatchError, UnknownNameError, WeightsError
from hypir_core.image.ranges import RangeKind
from hypir_core.tiling.geometry import Plane
from hypir_core.weights.opensr_config import describe_generator, describe_range
from hypir_core.weights.spec import GeneratorSpec, spec_from_metadata
from hypir_core.weights.tensors import read_tensors

SMALL = {"model_type": "esrgan", "n_channels": 4, "n_blocks": 1, "growth_channels": 4, "scaling_factor": 2}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def checkpoint(golden) -> Path:
    return golden / "opensr" / "lightning_checkpoint.ckpt"


@pytest.fixture
def outputs(golden) -> dict[str, torch.Tensor]:
    return load_file(golden / "opensr" / "checkpoint_outputs.safetensors")


@pytest.mark.parity
@pytest.mark.parametrize(
    ("which", "wanted"), [("raw", "generator"), ("ema", "generator_ema"), (None, "generator_ema")]
)
def test_a_checkpoint_restores_as_the_original(checkpoint, outputs, tmp_path, capsys, which, wanted):
    out = tmp_path / "out.safetensors"
    words = ["convert", checkpoint, out, "--config", checkpoint.with_suffix(".yaml")]
    assert main([str(word) for word in (*words, *(["--weights", which] if which else []))]) == 0
    assert "esrgan, 4 → 4 bands, ×2, range white" in capsys.readouterr().out
    file = read_tensors(out)
    spec = spec_from_metadata(file.metadata, out)
    assert isinstance(spec, GeneratorSpec)
    assert (spec.value_range.kind, spec.value_range.white) == (RangeKind.white, 10000)
    engine = load_engine("upscaler", options={"weights": str(out)}, dtype="float32")
    prepared = engine.prepare(Plane(outputs["input_dn"]), (24, 20), Request())
    (stage,) = engine.stages(prepared, Request())
    with torch.no_grad():
        torch.testing.assert_close(
            engine.net(outputs["input_dn"] / 10000), outputs[wanted], atol=1e-5, rtol=0
        )
        restored_dn = stage.run(outputs["input_dn"], {})
    seen, expected = restored_dn.clamp(0, 10000), outputs[wanted].clamp(0, 1) * 10000
    torch.testing.assert_close(seen, expected, atol=0.1, rtol=0)


def test_without_settings_sizes_are_read_off_and_the_range_is_said_to_be_unknown(checkpoint, tmp_path):
    with_settings = convert_checkpoint(
        checkpoint, tmp_path / "a.safetensors", config=load_yaml(checkpoint.with_suffix(".yaml"))
    )
    done = convert_checkpoint(checkpoint, tmp_path / "b.safetensors", which=Which.ema)
    assert done.spec.options == with_settings.spec.options
    assert done.spec.value_range.kind is RangeKind.unit
    assert "does not say which range" in done.notes[0]
    assert load_file(tmp_path / "a.safetensors").keys() == load_file(tmp_path / "b.safetensors").keys()


def test_a_generator_of_the_original_runs_as_it_is_with_a_warning_about_its_range(golden, checkpoint):
    for path, bands in ((golden / "opensr" / "generator_rcab_x2.safetensors", 4), (checkpoint, 4)):
        engine = load_engine("upscaler", options={"weights": str(path)}, dtype="float32")
        done = restore(engine, torch.rand(1, bands, 7, 9), Request(), Runtime())
        assert done.image_01.shape == (1, bands, 14, 18)
        assert any("does not say which range" in note for note in done.report.notes)


class Runs:
    """Leaves a mark if it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_nothing_in_a_checkpoint_is_run(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint, weights_only=True) | {"hyper_parameters": Runs(tmp_path / "ran")}
    torch.save(content, tmp_path / "bad.ckpt")
    words = ["convert", tmp_path / "bad.ckpt", tmp_path / "out.safetensors"]
    for more in ([], ["--config", checkpoint.with_suffix(".yaml")]):
        assert main([str(word) for word in (*words, *more)]) != 0
        assert "it was refused and nothing was run" in capsys.readouterr().err.replace("\n", " ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.ckpt"]


def changed(checkpoint: Path, tmp_path: Path, change) -> Path:
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "changed.ckpt")
    return tmp_path / "changed.ckpt"


def test_what_a_checkpoint_lacks_is_said_with_the_option_that_mends_it(checkpoint, tmp_path):
    out, config = tmp_path / "out.safetensors", load_yaml(checkpoint.with_suffix(".yaml"))
    without = changed(checkpoint, tmp_path, lambda c: c.pop("ema_state"))
    with pytest.raises(ConfigError, match=r"no averaged weights .*use --weights raw"):
        convert_checkpoint(without, out, config=config, which=Which.ema)
    assert convert_checkpoint(without, out, config=config).which is Which.raw
    with pytest.raises(ConfigError, match="exists already"):
        convert_checkpoint(without, out, config=config)
    out.unlink()
    strange = changed(
        checkpoint, tmp_path, lambda c: c["ema_state"].update(shadow_params={"other": torch.ones(1)})
    )
    with pytest.raises(WeightsError, match="averaged weights hold tensors that the generator lacks"):
        convert_checkpoint(strange, out, config=config)
    nan = changed(
        checkpoint, tmp_path, lambda c: c["state_dict"]["generator.conv_first.bias"].fill_(torch.nan)
    )
    with pytest.raises(WeightsError, match=r"NaN or infinity in 1 \(conv_first.bias\)"):
        convert_checkpoint(nan, out, config=config, which=Which.raw)
    other = config | {"Generator": SMALL | {"n_channels": 8}}
    with pytest.raises(
        SpecMismatchError, match=r"settings describe esrgan .*channels 8.*holds esrgan .*channels 4"
    ):
        convert_checkpoint(checkpoint, out, config=other)
    save_file({"weight": torch.ones(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match="expected a generator of opensr-srgan, got 1 other"):
        convert_checkpoint(tmp_path / "lora.safetensors", out)
    assert not out.exists()


def test_options_of_loras_are_refused_for_a_checkpoint(checkpoint, tmp_path, capsys):
    assert main(["convert", str(checkpoint), str(tmp_path / "o.safetensors"), "--to", "comfyui"]) == 2
    assert "belong to LoRAs" in capsys.readouterr().err


def settings(**generator) -> dict:
    return {"Model": {"in_bands": 3}, "Generator": generator}


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        (settings(n_block=3), ConfigError, "unknown key 'n_block'.*n_blocks"),
        (settings(n_blocks=0), ConfigError, "Generator.n_blocks must be a whole number of 1 or more, got 0"),
        (settings(n_blocks="many"), ConfigError, "got 'many'"),
        (settings(model_type="swin"), UnknownNameError, "swin"),
        (settings(block_type="dens"), UnknownNameError, "did you mean.*dense|rrdb"),
        (settings(scaling_factor=3), ConfigError, "1, 2, 4, 8 …, got 3×3"),
        (settings(large_kernel_size=4), ConfigError, "head_kernel must be odd, 1 or more, got 4"),
        (settings(model_type="esrgan", res_scale=-1), ConfigError, "res_scale must be a number above 0"),
        ({"Generator": {}}, ConfigError, "section 'Model'"),
        ({"Model": {}, "Generator": {}}, ConfigError, "Model.in_bands is required"),
        ({"Model": {"in_bands": 3}}, ConfigError, "section 'Generator' .*got none"),
    ],
)
def test_settings_that_describe_no_generator_are_refused(config, kind, said):
    with pytest.raises(kind, match=said):
        generator_of(config)


def test_keys_without_effect_are_listed_not_refused():
    found = describe_generator(settings(model_type="esrgan", block_type="rrdb", large_kernel_size=9))
    assert found.notes == ("Generator: block_type, large_kernel_size have no effect for esrgan",)


@pytest.mark.parametrize("name", ["normalize_10k", "Reflectance", {"name": "s2"}, {"method": "sentinel2"}])
def test_ranges_by_every_way_of_naming_them(name):
    assert describe_range({"Data": {"normalization": name}}).white == 10000


def test_a_range_that_cannot_be_saved_is_refused():
    assert describe_range({}).white == pytest.approx(0.3)  # the original's own default
    with pytest.raises(ConfigError, match="cannot be saved with weights; name one of"):
        describe_range({"Data": {"normalization": {"name": "custom", "normalize": "a:b"}}})
    with pytest.raises(UnknownNameError, match="zscor"):
        describe_range({"Data": {"normalization": "zscor"}})


@pytest.mark.parametrize(
    "name",
    ["normalise_10k", "normalise_10k_signed", "normalise_s2", "sen2_stretch", "zero_one", "zero_one_signed"],
)
def test_named_ranges_are_lines_with_the_originals_ends(name):
    white, low = {
        "normalise_10k": (10000, 0),
        "normalise_10k_signed": (10000, -1),
        "normalise_s2": (0.3, -1),
        "sen2_stretch": (0.3, 0),
        "zero_one": (1, 0),
        "zero_one_signed": (1, -1),
    }[name]
    made = describe_range({"Data": {"normalization": name}}).fixed
    x = torch.tensor([-0.1, 0.0, 0.5, 1.0, 1.2]).reshape(1, 1, 1, -1) * white
    wanted = np.clip(np.array([-0.1, 0, 0.5, 1, 1.2]) * (1 - low) + low, low, 1)
    torch.testing.assert_close(
        made.apply(x).flatten(), torch.tensor(wanted, dtype=torch.float32), atol=1e-6, rtol=0
    )
