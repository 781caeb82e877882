from __future__ import annotations

import re
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from hypir_core.errors import ConfigError
from train.config import PRESETS, load_config
from train.data.degrading import recipe_for
from train.options import check_options
from train.run.building import build

ACCELERATE = PRESETS.parent / "accelerate"

NEEDED = ["data.root=photos", "output_dir=out", "max_steps=10"]


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_builds_and_starts_with_its_command(path: Path):
    config = load_config(str(path), NEEDED)
    assert config.max_steps == 10
    command = path.read_text(encoding="utf-8").splitlines()[0]
    assert re.match(
        rf"# (python|accelerate launch) -m train train/presets/{path.name} .*max_steps=\d", command
    )
    makes_its_own = config.data.source.dataset is not None
    needs = ["output_dir"] if makes_its_own else ["output_dir", "data.root"]
    assert all(f"{key}=" in command for key in needs)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_name_and_option_of_a_preset_exists(path: Path):
    config = load_config(str(path), [*NEEDED, "base_model=somewhere"])
    assert config.base_model == "somewhere"
    check_options(config)
    for share in config.data.degrade:
        recipe_for(share.recipe)


def test_typos_are_listed_all_at_once_with_the_nearest_key():
    with pytest.raises(ConfigError) as caught:
        load_config(
            "tiny_cpu_pixel", [*NEEDED, "seeed=1", "data.crop_pixels=3", "generator.optimiser.lr=fast"]
        )
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "'seeed' (did you mean 'seed'?)" in text
    assert "data.crop_pixels" in text
    assert "generator.optimiser.lr" in text


def test_typos_in_options_are_listed_all_at_once_too():
    config = load_config(
        "tiny_cpu",
        [
            *NEEDED, "generator.options.rang=4", "losses.l3.weight=1", "losses.huber.options.detla=1",
            "discriminators.d={name: patch, loss: hing, options: {feature: 4}}",
        ],
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        check_options(config)
    text = str(caught.value)
    assert len(caught.value.problems) == 5
    for hint in ("'rank'", "'l3'", "'delta'", "'hinge'", "'features'"):
        assert hint in text


def test_a_preset_alone_says_what_is_missing():
    with pytest.raises(ConfigError) as caught:
        load_config("compact_pixel", [])
    assert {"output_dir", "max_steps", "data.root"} <= set(" ".join(caught.value.problems).split())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("data.pool.reuse=3", "batch_size must divide by pool.reuse"),
        ("data.shrink=[0.5, 1.5]", "shrink must be"),
        ("data.degrade=[]", "at least one recipe"),
        ("losses.l1.ramp.start=-2", "start must be 0 or more"),
        ("generator.ema.decay=1", "decay must lie"),
    ],
)
def test_bad_values_are_explained(item, message):
    with pytest.raises(ConfigError, match=message):
        load_config("tiny_cpu_pixel", [*NEEDED, item])


@pytest.mark.parametrize("path", sorted(ACCELERATE.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(path: Path):
    read = load_config_from_file(str(path))
    assert read.distributed_type == {"fsdp": DistributedType.FSDP}.get(path.stem, DistributedType.MULTI_GPU)
    assert path.read_text(encoding="utf-8").startswith(
        f"# accelerate launch --config_file train/accelerate/{path.name} "
    )


@pytest.mark.parametrize(
    ("variable", "key"),
    [("ACCELERATE_USE_DEEPSPEED", "distributed_type"), ("ACCELERATE_USE_FSDP", r"fsdp_config\.fsdp_version")],
)
def test_what_accelerate_may_not_do_is_refused(variable, key, monkeypatch, tmp_path):
    needed = [*NEEDED, f"data.root={tmp_path}"]
    monkeypatch.setenv(variable, "true")
    if "FSDP" in variable:
        with pytest.raises(ConfigError, match=r"precision: FSDP .* fp32 only, got bf16"):
            build(load_config("tiny_cpu_pixel", [*needed, "precision=bf16"]))
    with pytest.raises(ConfigError, match=rf"{key}: .* use train/accelerate/fsdp\.yaml"):
        build(load_config("tiny_cpu_pixel", needed))
