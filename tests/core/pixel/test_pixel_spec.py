"""A file of a network of pixels: it comes back as it was, and says plainly what it does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from hypir_core.engines.pixel import network
from hypir_core.engines.pixel.network import build_network, build_schedule, read_pixel, save_pixel
from hypir_core.errors import ConfigError, SpecMismatchError
from hypir_core.image.ranges import RangeConfig, RangeKind
from hypir_core.weights import versions
from hypir_core.weights.pixel_spec import PixelSpec
from hypir_core.weights.spec import spec_from_metadata, spec_to_metadata
from hypir_core.weights.tensors import read_tensors, write_tensors
from hypir_core.weights.versions import Stored

OPTIONS = {"channels": (8, 16), "layers": 1, "groups": 4, "fold": 2}


def spec(**more) -> PixelSpec:
    fields = {
        "name": "tiny",
        "options": OPTIONS,
        "schedule_options": {"num_timesteps": 50, "s": 0.01},
        "value_range": RangeConfig(kind=RangeKind.white, white=50.0, symmetric=True),
        "background_e": 0.5,
        "camera": {"offset_adu": 100.0, "gain": 2.0},
        "psf": ((0.0, 1.0), (1.0, 2.0)),
        "peaks_e": (2.5, 79.0),
        "trained_on": "nothing",
        "trained_with": "a test",
        "licence": "CC0",
    }
    return PixelSpec(**{**fields, **more})


def saved(path, of: PixelSpec, components: Mapping[str, str] | None = None):
    """Write a file; `components` are the versions that it says it was made with."""
    torch.manual_seed(0)
    net = build_network(of, where="test")
    save_pixel(path, net.state_dict(), of)
    if components is not None:
        tensors = read_tensors(path).tensors
        write_tensors(path, tensors, spec_to_metadata(replace(of, components=components)))
    return net.eval()


def test_a_file_comes_back_as_it_was(tmp_path):
    path = tmp_path / "m.safetensors"
    net = saved(path, spec())
    found = read_pixel(path)
    assert found.notes == ()
    assert found.spec == replace(spec(), components={"architecture unet": "1", "scheduler cosine": "1"})
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(net(x, 3.0), found.net(x, 3.0))
    again = tmp_path / "again.safetensors"
    save_pixel(again, found.net.state_dict(), found.spec)
    assert again.read_bytes() == path.read_bytes()


def test_the_schedule_is_the_one_that_is_stated():
    from hypir_core.components import create_scheduler

    made = build_schedule(spec(), where="test")
    assert torch.equal(made.get_betas(), create_scheduler("cosine", num_timesteps=50, s=0.01).get_betas())


@pytest.mark.parametrize(
    ("made_with", "said"),
    [
        ({"architecture unet": "2"}, r"architecture unet version 2, here is 1; update this package"),
        ({"scheduler cosine": "0.9"}, r"scheduler cosine version 0.9, here is 1; train it anew"),
        ({"scheduler cosine": "x"}, r"must be MAJOR or MAJOR.MINOR, got 'x'"),
    ],
)
def test_another_major_version_is_refused(tmp_path, made_with, said):
    path = tmp_path / "m.safetensors"
    saved(path, spec(), made_with)
    with pytest.raises(SpecMismatchError, match=said):
        read_pixel(path)


def test_another_minor_version_is_noted(tmp_path):
    path = tmp_path / "m.safetensors"
    saved(path, spec(), {"architecture unet": "1.3"})
    (note,) = read_pixel(path).notes
    assert note == (
        "m.safetensors: made with architecture unet version 1.3, here is 1: results may differ a little"
    )


def test_a_migration_brings_an_older_major_version_up_to_date(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    net = saved(path, spec())
    tensors = {f"old.{name}": tensor for name, tensor in net.state_dict().items()}
    old = replace(spec(), components={"architecture unet": "0.2"}, options={**OPTIONS, "cells": 2})

    def newer(stored: Stored) -> Stored:
        options = {name: value for name, value in stored.options.items() if name != "cells"}
        return Stored(
            options=options,
            tensors={name.removeprefix("old."): tensor for name, tensor in stored.tensors.items()},
        )

    write_tensors(path, tensors, spec_to_metadata(old))
    with pytest.raises(SpecMismatchError, match="train it anew"):
        read_pixel(path)
    monkeypatch.setitem(versions.MIGRATIONS, ("architecture", "unet", 0), newer)
    found = read_pixel(path)
    assert "brought up to date" in found.notes[0]
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(net(x, 3.0), found.net(x, 3.0))
    assert found.spec.components == network.component_versions(spec())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"channels": 2}, "tensors do not fit the network of its spec"),
        ({"options": {**OPTIONS, "channel": (8,)}}, "unknown key 'channel'"),
        ({"architecture": "unett"}, "did you mean 'unet'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"schedule_options": {"num_timesteps": 50, "power": 2}}, "takes no power"),
        ({"one_step_t": 50}, "one_step_t must lie in 0 … 49"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused_in_one_line(tmp_path, more, said):
    path = tmp_path / "m.safetensors"
    net = saved(path, spec())
    write_tensors(path, net.state_dict(), spec_to_metadata(spec(**more)))
    with pytest.raises(SpecMismatchError, match=said) as raised:
        read_pixel(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"channels": 0}, "channels must be 1"),
        ({"background_e": -1.0}, "background_e"),
        ({"value_range": RangeConfig(kind=RangeKind.histogram)}, "straight line"),
        ({"peaks_e": (5.0, 2.0)}, "peaks_e"),
        ({"psf": ((1.0,), (1.0, 2.0))}, "rows of one length"),
        ({"one_step_t": -1}, "one_step_t"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(more, said):
    with pytest.raises(ConfigError, match=said):
        spec(**more)


def test_a_spec_survives_its_text():
    assert spec_from_metadata(spec_to_metadata(spec()), "here") == spec()
