"""Profiles: every one can be had, says what its table says, and stands below flags and above defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hypir_core.cli import main
from hypir_core.config import PRESETS
from hypir_core.errors import ConfigError, UnknownNameError
from hypir_core.files.reading import read_text
from hypir_core.profile import KIND, RunSettings, load_profile, profile_names, resolved, stated
from hypir_core.runtime import Runtime
from hypir_core.tiling.choose import lay_tiles
from hypir_core.tiling.plan import TileConfig, TileWish
from hypir_core.tiling.stage import Stage

GIB = 1 << 30

TABLE: dict[tuple[str, str], dict[str, Any]] = {
    ("speed", "seesr"): {"steps": 1, "sampler": "ddim", "cfg": 1.0, "particles": 1},
    ("balanced", "seesr"): {
        "color_fix": "wavelet",
        "steps": 2,
        "sampler": "ddim",
        "cfg": 1.0,
        "particles": 1,
    },
    ("quality", "seesr"): {
        "color_fix": "wavelet",
        "tile.tile_px": 320 * 8,
        "tile.overlap_px": 4 * 8,
        "tile.may_shrink": True,
        "steps": 4,
        "sampler": "ddim",
        "cfg": 1.0,
        "particles": 4,
        "steering_strength": 0.3,
        "steering_begins": 0.3,
    },
    ("memory", "seesr"): {
        "tile.tile_px": 256 * 8,
        "tile.overlap_px": 8 * 8,
        "tile.may_shrink": True,
        "gpu_dtype": "float16",
        "gpu_budget_bytes": 4 * GIB,
        "batch_tiles": 1,
        "residency": "one_at_a_time",
    },
    ("memory", "one-step"): {
        "tile.tile_px": 2048,
        "tile.overlap_px": 64,
        "tile.may_shrink": True,
        "gpu_dtype": "float16",
        "gpu_budget_bytes": 4 * GIB,
        "batch_tiles": 1,
    },
    ("6gb", "seesr"): {
        "tile.tile_px": 512,
        "tile.overlap_px": 64,
        "gpu_budget_bytes": GIB,
        "batch_tiles": 1,
        "residency": "one_at_a_time",
    },
    ("6gb", "one-step"): {"tile.tile_px": 512, "tile.overlap_px": 64, "gpu_budget_bytes": 2 * GIB},
    ("8gb", "seesr"): {
        "tile.tile_px": 512,
        "tile.overlap_px": 64,
        "gpu_budget_bytes": 2 * GIB,
        "residency": "one_at_a_time",
    },
    ("8gb", "one-step"): {"gpu_budget_bytes": 4 * GIB},
    ("12gb", "seesr"): {"gpu_budget_bytes": 5 * GIB, "residency": "keep"},
    ("12gb", "one-step"): {"gpu_budget_bytes": 7 * GIB},
    ("24gb", "seesr"): {
        "tile.tile_px": 1024,
        "tile.overlap_px": 64,
        "tile.may_shrink": True,
        "gpu_budget_bytes": 14 * GIB,
        "residency": "keep",
    },
    ("24gb", "one-step"): {
        "tile.tile_px": 1024,
        "tile.overlap_px": 64,
        "tile.may_shrink": True,
        "gpu_budget_bytes": 14 * GIB,
    },
    ("original", "seesr"): {
        "target.scale": 4,
        "color_fix": "adain",
        "tile.tile_px": 96 * 8,
        "tile.overlap_px": 32 * 8,
        "reference_mode": True,
        "steps": 2,
        "sampler": "ddpm",
        "cfg": 1.0,
        "start": "lq",
        "start_t": 999,
        "control_strength": 1.0,
        "process_px": 512,
    },
    ("original", "one-step"): {"reference_mode": True},
}
"""What SEESR's configurations say, its latent cells as pixels of the result."""

WORDS = ("portrait", "landscape", "anime")


def test_the_names_are_these():
    assert set(profile_names()) == {name for name, _ in TABLE} | set(WORDS)
    assert {(name, e) for name in profile_names() for e in load_profile(name).engines} == {
        *TABLE,
        *((name, "seesr") for name in WORDS),
    }


