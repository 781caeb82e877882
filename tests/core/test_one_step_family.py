"""Restorers of the one-step family: what is read, what is merged, what is refused and why."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.cli import main
from hypir_core.engines.diffusion.prompts import conditioner_of
from hypir_core.engines.diffusion.restorer import merge_restorer_, pass_weights
from hypir_core.errors import ConfigError, SpecMismatchError, UnknownNameError, WeightsError
from hypir_core.files.reading import read_text
from hypir_core.lora.convert import convert
from hypir_core.lora.one_step_file import read_one_step
from hypir_core.lora.recipe import Layout, recipe, recipe_of, recipes
from hypir_core.models.sd.backbone import load_base
from hypir_core.tags.find import find_tagger
from hypir_core.weights.search.locate import locate_base
from hypir_core.weights.spec import LoraSpec, Prediction
from tests.core import one_step_files as files

CPU = torch.device("cpu")
ALIKE = ("osediff", "pisa_sr", "naosd")


def modules(network):
    return {
        name.removesuffix(".weight"): shape
        for name, shape in files.shapes_of(network).items()
        if name.endswith(".weight") and len(shape) in {2, 4}
    }


MODULES = modules("unet"), modules("vae")


def changed(path, **entries):
    """Return a nested file with other entries; None takes one out."""
    content = torch.load(path, weights_only=True) | entries
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def load(golden, lora, **options):
    given = {"lora": lora, "base_model": str(golden / "hypir" / "model"), "tagger": "off"}
    return load_engine("one-step", options=given | options, device=CPU, dtype="float32")


@pytest.fixture(scope="module")
def backbone(golden):
    return load_base(locate_base(str(golden / "hypir" / "model")))


@pytest.fixture
def photo_01(golden):
    return load_file(golden / "hypir" / "case_3.safetensors")["lq_uint8"][..., :64, :64].float() / 255


@pytest.mark.parametrize(
    ("name", "family", "sliders"),
    [
        ("osediff", "osediff", ["all"]),
        ("pisa_sr", "pisa_sr", ["fidelity", "detail"]),
        ("naosd", "gdpo_sr", ["all"]),
        ("omgsr_s", "omgsr_s", ["all"]),
    ],
)
def test_a_file_is_recognised_by_what_it_holds_whatever_it_is_called(tmp_path, name, family, sliders):
    path = getattr(files, name)(tmp_path / "x.bin")
    found = read_one_step(path, *MODULES)
    assert (found.recipe.name, list(found.unet)) == (family, sliders)
    if name == "omgsr_s":  # its adapter is as good as its folder
        inside = read_one_step(path / "unet_lora_adapter" / "adapter_model.safetensors", *MODULES)
        assert inside.label == found.label


def test_the_scale_is_that_of_the_authors_and_whole_modules_come_before_their_adapters(golden, tmp_path):
    """PEFT's own alpha, 8, over a rank of 4; alpha = rank where the adapter's configuration says so."""
    content = torch.load(files.osediff(tmp_path / "a.pkl"), weights_only=True)
    state, base = content["state_dict_unet"], load_base(locate_base(str(golden / "hypir" / "model")))
    before = {name: weight.clone() for name, weight in base.vae.named_parameters()}
    merge_restorer_(base, read_one_step(tmp_path / "a.pkl", *MODULES))
    up, down = (
        state[f"conv_in.lora_{part}.default_encoder.weight"].flatten(1).double() for part in ("B", "A")
    )
    whole = state["conv_in.base_layer.weight"]
    expected = whole.double() + 8 / 4 * (up @ down).reshape(whole.shape)
    torch.testing.assert_close(base.unet.conv_in.weight.double(), expected, rtol=0, atol=1e-6)
    state = content["state_dict_vae"]
    up, down = (state[f"quant_conv.lora_{part}.default_encoder.weight"].flatten(1) for part in ("B", "A"))
    moved = base.vae.quant_conv.weight - before["quant_conv.weight"]
    torch.testing.assert_close(moved.flatten(1), 2 * up @ down, rtol=0, atol=1e-6)
    assert torch.equal(base.vae.decoder.conv_in.weight, before["decoder.conv_in.weight"])
    assert read_one_step(files.omgsr_s(tmp_path / "o"), *MODULES).unet["all"].scale == 1


def test_a_strength_of_0_leaves_the_base_model_and_half_lies_between(golden, tmp_path):
    folder = files.gdpo_sr(tmp_path / "gdpo")
    base = load_base(locate_base(str(golden / "hypir" / "model")))
    before = base.unet.conv_in.weight.clone()
    file = read_one_step(folder, *MODULES, named="gdpo_sr")
    merge_restorer_(base, file, strength=0.0)
    assert torch.equal(base.unet.conv_in.weight, before)
    merge_restorer_(base, file, strength=0.5)
    middle = (before + file.unet_whole["conv_in.weight"]) / 2
    torch.testing.assert_close(base.unet.conv_in.weight, middle, rtol=0, atol=1e-6)


def test_sliders_weigh_predictions_and_equal_ones_need_one_pass():
    assert pass_weights({"fidelity": 1.0, "detail": 1.0}) == {"fidelity": 0.0, "detail": 1.0}
    assert pass_weights({"fidelity": 0.5, "detail": 1.5}) == {"fidelity": -1.0, "detail": 1.5}
    assert pass_weights({"fidelity": 1.0, "detail": 0.0}) == {"fidelity": 1.0, "detail": 0.0}
    assert pass_weights({"all": 1.0}) == {"all": 1.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"rank_vae": None},
            r"its entries are 7 .*nearest known recipe is osediff, of which it lacks 1 \(rank_vae\)",
        ),
        ({"state_dict_vae": None, "rank_vae": None}, r"lacks 2 \(state_dict_vae, rank_vae\)"),
        ({"rank_unet": 8}, r"expected rank 8, stated by its own rank_unet, got 4"),
        ({"unet_lora_others_modules": []}, r"expected adapters of the modules that it lists"),
        ({"state_dict_vae": {}}, r"expected named tensors in state_dict_vae"),
    ],
)
def test_a_nested_file_that_is_not_whole_is_refused(tmp_path, changes, said):
    path = changed(files.osediff(tmp_path / "a.pkl"), **changes)
    with pytest.raises(WeightsError, match=said) as caught:
        read_one_step(path, *MODULES)
    assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize("which", ["extra", "half", "shape", "nan"])
def test_no_restorer_is_loaded_by_half(tmp_path, which):
    path = files.osediff(tmp_path / "a.pkl")
    state = torch.load(path, weights_only=True)["state_dict_unet"]
    key = "conv_out.lora_A.default_decoder.weight"
    said = {
        "extra": "holds 1 .conv_out.lora_A.another.weight. that its recipe does not know",
        "half": "modules without down: 1 .conv_out",
        "shape": "conv_out: expected",
        "nan": "NaN or infinity",
    }[which]
    if which == "extra":
        state["conv_out.lora_A.another.weight"] = state[key]
    elif which == "half":
        del state[key]
    elif which == "shape":
        state[key] = state[key].repeat(1, 2, 1, 1)
    else:
        state[key] = state[key] * float("nan")
    with pytest.raises(WeightsError, match=said):
        read_one_step(changed(path, state_dict_unet=state), *MODULES)


def test_an_unknown_family_says_what_was_found(tmp_path):
    torch.save(
        {"generator": {"a": torch.ones(1)}, "discriminator": {"a": torch.ones(1)}, "step": 3}, tmp_path / "a"
    )
    with pytest.raises(
        SpecMismatchError, match=r"entries are 3 \(discriminator, generator, step\); no known recipe"
    ):
        read_one_step(tmp_path / "a", *MODULES)


def test_a_file_that_would_run_code_is_refused_and_nothing_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"state_dict_unet": Evil(), "rank_unet": 4}, protocol=2))
    with pytest.raises(WeightsError, match="would run"):
        read_one_step(tmp_path / "a.pkl", *MODULES)
    assert not (tmp_path / "ran").exists()


def test_only_a_lora_of_the_unet_alone_is_converted(tmp_path):
    path = files.osediff(tmp_path / "a.pkl")
    with pytest.raises(
        SpecMismatchError, match=r"got a restorer of several parts; hypir restore --lora takes it"
    ):
        convert(path, tmp_path / "b.safetensors", to="kohya", published=MODULES[0])


def test_a_recipe_that_does_not_fit_the_file_is_refused(tmp_path):
    path, folder = files.pisa_sr(tmp_path / "a.pkl"), files.gdpo_sr(tmp_path / "gdpo")
    with pytest.raises(SpecMismatchError, match=r"is no file of OSEDiff: lacks"):
        read_one_step(path, *MODULES, named="osediff")
    with pytest.raises(UnknownNameError, match=r"one-step recipe 'pisa-sr' \(did you mean 'pisa_sr'\?\)"):
        read_one_step(path, *MODULES, named="pisa-sr")
    with pytest.raises(
        SpecMismatchError, match=r"do not say which restorer.*one of gdpo_sr \(--recipe NAME\)"
    ):
        read_one_step(folder, *MODULES)
    omgsr = files.omgsr_s(tmp_path / "omgsr")
    with pytest.raises(SpecMismatchError, match=r"expected a file of GDPO-SR, got one of OMGSR-S"):
        read_one_step(omgsr, *MODULES, named="gdpo_sr")
    shutil.rmtree(omgsr / "vae_encoder_lora_adapter")
    with pytest.raises(SpecMismatchError, match=r"expected the folders of OMGSR-S.*got no vae_encoder"):
        read_one_step(omgsr, *MODULES)


def test_an_alpha_that_cannot_be_known_is_said(tmp_path):
    folder = files.omgsr_s(tmp_path / "omgsr")
    assert read_one_step(folder, *MODULES).notes == ()
    (folder / "vae_encoder_lora_adapter" / "adapter_config.json").unlink()
    (note,) = read_one_step(folder, *MODULES).notes
    assert "alpha is not stated: alpha = rank is assumed" in note


def test_an_adapter_lacks_no_module_that_its_configuration_names(tmp_path):
    folder = files.omgsr_s(tmp_path / "omgsr")
    config = folder / "unet_lora_adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"target_modules": ["to_q", "proj_in"]}))
    with pytest.raises(SpecMismatchError, match=r"modules that adapter_config\.json"):
        read_one_step(folder, *MODULES)


def test_the_wrong_base_model_is_refused_by_name(golden, tmp_path):
    turbo = tmp_path / "sd-turbo"
    shutil.copytree(golden / "hypir" / "model", turbo)
    lora = files.osediff(tmp_path / "osediff.pkl")
    with pytest.raises(SpecMismatchError, match=r"OSEDiff was trained on \S+2-1-base, got SD-Turbo"):
        load(golden, lora, base_model=str(turbo))
    scheduler = turbo.rename(tmp_path / "768") / "scheduler" / "scheduler_config.json"
    scheduler.chmod(0o644)
    text = json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}
    scheduler.write_text(json.dumps(text))
    with pytest.raises(
        SpecMismatchError, match="expected a base model with eps prediction, got v prediction"
    ):
        load(golden, lora, base_model=str(tmp_path / "768"))


def test_without_a_tagger_the_empty_prompt_is_read_and_the_report_says_so_and_the_licence(
    golden, tmp_path, photo_01
):
    engine = load(golden, files.osediff(tmp_path / "osediff.pkl"))
    report = restore(engine, photo_01, Request(target=TargetSize(scale=1)), Runtime()).report
    assert report.prompt == ""
    assert any("there is no tagger: it is told the empty prompt" in note for note in report.notes)
    assert report.licence == "OSEDiff: Apache-2.0; base model: CreativeML Open RAIL++-M"
    assert (report.settings["recipe"], report.color_fix) == ("osediff", "adain")
    assert "bfloat16" not in recipe("osediff").dtypes  # 14.6 times the prediction


def test_a_recipe_with_tags_reads_what_a_tagger_sees(golden, backbone, photo_01):
    ram = golden / "seesr" / "ram"
    found = find_tagger(
        ram / "ram_swin_large_14m.pth", ram / "DAPE.pth", tag_list=ram, threshold=0.0, max_tags=2
    )
    told = conditioner_of(recipe("gdpo_sr"), backbone, look=found.tagger.look)(
        photo_01, None, Request(prompt="cat")
    )
    assert len(told.tags) == 2
    assert told.prompt == ", ".join(
        [*(tag.name for tag in told.tags), "cat", "clean", "high-resolution", "8k"]
    )
    plain = conditioner_of(recipe("pisa_sr"), backbone)(photo_01, None, Request(prompt="cat"))
    assert plain.notes == ("PiSA-SR was trained with the empty prompt: words may lower the quality",)


def test_noise_is_put_on_where_the_recipe_says_so_and_depends_on_the_seed(golden, tmp_path, photo_01):
    engine = load(golden, files.gdpo_sr(tmp_path / "gdpo"), recipe="gdpo_sr")
    first, again, other = (
        restore(engine, photo_01, Request(target=TargetSize(scale=1), seed=seed), Runtime()).image_01
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


def test_sliders_belong_to_the_recipes_that_have_them(golden, tmp_path):
    with pytest.raises(ConfigError, match="OSEDiff has no detail; leave it out"):
        load(golden, files.osediff(tmp_path / "a.pkl"), detail=0.5)
    with pytest.raises(ConfigError, match="coeff_t has no meaning for PiSA-SR"):
        load(golden, files.pisa_sr(tmp_path / "b.pkl"), coeff_t=100)
    with pytest.raises(ConfigError, match="leave nothing to restore with"):
        load(golden, tmp_path / "b.pkl", fidelity=0, detail=0)


def test_a_spec_names_its_recipe_and_says_its_own_numbers():
    spec = LoraSpec(rank=4, alpha=4, recipe="pisa_sr", model_t=1, coeff_t=1, prediction=Prediction.difference)
    found = recipe_of(spec)
    assert (found.title, found.color_fix, found.prediction) == ("PiSA-SR", "adain", Prediction.difference)
    assert recipe_of(LoraSpec(rank=4, alpha=4, model_t=150, licence="CC0-1.0")).licence == "CC0-1.0"
    assert recipe_of(None).licence == "not stated in the source file"
    with pytest.raises(
        SpecMismatchError, match=r"a\.pth: unknown one-step recipe 'new'.*update this package"
    ):
        recipe_of(LoraSpec(rank=4, alpha=4, recipe="new"), "a.pth")


def test_the_command_line_needs_the_file_alone_and_the_picture_says_what_ran(golden, tmp_path, photo_01):
    photo, out = tmp_path / "photo.png", tmp_path / "out.png"
    Image.fromarray((photo_01[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(photo)
    words = ["restore", photo, "-o", out, "--engine", "one-step", "--lora", files.pisa_sr(tmp_path / "x.pkl")]
    words += ["--base", golden / "hypir" / "model", "--scale", 1, "--detail", 0.5, "--dtype", "float32"]
    assert main([str(word) for word in words]) == 0
    report = json.loads(read_text(out)["hypir.report"])
    assert {key: report["settings"][key] for key in ("recipe", "fidelity", "detail")} == {
        "recipe": "pisa_sr",
        "fidelity": 1.0,
        "detail": 0.5,
    }
    assert report["licence"].startswith("PiSA-SR: none stated; base model:")
    assert report["weights"].startswith("x.pkl sha256:")


def test_every_recipe_is_listed_with_its_licence_and_its_link(capsys):
    assert main(["engines", "--json"]) == 0
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)["one_step_recipes"]}
    assert list(told) == [each.name for each in recipes()]
    assert (
        told["osediff"]["licence"] == told["gdpo_sr"]["licence"] == told["s3diff"]["licence"] == "Apache-2.0"
    )
    assert told["pisa_sr"]["sliders"] == ["fidelity", "detail"]
    assert all(each["link"].startswith("https://github.com/") for each in told.values())
    assert [each.name for each in recipes() if each.mixed] == ["s3diff"]
    assert {each.layout for each in recipes()} == set(Layout)
