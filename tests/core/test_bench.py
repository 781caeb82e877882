"""`hypir bench`: the figures add up, the layout is the promised one."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hypir_core import Request, Runtime, TargetSize, load_engine
from hypir_core.cli import main
from hypir_core.engines.diffusion.parts import Codec, Denoiser
from hypir_core.errors import ConfigError
from hypir_core.image.size import parse_size
from hypir_core.measure import against
from hypir_core.measure.matrix_rate import matrix_flops_per_second
from hypir_core.measure.memory import PeakMemory
from hypir_core.measure.run import Case
from hypir_core.measure.work import lay_run, warm_up
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.plan import TileWish

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def bench(capsys, *words: object) -> dict:
    assert main(["bench", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def one_step(golden) -> list[object]:
    folder = golden / "hypir"
    return [
        *("--engine", "one-step"),
        *("--option", f"base_model={folder / 'model'}"),
        *("--option", f"lora={folder / 'lora.pth'}"),
    ]


def test_one_row_per_case_in_the_promised_layout(capsys, golden, tmp_path):
    trace = tmp_path / "deep" / "trace.json"
    words = (*one_step(golden), "--size", 128, "--size", "256x128", "--dtype", "float32", "--device", "cpu")
    found = bench(capsys, *words, "--repeats", 2, "--profile", trace)
    rows = found["results"]
    assert [(row["engine"], row["size"], row["dtype"]) for row in rows] == [
        ("one-step", 128, "float32"),
        ("one-step", "256x128", "float32"),
    ]
    for row in rows:
        assert len(row["all_seconds"]) == 2
        assert min(row["all_seconds"]) <= row["seconds"] <= max(row["all_seconds"])
        assert row["cpu_seconds"] > 0
        assert list(row["stages"]) == ["encode", "step 1/1", "decode"]
        assert sum(stage["seconds"] for stage in row["stages"].values()) < 1.2 * row["seconds"]
        assert row["tflops"] == pytest.approx(row["tflop"] / row["seconds"], rel=0.1)
        assert 0 < row["share_of_matrix_rate"] < 1
        assert row["device"].startswith("CPU")
        assert "lora.pth" in row["weights"]
    assert found["machine"]["versions"]["torch"] == torch.__version__
    assert found["machine"]["cpu"]
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert "aten::conv2d" in names


def test_seesr_is_measured_step_by_step(capsys):
    words = (
        "--engine",
        "seesr",
        "--option",
        "random_weights=tiny",
        "--option",
        "process_px=64",
        "--size",
        64,
    )
    (row,) = bench(capsys, *words, "--dtype", "float32", "--device", "cpu", "--repeats", 1)["results"]
    assert (row["engine"], row["size"]) == ("seesr", 64)
    assert list(row["stages"]) == ["encode", "step 1/2", "step 2/2", "decode"]
    assert all(stage["seconds"] > 0 for stage in row["stages"].values())
    assert row["seconds"] > 0
    assert row["tflop"] > 0


def test_a_profiled_run_tells_time_and_memory_of_every_stage(capsys, tmp_path):
    trace = tmp_path / "trace.json"
    words = [
        "bench",
        "--engine",
        "pixel",
        "--weights",
        "built-in",
        "--steps",
        "2",
        "--size",
        "64",
        "--scale",
        "1",
    ]
    assert main([*words, "--repeats", "1", "--device", "cpu", "--profile", str(trace)]) == 0
    said = capsys.readouterr().err
    lines = re.findall(r"profiled (step \d/2): (\d+\.\d+) s(?:, peak (\d+) MiB with the weights)?", said)
    assert [name for name, _, _ in lines] == ["step 1/2", "step 2/2"]
    assert all(float(seconds) > 0 for _, seconds, _ in lines)
    if sys.platform == "linux":
        assert all(int(peak) > 50 for _, _, peak in lines)  # Python and torch alone are more
    assert "aten::" in said
    assert json.loads(trace.read_text())["traceEvents"]


def test_a_table_without_json(capsys):
    assert main(["bench", "--size", "64", "--repeats", "1", "--dtype", "float32"]) == 0
    said = capsys.readouterr().out
    assert "built-in" in said
    assert "1×1 tiles of 64×64 px" in said


def test_work_is_counted_for_all_tiles():
    """Twice the area is twice the arithmetic, where tiles do not overlap: 2·9·in·out per pixel and layer."""
    engine = load_engine("built-in", options={}, device=CPU, dtype="float32")
    layers = [m for m in engine.net.modules() if isinstance(m, torch.nn.Conv2d)]
    per_input_px = sum(2 * layer.weight.numel() for layer in layers)
    request = Request(target=TargetSize(scale=4), tile=TileWish(tile_px=128, overlap_px=0))
    for width in (32, 64):
        prepared = engine.prepare(Plane(torch.rand(1, 3, 32, width)), (128, 4 * width), request)
        (work,) = warm_up(engine, prepared, request, Runtime(batch_tiles=1))
        (laid,) = lay_run(engine, prepared, request, Runtime(batch_tiles=1))
        assert laid.tiles == width // 32
        assert work.flops == per_input_px * 32 * width


def test_the_sample_before_the_tiles_is_work_too(golden):
    options = {"base_model": str(golden / "hypir" / "model"), "lora": str(golden / "hypir" / "lora.pth")}
    request = Request(target=TargetSize(scale=4), tile=TileWish(tile_px=320, overlap_px=32))
    engine = load_engine("one-step", options=options, device=CPU, dtype="float32")
    prepared = engine.prepare(Plane(torch.rand(1, 3, 128, 160)), (512, 640), request)
    runtime = Runtime(batch_tiles=1)
    alone = replace(engine, codec=apart(engine.codec), denoiser=without_sharing(engine.denoiser))
    with_sample, without = (warm_up(e, prepared, request, runtime) for e in (engine, alone))
    for laid, more, less in zip(
        lay_run(engine, prepared, request, runtime), with_sample, without, strict=True
    ):
        assert laid.tiles > 1
        assert laid.layout.crops is not None
        side = laid.layout.crops.side_px
        channels, stride = (3, 1) if more.name == "encode" else (4, 8)
        with FlopCounterMode(display=False) as of_crop, torch.no_grad():
            laid.stage.run(torch.rand(1, channels, side // stride, side // stride), {})
        crops = laid.layout.crops.count
        assert crops > 1
        # a prompt is projected once for all crops
        assert (more.flops - less.flops) / of_crop.get_total_flops() == pytest.approx(crops, rel=0.05)


def apart(codec: Codec) -> Codec:
    """A codec that treats every tile by itself."""
    encoding, decoding = (replace(placing, shared=None) for placing in (codec.encoding, codec.decoding))
    return replace(codec, encoding=encoding, decoding=decoding)


def without_sharing(denoiser: Denoiser) -> Denoiser:
    return replace(denoiser, placing=replace(denoiser.placing, shared=None))


def test_peak_memory_sees_what_was_held():
    memory = PeakMemory(CPU)
    memory.start()
    held = torch.ones(64 << 20, dtype=torch.uint8)
    del held
    peak = memory.above_start_bytes()
    if peak is None:
        pytest.skip("this system does not count a peak anew")
    assert 60 << 20 < peak < 100 << 20


def test_the_matrix_rate_is_a_rate():
    assert 1e8 < matrix_flops_per_second(CPU, torch.float32) < 1e15


@pytest.mark.parametrize(
    ("text", "size"), [("1024", (1024, 1024)), ("4096x2048", (2048, 4096)), ("8×4", (4, 8))]
)
def test_sizes_are_read_width_first(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "0", "12x", "-4", "99999", "4x4x4", "big"])
def test_wrong_sizes_are_refused(text):
    with pytest.raises(ConfigError, match="WIDTHxHEIGHT"):
        parse_size(text)


def test_wrong_use_is_refused(tmp_path, capsys):
    with pytest.raises(ConfigError, match="divide by the scale"):
        Case(engine="built-in", size_px=(30, 32), device=CPU)
    assert main(["bench", "--against", str(tmp_path)]) == 2
    assert "expected a checkout of XPixelGroup/HYPIR" in capsys.readouterr().err


SPEAKS_THE_PROTOCOL = """
import json, sys
for line in sys.stdin:
    height, width = map(int, line.split())
    answer = {"seconds": float(height), "cpu_seconds": 1.0, "tiles": 9, "peak_mib": width, "device": "d"}
    print(json.dumps(answer), flush=True)
"""


def test_the_original_runs_in_turns(tmp_path, capsys, monkeypatch):
    (tmp_path / "HYPIR").mkdir()
    runner = tmp_path / "runner.py"
    runner.write_text(SPEAKS_THE_PROTOCOL)
    monkeypatch.setattr(against, "RUNNER", runner)
    words = ("--size", "64x32", "--dtype", "float32", "--repeats", 2, "--against", tmp_path)
    ours, theirs = bench(capsys, *words)["results"]
    assert (ours["engine"], theirs["engine"]) == ("built-in", "original")
    assert theirs["size"] == ours["size"] == "64x32"
    assert theirs["all_seconds"] == [32.0, 32.0]
    assert theirs["peak_mib"] == 64


def test_an_original_that_ends_is_explained(tmp_path, capfd, monkeypatch):
    (tmp_path / "HYPIR").mkdir()
    runner = tmp_path / "runner.py"
    runner.write_text("raise SystemExit('no peft here')")
    monkeypatch.setattr(against, "RUNNER", runner)
    assert main(["bench", "--size", "64", "--repeats", "1", "--against", str(tmp_path)]) == 1
    said = capfd.readouterr().err
    assert "no peft here" in said
    assert "its own words stand above" in said
