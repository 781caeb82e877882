"""A real ComfyUI with this plugin as its only one, and a client that speaks to it as a browser does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PLUGIN = "onestep-restore"
BOOT_S = 600
RUN_S = 1200
NEEDED = "import aiohttp, alembic, av, comfyui_frontend_package, requests, torchsde, yaml"


class NoComfyUIError(Exception):
    """There is no ComfyUI here, or no Python that can run it."""


def comfyui_folder() -> Path:
    """Return the ComfyUI to test with: COMFYUI_PATH, else ~/comfy/ComfyUI, else the one around this checkout."""
    stated = os.environ.get("COMFYUI_PATH")
    around = next((p.parent for p in ROOT.parents if p.name == "custom_nodes"), None)
    places = [Path(stated)] if stated else [Path.home() / "comfy" / "ComfyUI", *([around] if around else [])]
    found = next((place for place in places if (place / "main.py").is_file()), None)
    if found is None:
        raise NoComfyUIError(f"no ComfyUI in {', '.join(map(str, places))}; set COMFYUI_PATH")
    return found


def comfyui_python(comfyui: Path) -> str:
    """Return a Python that has ComfyUI's requirements."""
    stated = os.environ.get("COMFYUI_PYTHON")
    beside = [str(comfyui.parent / name / "bin" / "python") for name in ("venv", ".venv")]
    places = [stated] if stated else [*beside, str(comfyui / "venv" / "bin" / "python"), sys.executable]
    for python in places:
        if shutil.which(python) and not subprocess.call(
            [python, "-c", NEEDED], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            return python
    raise NoComfyUIError(f"none of {', '.join(places)} has ComfyUI's requirements; set COMFYUI_PYTHON")


@dataclass
class Run:
    """What one queued workflow led to."""

    prompt_id: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    """The pictures shown while it ran, as JPEG."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message["data"] for message in self.messages if message["type"] == kind]

    @property
    def error(self) -> dict[str, Any] | None:
        return next(iter(self.of("execution_error")), None)


class Server:
    """A running ComfyUI."""

    def __init__(self, base: Path, *arguments: str):
        self.comfyui = comfyui_folder()
        self.base, self.log = base, base / "server.log"
        for name in ("custom_nodes", "input", "output", "temp", "user", "models/loras", "models/hypir"):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes" / PLUGIN).symlink_to(ROOT, target_is_directory=True)
        self.port = _free_port()
        command = [comfyui_python(self.comfyui), "main.py", "--cpu", "--base-directory", str(base)]
        command += ["--port", str(self.port), "--database-url", "sqlite:///:memory:", "--disable-auto-launch"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=self.comfyui, stdout=log, stderr=subprocess.STDOUT
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
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as reply:
            body = reply.read()
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

    def run(self, workflow: dict[str, Any], *, interrupt_after: str | None = None) -> Run:
        """Queue a workflow and collect its messages; optionally press cancel at the first message of a kind."""
        import websocket

        client = uuid.uuid4().hex
        socket_ = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/ws?clientId={client}", timeout=RUN_S
        )
        try:
            status, answer = self.post("/prompt", {"prompt": workflow, "client_id": client})
            assert status == 200, json.dumps(answer, indent=1)
            run = Run(answer["prompt_id"])
            while True:
                message = socket_.recv()
                if isinstance(message, bytes):
                    run.previews.append(message[message.index(b"\xff\xd8\xff") :])
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
