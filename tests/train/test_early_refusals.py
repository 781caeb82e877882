"""Wrong names and places are refused before anything heavy is made."""

from __future__ import annotations

import pytest

from hypir_core.errors import ConfigError
from tests.train.tiny_runs import tiny
from train.__main__ import main
from train.run import building
from train.run.building import build


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.degrade=[{recipe: lihgt}]", r"data\.degrade.*'light'"),
        ("data.root=nowhere", r"data\.root: nowhere is not a folder"),
        ("validation={root: nowhere}", r"validation\.root: nowhere is not a folder"),
        ("validation={root: nowhere, recipes: [relaesrgan]}", r"validation\.recipes.*'realesrgan'"),
        (
            "discriminators.d={name: unet, weights: no.safetensors}",
            r"discriminators\.d\.weights: there is no file",
        ),
        ("losses.lpips={options: {backbone: no.pth}}", r"losses\.lpips\.options\.backbone: there is no file"),
        ("base_model=no.safetensors", r"base_model: there is no file no\.safetensors"),
    ],
)
def test_typos_surface_before_the_generator_is_made(photos, tmp_path, monkeypatch, word, message):
    def heavy(*_):
        raise AssertionError("the generator was made first")

    monkeypatch.setattr(building, "build_generator", heavy)
    with pytest.raises(ConfigError, match=message):
        build(tiny(photos, tmp_path, 1, word))


def test_every_wrong_place_and_recipe_is_told_at_once_before_anything_is_built(
    tmp_path, photos, capsys, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("the generator was built first")

    monkeypatch.setattr("train.run.building.build_generator", never)
    command = [
        "tiny_cpu_pixel", f"output_dir={tmp_path / 'run'}", "max_steps=1", "data.degrade=[{recipe: realesrgn}]",
        f"data.roots=[{{root: {photos}}}, {{root: {tmp_path}/gone.csv}}, "
        f"{{root: {photos}, source: {{lq_root: {tmp_path}/nowhere}}}}]",
        f"validation={{root: {tmp_path}/typo, recipes: [realesrgan, blurr.yaml]}}",
    ]  # fmt: skip
    assert main(command) == 2
    said = capsys.readouterr().err
    for line in (
        "data.roots.1.root: ",
        "data.roots.2.source.lq_root: ",
        "validation.root: ",
        "data.degrade: unknown degrade preset 'realesrgn' (did you mean 'realesrgan'",
        "validation.recipes: blurr.yaml: cannot be read",
    ):
        assert line in said
    assert not (tmp_path / "run").exists()
