"""Debug and lite modes, and the places that the environment names."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hypir_core import Request, Runtime, load_engine, restore
from hypir_core.cli import main
from hypir_core.debug import PACKAGE, inspect, inspector
from hypir_core.engines.catalog import ENGINES
from hypir_core.engines.lite import with_tiny_networks
from hypir_core.environment import DEBUG, LITE, LOG_LEVEL, PLACES, Environment, read_environment
from hypir_core.errors import ConfigError, RangeError
from hypir_core.files.source import ArraySource
from hypir_core.runtime import look_at_nothing
from hypir_core.streaming import restore_stream
from tests.core.toy_diffusion import toy_engine

ROOT = Path(__file__).parents[2]
CPU = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture
def photo(tmp_path) -> str:
    path = tmp_path / "photo.png"
    Image.radial_gradient("L").convert("RGB").resize((24, 16)).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch):
    for name in (*DEBUG, *LITE, *LOG_LEVEL, *(name for names in PLACES.values() for name in names)):
        monkeypatch.delenv(name, raising=False)


def test_names_of_this_program_and_of_seesr_are_read():
    assert read_environment({}) == Environment()
    assert read_environment({"HYPIR_DEBUG": "1"}).debug
    assert read_environment({"SEESR_DEBUG": "true"}).debug
    assert not read_environment({"HYPIR_DEBUG": "0", "SEESR_DEBUG": "1"}).debug
    assert read_environment({"SEESR_LITE": "yes"}).lite
    assert read_environment({"SEESR_TEST_MODE": "1", "HYPIR_LITE": " "}).lite
    assert read_environment({"SEESR_LOG_LEVEL": "info"}).log_level == "INFO"
    said = read_environment({"SEESR_MODEL_PATH": "/a", "SD_TURBO_PATH": "~/b", "RAM_MODEL_PATH": ""})
    assert said.places == {"seesr": Path("/a"), "base_model": Path.home() / "b"}


def test_what_no_variable_means_is_told_with_its_name(capsys, monkeypatch):
    with pytest.raises(ConfigError) as err:
        read_environment({"SEESR_DEBUG": "maybe", "HYPIR_LOG_LEVEL": "loud"})
    assert len(err.value.problems) == 2
    monkeypatch.setenv("HYPIR_LITE", "perhaps")
    assert main(["engines"]) == 2
    assert "HYPIR_LITE must be 1 or 0, got 'perhaps'" in capsys.readouterr().err


def test_debugging_tells_shape_and_time_of_everything(photo, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    monkeypatch.setenv("SEESR_DEBUG", "1")
    words = ["restore", photo, "-o", str(tmp_path / "a.png"), *CPU]
    before = logging.getLogger(PACKAGE).level
    assert main(words) == 0
    said = capsys.readouterr().err
    for name in ("prepare", "restore", "result"):
        assert f"DEBUG hypir_core.debug: {name}: 1×3×" in said
    assert " s\n" in said
    assert logging.getLogger(PACKAGE).level == before
    monkeypatch.setenv("HYPIR_LOG_LEVEL", "ERROR")
    assert main([*words, "--force"]) == 0
    assert "DEBUG" not in capsys.readouterr().err


def test_nobody_looks_where_nobody_asked(monkeypatch):
    assert inspector() is look_at_nothing
    monkeypatch.setenv("HYPIR_DEBUG", "1")
    assert inspector() is inspect


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_found_after_its_stage(value):
    """The tiler looks at tiles; what happens on the whole canvas after them, only debugging sees."""
    toy = toy_engine(steps=3)
    seen = []

    def spoiled(prepared, request):
        stages = list(toy.stages(prepared, request))
        after = stages[1].after
        assert after is not None

        def spoil(before, out):
            moved = after(before, out)
            moved.data[0, 1, 2, 3] = value
            return moved

        stages[1] = replace(stages[1], after=spoil)
        return stages

    @dataclass
    class Spoiled:
        spec = toy.spec
        prepare = staticmethod(toy.prepare)
        stages = staticmethod(spoiled)

    def look(name, values, seconds):
        seen.append((name, tuple(values.shape)))
        assert seconds >= 0
        inspect(name, values, seconds)

    image: Any = torch.rand(1, 3, 24, 16)
    engine: Any = Spoiled()
    with pytest.raises(RangeError, match=rf"{toy_stage(toy, image)}: .* 1 of \d+ values are NaN or infinite"):
        restore(engine, image, Request(), Runtime(inspect=look))
    assert [name for name, _ in seen] == ["prepare", "step 1/3", "step 2/3"]


def toy_stage(engine: Any, image: torch.Tensor) -> str:
    from hypir_core.tiling.geometry import Plane

    return engine.stages(engine.prepare(Plane(image), (24, 16), Request()), Request())[1].name


def test_a_stream_is_looked_at_band_by_band():
    seen = []
    engine = load_engine("built-in", device=torch.device("cpu"), dtype="float32")

    class Nowhere:
        def write(self, start_row, rows):
            del start_row, rows

    sink: Any = Nowhere()
    array = (torch.rand(80, 12, 3) * 255).byte().numpy()
    look = Runtime(inspect=lambda name, values, _s: seen.append((name, values.shape[2])))
    restore_stream(engine, ArraySource(array), sink, Request(), look)
    assert seen == [("rows 0 to 256", 256), ("rows 256 to 320", 64)]


class Sizes(str, Enum):
    big = "big"
    tiny = "tiny"


class OnlyBig(str, Enum):
    big = "big"


@dataclass(frozen=True)
class WithTiny:
    random_weights: Sizes | None = None


@dataclass(frozen=True)
class WithoutTiny:
    random_weights: OnlyBig | None = None


@dataclass(frozen=True)
class Small:
    amount: float = 1.0


def test_lite_takes_tiny_networks_where_there_is_a_choice():
    assert with_tiny_networks("a", WithTiny, {"x": 1}) == {"x": 1, "random_weights": "tiny"}
    assert with_tiny_networks("a", WithTiny, {"random_weights": "big"}) == {"random_weights": "big"}
    assert with_tiny_networks("a", Small, {"amount": 2}) == {"amount": 2}
    with pytest.raises(ConfigError, match="engine 'a' has no tiny random networks; unset HYPIR_LITE"):
        with_tiny_networks("a", WithoutTiny, {})


@pytest.mark.parametrize(
    "name", [n for n in ENGINES.names() if n not in {"upscaler", "adcsr", "pixel", "richardson-lucy"}]
)
def test_lite_is_a_whole_run_from_file_to_file(name, photo, monkeypatch, tmp_path, capsys):
    """Every engine that needs no file of the user runs, or says that it has no tiny networks."""
    monkeypatch.setenv("HYPIR_LITE", "1")
    out, report = tmp_path / "out.png", tmp_path / "r.json"
    words = ["restore", photo, "-o", str(out), "--engine", name, *CPU]
    code = main([*words, "--report", str(report)])
    said = capsys.readouterr().err
    if "has no tiny random networks" in said:
        assert code == 2
        return
    assert code == 0, said
    done = json.loads(report.read_text())["results"][0]["report"]
    assert done["output_px"] == [64, 96]
    settings = done["settings"]
    assert settings.get("random_weights", "tiny") == "tiny"


@pytest.mark.slow
def test_a_run_opens_no_connection(photo, tmp_path):
    """Without a word about downloads nothing is asked of the network, whatever the engine imports."""
    code = f"""
import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        sys.stderr.write(f"{{event}} {{args}}")
        sys.stderr.flush()
        import os
        os._exit(99)
sys.addaudithook(refuse)
from hypir_core.cli import main
words = ["restore", {photo!r}, "-o", {str(tmp_path / "out.png")!r}, "--engine", "seesr"]
sys.exit(main([*words, "--device", "cpu", "--dtype", "float32"]))
"""
    run = {**os.environ, "HYPIR_LITE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=run, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").exists()
