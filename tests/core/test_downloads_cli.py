"""The question before a download, at a real terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "hypir_core" / "examples"
NOWHERE = "http://127.0.0.1:9"
"""The discard port: every connection is refused at once."""


def at_a_terminal(words: list[str], home: Path, answer: str, *, wait_s: float = 120) -> tuple[int, str]:
    """Run `hypir` with a terminal for input and errors, type `answer` at the question; return code and text."""
    keyboard, terminal = pty.openpty()
    env = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home), "HF_HOME": str(home / "hf")}
    env |= {
        "HF_ENDPOINT": NOWHERE,
        "HF_HUB_OFFLINE": "",
        "COLUMNS": "200",
        "TERM": "xterm",
        "COMFYUI_PATH": "",
    }
    command = [sys.executable, "-c", "from hypir_core.cli import main; raise SystemExit(main())", *words]
    run = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=env, cwd=home)
    os.close(terminal)
    said, answered, until = "", False, time.monotonic() + wait_s
    try:
        while time.monotonic() < until:
            if not select.select([keyboard], [], [], 0.2)[0]:
                if run.poll() is not None:
                    break
                continue
            try:
                read = os.read(keyboard, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not read:
                break
            said += read.decode(errors="replace")
            if not answered and "[y/N]" in said:
                os.write(keyboard, f"{answer}\n".encode())
                answered = True
        code = run.wait(timeout=30)
    finally:
        run.kill()
        os.close(keyboard)
    return code, said.replace("\r\n", "\n")


@pytest.fixture
def words(tmp_path):
    return ["restore", str(EXAMPLES / "cat.jpg"), "-o", str(tmp_path / "out.png"), "--engine", "one-step"]


@pytest.mark.parametrize("answer", ["n", ""])
def test_no_is_the_default_and_nothing_is_sent(words, tmp_path, answer):
    code, said = at_a_terminal(words, tmp_path, answer)
    assert code != 0
    for part in ("size:", "GB", "from:", "licence:", "Download it? [y/N]", "was declined; nothing was sent"):
        assert part in said
    assert "refused" not in said
    assert not (tmp_path / "out.png").exists()


def test_yes_tries_every_mirror(words, tmp_path):
    code, said = at_a_terminal(words, tmp_path, "y")
    assert code != 0
    assert "none did" in said
    assert "it resumes" in said


def test_offline_and_no_terminal_are_not_asked(words, tmp_path):
    _, said = at_a_terminal([*words, "--offline"], tmp_path, "y")
    assert "[y/N]" not in said
    assert "not tried, offline" in said
    env = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
    }
    command = [sys.executable, "-c", "from hypir_core.cli import main; raise SystemExit(main())", *words]
    piped = subprocess.run(
        command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert piped.returncode != 0
    assert "download: not asked for" in piped.stderr
    assert "[y/N]" not in piped.stderr
