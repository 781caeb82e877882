"""The Dockerfile names what is there, and the launcher does what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
LAUNCHER = ROOT / "scripts" / "hypir.sh"
needs_bash = pytest.mark.skipif(
    shutil.which("bash") is None or sys.platform == "win32",
    reason="the launcher is for bash on Linux and macOS",
)


def test_everything_that_is_copied_is_there_and_let_in():
    allowed = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    copied = [
        word for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    ]
    assert {"pyproject.toml", "hypir_core"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in allowed
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in (project["readme"], *project["license-files"]):
        assert name in copied  # the wheel cannot be built without it


def test_its_extras_and_its_program_are_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (program,) = re.findall(r'^ENTRYPOINT \["(.*)"\]$', DOCKERFILE, re.MULTILINE)
    assert program in project["scripts"]


def launched(*words, path=None):
    env = None if path is None else {"PATH": path}
    return subprocess.run(
        ["bash", str(LAUNCHER), *words], capture_output=True, text=True, check=False, env=env
    )


@needs_bash
def test_help_names_every_verb():
    told = launched("help")
    assert told.returncode == 0
    verbs = re.findall(r"^    (\w+)[) ]", LAUNCHER.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"setup", "test", "run", "benchmark", "web", "clean", "status", "help"} <= set(verbs)
    assert launched().stdout == told.stdout
    for verb in ("setup", "test", "run", "benchmark", "web", "clean", "status", "help"):
        assert re.search(rf"^  {verb} ", told.stdout, re.MULTILINE), verb


@needs_bash
def test_a_wrong_verb_and_a_missing_uv_are_one_line(tmp_path):
    wrong = launched("restored")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "expected setup, test" in wrong.stderr
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    alone = launched("status", path=str(tmp_path))
    assert (alone.returncode, alone.stderr.count("\n")) == (1, 1)
    assert "pip install uv" in alone.stderr


@needs_bash
def test_verbs_reach_the_program(tmp_path):
    """With a uv that says what it was asked: which command each verb becomes."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\necho "$@"\n')
    uv.chmod(0o755)
    wanted = {
        ("setup",): f"sync --project {ROOT} --all-extras",
        ("status", "--json"): f"run --project {ROOT} hypir doctor --json",
        ("run", "a b.jpg", "-o", "c.png"): f"run --project {ROOT} hypir restore a b.jpg -o c.png",
        ("benchmark",): f"run --project {ROOT} hypir bench",
        ("web", "--open"): f"run --project {ROOT} hypir web --open",
        ("test", "-q"): f"run --project {ROOT} pytest -q",
    }
    for words, command in wanted.items():
        assert launched(*words, path=str(tmp_path)).stdout == f"{command}\n"


@needs_bash
def test_clean_removes_what_tests_leave_and_nothing_else(tmp_path):
    clone = tmp_path / "clone"
    kept = ("scripts/hypir.sh", ".venv/lib/__pycache__/a.pyc", "hypir_core/a.py", "photos/demo.jpg")
    left = (
        ".pytest_cache/a",
        ".ruff_cache/a",
        "build/a",
        "dist/a",
        "demo/a.png",
        "hypir_core/__pycache__/a.pyc",
    )
    for name in (*kept, *left):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).touch()
    shutil.copy(LAUNCHER, clone / "scripts" / "hypir.sh")
    told = subprocess.run(
        ["bash", str(clone / "scripts" / "hypir.sh"), "clean"], capture_output=True, check=False, cwd=tmp_path
    )
    assert (told.returncode, told.stderr) == (0, b"")
    files = {path.relative_to(clone).as_posix() for path in clone.rglob("*") if path.is_file()}
    assert files == set(kept)


@needs_bash
def test_shellcheck_has_nothing_to_say():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    told = subprocess.run(["shellcheck", str(LAUNCHER)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
