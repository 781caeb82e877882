"""The container's predictor, without a container: what it offers is what the library takes, and it restores."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from hypir_core import load_engine
from hypir_core.cli import main
from hypir_core.color.mode import ColorFix
from hypir_core.config import build
from hypir_core.engines.catalog import ENGINES
from hypir_core.errors import HypirError
from hypir_core.files.formats import writable_names
from hypir_core.request import Request

COG = Path(__file__).parents[2] / "deploy" / "cog"
pytest.importorskip("cog", reason="the package cog is not installed")
inspector = pytest.importorskip(
    "cog._inspector", reason="this version of cog shows its inputs in another place"
)


@pytest.fixture(scope="module")
def predictor():
    """The module and what Cog reads in it."""
    spec = importlib.util.spec_from_file_location("hypir_cog_predict", COG / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    made = module.Predictor()
    made.setup()
    yield made, inspector.create_predictor(spec.name, "Predictor").inputs
    del sys.modules[spec.name]


def restored(predictor, **given):
    made, inputs = predictor
    return made.predict(**inspector.check_input(inputs, given))


def test_choices_are_those_of_the_library(predictor):
    _made, inputs = predictor
    assert inputs["engine"].choices == list(ENGINES.names())
    assert inputs["color_fix"].choices == ["auto", *(fix.value for fix in ColorFix)]
    assert inputs["output_format"].choices == list(writable_names())


@pytest.mark.parametrize("name", ["scale", "strength", "color_strength", "sharpen", "edge_enhance", "seed"])
def test_ranges_are_those_of_the_dataclasses(predictor, name):
    """The ends are taken, and what is beyond them is refused there as well."""
    field = predictor[1][name]

    def wish(value):
        data = {"target": {"scale": value}} if name == "scale" else {name: value}
        return build(Request, data, where="request")

    for end, step in ((field.ge, -1), (field.le, 1)):
        if end is None:
            continue
        wish(end)
        with pytest.raises(HypirError):
            wish(end + step)
        with pytest.raises(ValueError, match=name):
            inspector.check_input(predictor[1], {"image": "x.png", name: end + step})
    default = Request().target.scale or 4.0 if name == "scale" else getattr(Request(), name)
    assert field.default == default


def test_it_restores_what_the_command_line_restores(predictor, tmp_path):
    Image.linear_gradient("L").resize((24, 18)).save(tmp_path / "photo.png")
    made = restored(predictor, image=str(tmp_path / "photo.png"), scale=2, sharpen=0.5)
    assert main(["restore", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out.png"), "--scale", "2",
                 "--sharpen", "0.5"]) == 0  # fmt: skip
    assert Path(made.picture).read_bytes() == (tmp_path / "out.png").read_bytes()
    assert made.licence == load_engine("built-in", options={}, device=torch.device("cpu")).spec.licence
    assert '"output_px": [36, 48]' in made.report


def test_a_file_that_is_none_fails_in_one_line(predictor, tmp_path):
    (tmp_path / "notes.png").write_text("hello, this is text")
    with pytest.raises(HypirError, match="expected a picture") as failed:
        restored(predictor, image=str(tmp_path / "notes.png"))
    assert "\n" not in str(failed.value)


def test_settings_of_an_engine_are_checked(predictor, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(HypirError, match="weights"):
        restored(predictor, image=str(tmp_path / "a.png"), engine="upscaler")


def test_cog_finds_what_its_file_names():
    told = yaml.safe_load((COG / "cog.yaml").read_text(encoding="utf-8"))
    file, _, name = told["predict"].partition(":")
    assert f"class {name}(" in (COG / file).read_text(encoding="utf-8")
    assert (COG / told["build"]["python_requirements"]).is_file()
    assert "XDG_CACHE_HOME=/weights" in told["environment"]
