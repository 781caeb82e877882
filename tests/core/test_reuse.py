"""Files that are read once: engines on the same weights have one network, and nothing is kept longer than it is used."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path

import pytest
import torch

from hypir_core import load_engine
from hypir_core.components import SCHEDULER_REGISTRY
from hypir_core.engines.pixel import load
from hypir_core.measure.tune import choices, tune
from hypir_core.models.sd.backbone import load_base
from hypir_core.weights.once import Once
from hypir_core.weights.search.locate import locate_base
from tests.core.pixel.pixel_networks import scene
from tests.core.pixel.test_pixel_file import weights

CPU = torch.device("cpu")


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """Every read of a file of pixel weights."""
    found: list[Path] = []
    real = load.read_pixel

    def counted(path):
        found.append(path)
        return real(path)

    monkeypatch.setattr(load, "read_pixel", counted)
    return found


def pixel(path, dtype: str = "float32", **options):
    return load_engine("pixel", {"weights": str(path), **options}, device=CPU, dtype=dtype)


def test_engines_that_differ_in_settings_have_one_network(tmp_path, reads):
    path = weights(tmp_path / "net.safetensors")
    one, other = pixel(path, steps=2), pixel(path, steps=5, guidance="pkl", psf_sigma_px=1.3)
    assert one.net is other.net
    assert one.spec.settings != other.spec.settings
    assert len(reads) == 1
    assert pixel(path, "bfloat16").net is not one.net
    assert one.net is pixel(path).net
    assert next(one.net.parameters()).dtype == torch.float32


def test_a_file_that_changed_is_read_again_and_nothing_is_kept(tmp_path, reads):
    path = weights(tmp_path / "net.safetensors")
    one = pixel(path)
    os.utime(path, ns=(1, 1))
    assert pixel(path).net is not one.net
    assert len(reads) == 2
    gone = weakref.ref(one.net)
    del one
    gc.collect()
    assert gone() is None


def test_a_plan_does_not_take_the_numbers_of_an_engine_in_use(tmp_path):
    path = weights(tmp_path / "net.safetensors")
    one = pixel(path)
    planned = load.pixel_skeleton(one.options, CPU, "float32")
    assert all(each.is_meta for each in planned.net.parameters())
    assert not any(each.is_meta for each in one.net.parameters())


def test_tuning_reads_the_weights_once(tmp_path, reads):
    """Before, every choice read them twice."""
    path = weights(tmp_path / "net.safetensors")
    adu = (100 + 200 * torch.poisson(scene(24, 24), generator=torch.Generator().manual_seed(0))).float()
    grid = [choice | {"steps": 1} for choice in choices("pixel")][:4]
    found = tune("pixel", {"weights": str(path)}, adu, grid=grid, device=CPU, dtype="float32")
    assert len(found) == 4
    assert len(reads) == 1


def test_bases_share_what_no_restorer_changes(golden):
    """The text encoder stays as it is; LoRAs are merged into UNet and VAE, which are each engine's own."""
    files = locate_base(str(golden / "hypir" / "model"), offline=True)
    one, other = load_base(files), load_base(files)
    assert one.text_encoder is other.text_encoder
    assert one.unet is not other.unet
    assert one.vae is not other.vae


def test_schedules_are_made_once_where_that_is_asked_for():
    one = SCHEDULER_REGISTRY.cached("cosine", num_timesteps=77)
    assert SCHEDULER_REGISTRY.cached("cosine_schedule", {"num_timesteps": 77}) is one
    assert SCHEDULER_REGISTRY.cached("cosine", num_timesteps=78) is not one
    assert SCHEDULER_REGISTRY.create("cosine", num_timesteps=77) is not one


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="nothing"):
        Once[dict]().of(tmp_path / "nothing", dict)
