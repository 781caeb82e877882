"""One network at a time: who lies where, in which order, and how much that is."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from hypir_core.errors import ConfigError
from hypir_core.residency import Residents
from hypir_core.runtime import Runtime
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileConfig
from hypir_core.tiling.run import run_stage
from hypir_core.tiling.stage import Stage

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")


def networks() -> dict[str, nn.Module]:
    return {
        "unet": nn.Conv2d(3, 3, 1),
        "controlnet": nn.Conv2d(3, 3, 3),
        "vae": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
    }


def on(nets: dict[str, nn.Module], device: torch.device) -> set[str]:
    return {name for name, net in nets.items() if next(net.parameters()).device == device}


def test_one_at_a_time_sends_the_others_home_first():
    nets, told = networks(), []
    residents = Residents(nets, one_at_a_time=True, told=told.append)
    vae, step = residents.place("vae"), residents.place("unet", "controlnet")
    vae(ELSEWHERE)
    assert on(nets, ELSEWHERE) == {"vae"}
    nets["vae"].to_empty(device=CPU)  # the meta device forgets numbers: it cannot be left by `to`
    for _ in range(3):
        step(ELSEWHERE)
        assert on(nets, ELSEWHERE) == {"unet", "controlnet"}
    assert told == [("vae",), ("unet", "controlnet")]
    assert residents.live == ("unet", "controlnet")


def test_kept_networks_gather():
    nets, told = networks(), []
    residents = Residents(nets, told=told.append)
    residents.place("vae")(ELSEWHERE)
    residents.place("unet")(ELSEWHERE)
    residents.place("vae")(ELSEWHERE)
    assert on(nets, ELSEWHERE) == {"vae", "unet"}
    assert told == [("vae",), ("vae", "unet")]


def stage(name: str, net: nn.Module, place) -> Stage:
    return Stage(
        name=name,
        run=lambda tile, _guides: net(tile),
        out_channels=3,
        out_strides=1,
        grain_px=1,
        bytes_per_px=1.0,
        tile=TileConfig(tile_px=8, overlap_px=2),
        place=place,
    )


def test_stages_of_a_run_place_them_in_order():
    nets = {name: nn.Conv2d(3, 3, 1) for name in ("vae", "unet", "unused")}
    told: list[tuple[str, ...]] = []
    residents = Residents(nets, one_at_a_time=True, told=told.append)
    plane = Plane(torch.rand(1, 3, 12, 12))
    run = partial(run_stage, runtime=Runtime())
    for _ in range(20):
        out = plane
        for name, net in (("encode", "vae"), ("step 1/2", "unet"), ("step 2/2", "unet"), ("decode", "vae")):
            out, _ = run(stage(name, nets[net], residents.place(net)), out)
        expected = nets["vae"](nets["unet"](nets["unet"](nets["vae"](plane.data))))
        torch.testing.assert_close(out.data, expected)
        residents.leave()
    assert told == [("vae",), ("unet",), ("vae",), ()] * 20
    assert residents.live == ()


@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_the_most_that_lies_there_is_the_largest_stage_or_the_sum(one_at_a_time):
    nets = networks()
    most = 0

    def told(live: tuple[str, ...]) -> None:
        nonlocal most
        most = max(most, sum(sizes[name] for name in live))

    residents = Residents(nets, one_at_a_time=one_at_a_time, told=told)
    sizes = residents.weights_bytes()
    stages = (("vae",), ("unet", "controlnet"), ("unet", "controlnet"), ("vae",))
    for names in stages:
        residents.place(*names)(torch.device("cpu"))
    largest = max(sum(sizes[name] for name in names) for names in stages)
    assert largest < sum(sizes.values())
    assert most == (largest if one_at_a_time else sum(sizes.values()))


def test_memory_of_every_network_counts_shared_weights_once():
    nets = networks()
    shared = nn.Sequential(nets["unet"], nn.Linear(2, 2, bias=False))
    counted = Residents({**nets, "both": shared}).weights_bytes()
    assert counted == {
        "unet": 4 * (9 + 3),
        "controlnet": 4 * (81 + 3),
        "vae": 4 * (12 + 4 + 4 * 4) + 8,  # the norm has weight, bias, mean, variance and a counter
        "both": 16,
    }


def test_an_unknown_name_is_told_at_once():
    with pytest.raises(ConfigError, match="no network is called vea; known: unet, controlnet, vae"):
        Residents(networks()).place("vea")
