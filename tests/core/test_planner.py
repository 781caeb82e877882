"""The plan before a run: no weights, one place that decides, the same as what is run."""

from __future__ import annotations

import json

import pytest
import torch

from hypir_core import Request, Runtime, TargetSize, TileConfig, load_engine, restore
from hypir_core.cli import main
from hypir_core.engines.diffusion.parts import DECODE_SAMPLE, ENCODE_SAMPLE, STEP_SAMPLE
from hypir_core.measure.device_speed import matrix_rate, remember, shares_of_matrix_rate
from hypir_core.measure.planner import plan_run
from hypir_core.tiling.choose import lay_tiles
from hypir_core.tiling.plan import TileWish
from hypir_core.tiling.stage import Stage

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("one-step", CPU, torch.bfloat16, rate=1e12, shares={})
    remember("built-in", CPU, torch.float32, rate=1e12, shares={})


def stage(*, own: TileConfig, bytes_per_px: float = 1000.0) -> Stage:
    return Stage(
        name="stage",
        run=lambda tile, _: tile,
        out_channels=3,
        out_strides=1,
        grain_px=8,
        bytes_per_px=bytes_per_px,
        tile=own,
    )


def test_the_full_size_model_is_planned_without_weights():
    plan = plan_run("one-step", (512, 512), options={}, device=CPU, dtype="bfloat16")
    assert [(s.name, s.tile_count) for s in plan.stages] == [("encode", 1), ("step 1/1", 1), ("decode", 1)]
    per_tile = [s.flops for s in plan.stages]
    # One 512 px tile: encode 1.12, UNet 0.80, decode 2.51 TFLOP, counted on diffusers' own modules; here the
    # decoder's three enlargements and the UNet's take 4/9 of their share.
    assert per_tile[0] == pytest.approx(1.12e12, rel=0.02)
    assert 0.7e12 < per_tile[1] < 0.85e12
    assert 2.0e12 < per_tile[2] < 2.25e12
    assert plan.least_seconds == pytest.approx(sum(s.flops for s in plan.stages) / 1e12)
    assert plan.seconds is None
    assert plan.canvas_bytes == 2 * 3 * 4 * 512**2


def test_the_sample_before_several_tiles_is_counted():
    plan = plan_run("one-step", (1024, 1024), options={}, device=CPU, dtype="bfloat16")
    one = plan_run("one-step", (512, 512), options={}, device=CPU, dtype="bfloat16")
    for stage, alone in zip(plan.stages, one.stages, strict=True):
        areas = stage.tile_count * stage.tile_px[0] * stage.tile_px[1] / 512**2
        sample = {"encode": ENCODE_SAMPLE, "decode": DECODE_SAMPLE}.get(stage.name, STEP_SAMPLE)
        of_tile = sample.of_tile * stage.tile_px[0] * stage.tile_px[1] / 512**2
        assert 0.7 * of_tile < stage.flops / alone.flops - areas < 1.3 * of_tile


def test_a_benchmark_teaches_the_plan_its_seconds():
    shares = {"encode": 0.5, "step": 0.25, "decode": 0.5}
    remember("one-step", CPU, torch.bfloat16, rate=2e12, shares=shares)
    plan = plan_run("one-step", (512, 512), options={}, device=CPU, dtype="bfloat16")
    assert plan.stages[1].seconds == pytest.approx(plan.stages[1].flops / 0.5e12)
    assert plan.seconds == pytest.approx(sum(s.seconds for s in plan.stages))
    assert plan.seconds > plan.least_seconds


