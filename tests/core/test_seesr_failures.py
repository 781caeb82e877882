"""What SeeSR's engine does with what goes wrong: an error with what to do, or a note; never a silent other picture."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hypir_core import Request, Runtime, TargetSize, load_engine, restore
from hypir_core.batch.naming import Job
from hypir_core.batch.restoring import Writing
from hypir_core.batch.running import run_jobs
from hypir_core.cli import main
from hypir_core.color.mode import ColorFix
from hypir_core.engines.diffusion.engine import Diffusion
from hypir_core.errors import Cancelled, OutOfMemoryError, SpecMismatchError
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.memory import Rung, next_rung
from hypir_core.tiling.plan import TileConfig, TileWish
from hypir_core.tiling.run import run_stage
from hypir_core.tiling.stage import Stage

GOLDEN = Path(__file__).parents[1] / "golden" / "seesr"
MODEL = {
    "base_model": str(GOLDEN / "sd-turbo"),
    "seesr": str(GOLDEN / "seesr"),
    "tagger": str(GOLDEN / "ram" / "ram_swin_large_14m.pth"),
    "tagger_lora": str(GOLDEN / "ram" / "DAPE.pth"),
    "tag_list": str(GOLDEN / "ram"),
    "process_px": 96,
    "steps": 1,
}
CPU, NOWHERE = torch.device("cpu"), torch.device("meta")
PLAIN = Request(target=TargetSize(scale=2), color_fix=ColorFix.none, seed=5)


def engine(dtype: str = "float32", **options) -> Diffusion:
    return load_engine("seesr", MODEL | options, device=CPU, dtype=dtype)


def picture(width: int = 64, height: int = 48) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").convert("RGB").resize((64, 48)).save(path)
    return path


@pytest.fixture
def nothing_found(tmp_path, monkeypatch) -> Path:
    """A machine without weights."""
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("HF_HOME", "HF_HUB_CACHE", "HYPIR_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(empty))
    monkeypatch.setattr("hypir_core.weights.search.comfy_search.default_roots", lambda: ())
    return empty


def seesr_words(photo: Path, out: Path, *more: object, **options: object) -> list[str]:
    words = ["restore", photo, "-o", out, "--engine", "seesr", "--device", "cpu", "--dtype", "float32"]
    words += ["--scale", 2, *more]
    for name, value in options.items():
        words += ["--option", f"{name}={value}"]
    return [str(word) for word in words]


def test_without_a_tagger_it_runs_without_image_blocks_and_says_so_everywhere(
    photo, tmp_path, nothing_found, capsys
):
    given = {name: value for name, value in MODEL.items() if not name.startswith("tag")}
    out = tmp_path / "out.png"
    assert main(seesr_words(photo, out, "--report", tmp_path / "report.json", **given)) == 0
    assert "note: no tagger was found" in capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())["results"][0]["report"]
    assert report["settings"]["image_blocks"] is None
    assert report["tags"] == []
    without = tmp_path / "without.png"
    assert main(seesr_words(photo, without, "--tagger", "off", **given)) == 0
    assert out.read_bytes() != b""
    with Image.open(out) as one, Image.open(without) as other:
        assert one.tobytes() == other.tobytes()
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["engines"]["seesr"]
    assert any(
        "optional: the tagger (RAM); without it no tags and no image blocks" in m for m in said["missing"]
    )
    assert main(seesr_words(photo, tmp_path / "no.png", **given, tagger=tmp_path / "ram.pth")) == 1
    assert "ram.pth: no such file" in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()


def test_what_can_be_done_without_does_not_make_an_engine_unusable(monkeypatch):
    from hypir_core.engines.diffusion import missing
    from hypir_core.engines.optional import is_usable

    monkeypatch.setattr(missing, "_files", lambda *_wanted: ())
    monkeypatch.setattr(missing, "_packages", lambda *_names: ())
    monkeypatch.setattr(missing, "missing_for_tagger", lambda: ("the tagger: get it",))
    assert is_usable(missing.missing_for_seesr())
    monkeypatch.setattr(missing, "_files", lambda *_wanted: ("SD-Turbo: get it",))
    assert not is_usable(missing.missing_for_seesr())


def test_missing_networks_are_one_error_with_places_and_commands_and_no_picture(
    photo, tmp_path, nothing_found, capsys
):
    out = tmp_path / "out.png"
    assert main(seesr_words(photo, out)) == 1
    said = capsys.readouterr().err
    for words in ("expected SD-Turbo", "expected SeeSR's UNet and ControlNet"):
        assert words in said
    assert said.count("tried:") == 2
    assert said.count("--download") >= 2
    assert str(nothing_found) in said
    assert "Traceback" not in said
    base = {"base_model": MODEL["base_model"]}
    assert main(seesr_words(photo, out, **base)) == 1  # never SD-Turbo alone
    assert "expected SeeSR's UNet and ControlNet" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(("width", "model"), [(768, "Stable Diffusion 1.x"), (2048, "SDXL")])
def test_another_base_is_named_with_the_one_that_is_wanted(tmp_path, width, model):
    base = tmp_path / "base"
    shutil.copytree(GOLDEN / "sd-turbo", base)
    file = base / "unet/diffusion_pytorch_model.safetensors"
    tensors = {
        name: t.new_zeros(t.shape[0], width) if name.endswith("attn2.to_k.weight") else t
        for name, t in load_file(file).items()
    }
    file.unlink()
    save_file(tensors, file)
    with pytest.raises(SpecMismatchError, match=rf"expected SD-Turbo.*got {model}"):
        engine(base_model=str(base))


def test_a_decoder_that_is_nan_in_its_format_is_asked_again_in_float32():
    made = engine("bfloat16")
    shared = made.codec.decoding.shared
    assert shared is not None

    def overflows(_net, _given, out):
        return out * float("nan") if out.dtype is torch.bfloat16 else out

    shared.norms.net.decoder.register_forward_hook(overflows)
    done = restore(made, picture(), PLAIN, Runtime())
    assert done.image_01.isfinite().all()
    assert {stage.name: bool(stage.bad_tiles) for stage in done.report.stages} == {
        "encode": False,
        "step 1/1": False,
        "decode": True,
    }
    assert "repeated in float32" in done.report.stages[-1].bad_tiles[0]


def test_a_person_who_stops_it_gets_no_file(photo, tmp_path):
    out = tmp_path / "out.png"
    asked = iter(range(100))
    runtime = Runtime(should_stop=lambda: next(asked) >= 2)
    with pytest.raises(Cancelled, match="stopped in stage 'decode'"):
        run_jobs(engine(), [Job(photo, out)], PLAIN, runtime, writing=Writing(), manifest=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png"]


def test_only_memory_that_ran_out_goes_down_the_ladder():
    made = engine()
    assert made.denoiser.placing.shared is not None
    unet = made.denoiser.placing.shared.norms.net[0]
    calls = []

    def breaks(error: Exception):
        def hook(_net, _given) -> None:
            calls.append(1)
            raise error

        return hook

    request = replace(PLAIN, tile=TileWish(tile_px=128, overlap_px=64))
    for error, said in (
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "mat1 and mat2"),
        (torch.OutOfMemoryError("CUDA out of memory"), "step 1/1: out of memory with one 64 px tile on cpu"),
    ):
        hook = unet.register_forward_pre_hook(breaks(error))
        calls.clear()
        wanted = RuntimeError if said.startswith("mat1") else OutOfMemoryError
        with pytest.raises(wanted, match=said):
            restore(made, picture(128, 64), request, Runtime(batch_tiles=2))
        assert (len(calls) == 1) == (wanted is RuntimeError)
        hook.remove()


def test_the_last_rung_is_the_cpu_and_the_report_says_so():
    """A device whose memory is never enough, with shapes and no numbers: the run ends on the CPU."""
    smallest = Rung(tile=TileConfig(tile_px=64, overlap_px=8), batch=1, images=1, device=torch.device("cuda"))
    lower = next_rung(smallest, axes=2, grain_px=8, min_tile_px=64)
    assert lower is not None
    assert (lower[0].device, lower[1]) == (CPU, "device cuda → cpu")
    assert next_rung(lower[0], axes=2, grain_px=8, min_tile_px=64) is None
    placed = []

    def run(tile: torch.Tensor, _guides) -> torch.Tensor:
        if tile.is_meta:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tile * 2

    stage = Stage(
        name="step 1/1",
        run=run,
        out_channels=3,
        out_strides=1,
        grain_px=8,
        bytes_per_px=1.0,
        tile=TileConfig(tile_px=64, overlap_px=8),
        min_tile_px=32,
        place=placed.append,
    )
    out, report = run_stage(
        stage, Plane(picture()), runtime=Runtime(device=NOWHERE, canvas_device=CPU, batch_tiles=1)
    )
    torch.testing.assert_close(out.data, 2 * picture())
    assert report.rungs[-1] == "device meta → cpu"
    assert (report.device, placed[0], placed[-1]) == ("cpu", NOWHERE, CPU)
