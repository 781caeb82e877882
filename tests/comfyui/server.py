"""A real ComfyUI with this plugin as its only one, and a client that speaks to it as a browser does."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PLUGIN = "onestep-restore"
PROGRESS_TEXT = 3
"""The server's number of messages that hold a text for a node."""

BOOT_S = 600
RUN_S = 1200
NEEDED = "import aiohttp, alembic, av, comfyui_frontend_package, requests, torchsde, yaml"


class NoComfyUIError(Exception):
    """There is no ComfyUI here, or no Python that can run it."""


@dataclass(frozen=True, kw_only=True)
class Install:
    """A ComfyUI to test with."""

    folder: Path
    python: str | None = None
    """Runs it; None looks for one that can."""

    @property
    def name(self) -> str:
        """Its version, as it states it; its folder's name where it states none."""
        file = self.folder / "comfyui_version.py"
        stated = re.search(r'__version__ = "([^"]+)"', file.read_text()) if file.is_file() else None
        return stated.group(1) if stated else self.folder.name


def installs() -> list[Install]:
    """Return what COMFYUI_PATH names, one folder or several with `os.pathsep` between them.

    COMFYUI_PYTHON names their Pythons likewise. Without the first: ~/comfy/ComfyUI, or the one around this checkout.
    """
    paths, pythons = (
        os.environ.get(name, "").split(os.pathsep) for name in ("COMFYUI_PATH", "COMFYUI_PYTHON")
    )
    stated = [
        Install(folder=Path(path), python=python or None)
        for path, python in zip_longest(paths, pythons, fillvalue="")
        if path
    ]
    around = [p.parent for p in ROOT.parents if p.name == "custom_nodes"]
    here = next((p for p in (Path.home() / "comfy" / "ComfyUI", *around) if (p / "main.py").is_file()), None)
    return stated or [Install(folder=here or Path.home() / "comfy" / "ComfyUI", python=pythons[0] or None)]


def checked(install: Install) -> Install:
    """Return an install with the Python that runs it.

    Raises:
        NoComfyUIError: there is none, or no Python with its requirements.
    """
    folder = install.folder
    if not (folder / "main.py").is_file():
        raise NoComfyUIError(f"no ComfyUI in {folder}; set COMFYUI_PATH")
    beside = [str(folder.parent / name / "bin" / "python") for name in ("venv", ".venv")]
    guessed = [*beside, str(folder / "venv" / "bin" / "python"), sys.executable]
    places = [install.python] if install.python else guessed
    for python in places:
        if shutil.which(python) and not subprocess.call(
            [python, "-c", NEEDED], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            return replace(install, python=python)
    raise NoComfyUIError(f"none of {', '.join(places)} has ComfyUI's requirements; set COMFYUI_PYTHON")


@dataclass
class Run:
    """What one queued workflow led to."""

    prompt_id: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    """The pictures shown while it ran, as JPEG."""
    faces: list[tuple[str, str]] = field(default_factory=list)
    """(node, text) of what was written on the faces of nodes, in order."""

    def take(self, message: bytes) -> None:
        """Sort in a binary message: a text for a node's face, or a picture."""
        kind, length = struct.unpack(">II", message[:8])
        if kind == PROGRESS_TEXT:
            self.faces.append((message[8 : 8 + length].decode(), message[8 + length :].decode()))
        else:
            self.previews.append(message[message.index(b"\xff\xd8\xff") :])

    def said(self, node: str) -> str:
        """Return what stands on a node's face at the end."""
        return [text for name, text in self.faces if name == node][-1]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message["data"] for message in self.messages if message["type"] == kind]

    @property
    def error(self) -> dict[str, Any] | None:
        return next(iter(self.of("execution_error")), None)


class Server:
    """A running ComfyUI."""

    def __init__(self, install: Install, base: Path, *arguments: str, plugin: Path = ROOT):
        """Start it with folders below `base` and one plugin; `arguments` are ComfyUI's own."""
        assert install.python is not None
        self.install = install
        self.base, self.log = base, base / "server.log"
        for name in ("custom_nodes", "input", "output", "temp", "user", "models/loras", "models/hypir"):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes" / PLUGIN).symlink_to(plugin, target_is_directory=True)
        self.port = _free_port()
        command = [install.python, "main.py", "--cpu", "--base-directory", str(base)]
        command += ["--port", str(self.port), "--database-url", "sqlite:///:memory:", "--disable-auto-launch"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=install.folder, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"ComfyUI ended while starting:\n{self.read_log()}")
            try:
                self.get("/system_stats")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
            else:
                return
        raise AssertionError(f"ComfyUI did not start in {BOOT_S} s:\n{self.read_log()}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def read_log(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as reply:
                body = reply.read()
        except urllib.error.HTTPError as err:
            err.close()  # it holds the socket
            raise
        return json.loads(body) if body[:1] in b"{[" else body

    def post(self, path: str, data: Any) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(data).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, body = reply.status, reply.read()
        except urllib.error.HTTPError as err:
            with err:
                status, body = err.code, err.read()
        return status, json.loads(body) if body else None

    def run(
        self, workflow: dict[str, Any], *, interrupt_after: str | None = None, previews: str = "auto"
    ) -> Run:
        """Queue a workflow and collect its messages; optionally press cancel at the first message of a kind.

        The preview method is the run's own where the version has that; else the server's, see conftest.py.
        """
        import websocket

        client = uuid.uuid4().hex
        socket_ = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=RUN_S
        )
        try:
            status, answer = self.post(
                "/prompt",
                {"prompt": workflow, "client_id": client, "extra_data": {"preview_method": previews}},
            )
            assert status == 200, json.dumps(answer, indent=1)
            run = Run(answer["prompt_id"])
            while True:
                message = socket_.recv()
                if isinstance(message, bytes):
                    run.take(message)
                    continue
                content = json.loads(message)
                if content["data"].get("prompt_id", run.prompt_id) != run.prompt_id:
                    continue
                run.messages.append(content)
                kind = content["type"]
                if kind == interrupt_after:
                    interrupt_after = None
                    self.post("/interrupt", {})
                if kind in {"execution_success", "execution_error", "execution_interrupted"}:
                    return run
        finally:
            socket_.close()

    def outputs(self, run: Run) -> dict[str, Any]:
        """Return what the nodes of a finished run showed; the history is written a moment after the last message."""
        end = time.monotonic() + 60
        while True:
            history = self.get(f"/history/{run.prompt_id}")
            if run.prompt_id in history or time.monotonic() > end:
                return history[run.prompt_id]["outputs"]
            time.sleep(0.1)

    def picture(self, run: Run, node: str) -> bytes:
        """Return the first picture that a node of a finished run saved."""
        return self.get(f"/view?{urllib.parse.urlencode(self.outputs(run)[node]['images'][0])}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