@pytest.mark.parametrize("size_px", [(160, 200), (1400, 1200)])
def test_what_is_planned_is_what_is_run(size_px):
    planned = plan_run("built-in", size_px, options={}, device=CPU, dtype="float32")
    engine = load_engine("built-in", options={}, device=CPU, dtype="float32")
    picture = torch.rand(1, 3, size_px[0] // 4, size_px[1] // 4)
    report = restore(engine, picture, Request(target=TargetSize(scale=4)), Runtime()).report
    assert report.output_px == planned.output_px
    assert [(s.name, s.tiles, s.batch) for s in report.stages] == [
        (s.name, s.tiles, s.batch) for s in planned.stages
    ]


def test_less_memory_never_means_more_of_it():
    tile = TileConfig(tile_px=768, overlap_px=64)
    taken = []
    for mib in (32, 64, 128, 256, 512, 1024, 2048, 8192):
        runtime = Runtime(memory_budget_bytes=mib << 20)
        chosen = lay_tiles(stage(own=tile), (2048, 2048), runtime=runtime)
        taken.append(chosen.rung.batch * chosen.plan.tile_area_px * 1000)
        assert taken[-1] <= mib << 20
        assert chosen.rung.tile.overlap_px == 64
    assert taken == sorted(taken)
    assert taken[-1] > 8 * taken[0]


def test_a_tile_that_the_user_asked_for_is_tried_as_it_is():
    asked = TileWish(tile_px=768, overlap_px=64)
    runtime = Runtime(memory_budget_bytes=1 << 20)
    chosen = lay_tiles(stage(own=TileConfig()), (2048, 2048), wish=asked, runtime=runtime)
    assert chosen.rung.tile == TileConfig(tile_px=768, overlap_px=64)
    assert chosen.rung.batch == 1


def test_one_tile_on_a_cpu_stays_below_two_gib():
    big = TileConfig(tile_px=768, overlap_px=64)
    heavy = stage(own=big, bytes_per_px=6000.0)
    chosen = lay_tiles(heavy, (4096, 4096), runtime=Runtime())
    assert chosen.plan.tile_area_px * 6000 <= 2 << 30
    assert chosen.rung.tile.tile_px > 400


def test_the_matrix_rate_is_measured_once(monkeypatch):
    remember("any", CPU, torch.float32, rate=3e9, shares={"a": 0.5})
    assert matrix_rate(CPU, torch.float32) == 3e9
    assert shares_of_matrix_rate("any", CPU, torch.float32) == {"a": 0.5}
    assert shares_of_matrix_rate("another", CPU, torch.float32) == {}


def test_a_broken_cache_is_measured_again(tmp_path):
    (tmp_path / "onestep-restore" / "device_speed.json").write_text('{"matrix_flops_per_second": [')
    first = matrix_rate(CPU, torch.float32)
    assert first > 1e8
    assert matrix_rate(CPU, torch.float32) == first


def test_doctor_prints_the_plan(capsys):
    words = ["doctor", "--plan", "4096x2048", "--dtype", "bfloat16", "--device", "cpu"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "one-step, 4096×2048 px" in said
    assert "MiB above the weights" in said
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["output_px"] == [2048, 4096]
    assert found["working_bytes"] == max(s["working_bytes"] for s in found["stages"])
    assert main(["doctor", "--plan", "huge"]) == 2


def test_without_a_gpu_the_plan_of_seesr_says_seconds_and_memory(capsys):
    assert (
        main(["doctor", "--plan", "512", "--engine", "seesr", "--dtype", "auto", "--device", "cpu", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in found["stages"]] == ["encode", "step 1/2", "step 2/2", "decode"]
    assert found["least_seconds"] > 0
    assert found["dtype"] in {"bfloat16", "float32"}  # what this CPU is quickest in


def test_a_larger_result_takes_no_more_working_memory():
    """SeeSR in full size, its shapes alone: what grows is the picture itself, and that is told apart."""
    small, middle, large = (
        plan_run("seesr", (side, side), options={"steps": 1}, device=CPU, dtype="bfloat16")
        for side in (2048, 4096, 8192)
    )
    assert large.working_bytes <= 1.05 * middle.working_bytes
    assert middle.working_bytes <= 1.4 * small.working_bytes  # spread evenly over 2048 px, tiles are smaller
    assert large.canvas_bytes == pytest.approx(16 * small.canvas_bytes, rel=0.05)