@pytest.mark.parametrize("name", profile_names())
def test_everything_in_a_profile_is_there(name):
    """A key that a request, a run or an engine lacks is an error of `load_profile`."""
    profile = load_profile(name)
    assert profile.summary
    text = (PRESETS / KIND / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# hypir restore photo.jpg -o out.png --profile {name}\n")
    for engine, part in profile.engines.items():
        said, all_of_it = stated(part), resolved(engine, part)
        json.dumps(all_of_it)
        if name in WORDS:
            assert list(said) == ["words"]
            continue
        assert said == TABLE[name, engine]
        flat = {**all_of_it["runtime"], **all_of_it["options"], **all_of_it["request"]}
        for key, value in said.items():
            at: Any = flat
            for part_of_key in key.split("."):
                at = at[part_of_key]
            assert at == value, key


def test_words_are_about_what_they_are_called():
    kinds = {name: stated(load_profile(name).engines["seesr"])["words"] for name in WORDS}
    assert len(set(kinds.values())) == 3
    assert all(name in words for name, words in kinds.items())


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_every_wrong_key_is_told_at_once(tmp_path):
    file = write(
        tmp_path / "wrong.yaml",
        """
engines:
  one-step:
    request: {color_fixx: lab, strength: 3}
    options: {stepps: 2, vae_exact: true}
  built-in:
    options: {residency: keep}
""",
    )
    with pytest.raises(ConfigError) as err:
        load_profile(file)
    said = "\n".join(err.value.problems)
    for key in ("color_fixx", "stepps", "residency"):
        assert key in said
    assert len(err.value.problems) >= 3
    with pytest.raises(UnknownNameError, match="did you mean 'quality'"):
        load_profile("qualty")
    with pytest.raises(ConfigError, match="unknown key 'engine'"):
        load_profile(write(tmp_path / "key.yaml", "engine: one-step\nengines: {built-in: {}}\n"))
    with pytest.raises(UnknownNameError, match="unknown engine in profile"):
        load_profile(write(tmp_path / "engine.yaml", "engines: {two-step: {}}\n"))
    with pytest.raises(ConfigError, match="name at least one engine"):
        load_profile(write(tmp_path / "none.yaml", "engines: {}\n"))
    with pytest.raises(ConfigError, match="gpu_budget_bytes must be at least 1"):
        load_profile(write(tmp_path / "run.yaml", "engines: {built-in: {runtime: {gpu_budget_bytes: 0}}}\n"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(str(tmp_path / "missing.yaml"))


@pytest.fixture
def photo(tmp_path) -> str:
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").convert("RGB").resize((48, 40)).save(path)
    return str(path)


OWN = """
engines:
  built-in-sharp:
    request:
      strength: 0.5
      sharpen: 0.2
      target: {scale: 2}
      tile: {tile_px: 64, overlap_px: 16, may_shrink: true}
    runtime: {batch_tiles: 1, gpu_dtype: float16, gpu_budget_bytes: 1}
"""


def run(*words: object) -> int:
    return main([str(word) for word in (*words, "--device", "cpu")])


def told(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    text = read_text(path)
    return json.loads(text["hypir.request"]), json.loads(text["hypir.report"])


def test_a_profile_lies_below_flags_and_above_defaults(photo, tmp_path):
    own = write(tmp_path / "own.yaml", OWN)
    assert run("restore", photo, "-o", tmp_path / "a.png", "--profile", own) == 0
    request, report = told(tmp_path / "a.png")
    assert report["engine"] == "built-in-sharp"
    assert report["output_px"] == [80, 96]
    assert report["stages"][0]["batch"] == 1
    assert (request["strength"], request["sharpen"], request["seed"]) == (0.5, 0.2, 0)
    assert (request["tile"]["tile_px"], request["tile"]["may_shrink"]) == (64, True)

    flags = ("--sharpen", 0, "--tile", 80, "--longest-side", 60, "--batch-tiles", 2, "--seed", 7)
    assert run("restore", photo, "-o", tmp_path / "b.png", "--profile", own, *flags) == 0
    request, report = told(tmp_path / "b.png")
    assert report["output_px"] == [50, 60]
    assert (request["strength"], request["sharpen"], request["seed"]) == (0.5, 0.0, 7)
    assert request["tile"] == {"tile_px": 80, "overlap_px": 16, "window": None, "may_shrink": False}
    assert request["target"]["scale"] is None

    assert run("restore", photo, "-o", tmp_path / "c.png") == 0
    request, report = told(tmp_path / "c.png")
    assert (report["engine"], request["strength"], request["sharpen"]) == ("built-in", 1.0, 0.0)


def test_a_profile_for_another_engine_is_refused(photo, tmp_path, capsys):
    assert run("restore", photo, "-o", tmp_path / "a.png", "--profile", "8gb", "--engine", "built-in") == 2
    assert "profile '8gb' is for seesr or one-step, not for built-in" in capsys.readouterr().err
    assert run("restore", photo, "-o", tmp_path / "a.png", "--profile", "9gb") == 2
    assert "unknown profile '9gb' (did you mean" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_a_profile_is_a_whole_run_on_tiny_networks(photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HYPIR_LITE", "1")
    out = tmp_path / "a.png"
    assert run("restore", photo, "-o", out, "--profile", "speed", "--scale", 2, "--sharpen", 0.1) == 0
    request, report = told(out)
    assert (report["engine"], report["settings"]["steps"]) == ("seesr", 1)
    assert [stage["name"] for stage in report["stages"]] == ["encode", "step 1/1", "decode"]
    assert request["sharpen"] == 0.1


def test_what_is_said_about_a_gpu_is_not_read_on_a_cpu():
    settings = RunSettings(gpu_dtype="float16", gpu_budget_bytes=5)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (settings.dtype_on(cpu), settings.budget_on(cpu)) == ("auto", None)
    assert (settings.dtype_on(gpu), settings.budget_on(gpu)) == ("float16", 5)


def test_tiles_of_a_profile_shrink_to_the_memory_and_tiles_of_a_flag_do_not():
    stage = Stage(
        name="decode",
        run=lambda tile, _guides: tile,
        out_channels=3,
        out_strides=1,
        grain_px=64,
        bytes_per_px=3000.0,
        tile=TileConfig(tile_px=768, overlap_px=32),
    )

    def tile_px(gib: float, **wish: Any) -> Any:
        runtime = Runtime(memory_budget_bytes=int(gib * GIB))
        layout = lay_tiles(
            stage,
            (8192, 8192),
            wish=TileWish(tile_px=2560, overlap_px=32, **wish),
            runtime=runtime,
        )
        assert layout.rung.tile.overlap_px == 32
        return layout.rung.tile.tile_px

    assert tile_px(40, may_shrink=True) == 2560
    assert tile_px(2) == 2560
    small = tile_px(2, may_shrink=True)
    assert 512 < small < 900
    assert small**2 * stage.bytes_per_px <= 2 * GIB * 1.27  # a plan may stretch a tile by an eighth


def test_profiles_are_printed_resolved(capsys):
    assert main(["profiles", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["profiles"]
    assert set(found) == set(profile_names())
    quality = found["quality"]["engines"]["seesr"]
    assert quality["stated"] == TABLE["quality", "seesr"]
    assert quality["resolved"]["options"]["max_tags"] == 20
    assert quality["resolved"]["request"]["tile"]["tile_px"] == 2560
    assert quality["resolved"]["request"]["strength"] == 1.0
    assert main(["profiles", "original"]) == 0
    said = capsys.readouterr().out
    assert "reference_mode: True" in said
    assert "tile.overlap_px: 256" in said
    assert "quality" not in said
    assert main(["profiles", "originl"]) == 2


def test_the_page_names_every_profile_and_its_example_can_be_had(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "profiles.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in profile_names())
    own = load_profile(write(tmp_path / "mine.yaml", page.split("```yaml\n")[1].split("```")[0]))
    assert stated(own.engines["seesr"])["sharpen"] == 0.1
