"""A headless Chromium, steered through the Chrome DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_S = 180
ANSWER_S = 120


class NoBrowserError(Exception):
    """There is no Chromium here."""


def chromium() -> str:
    """Return the browser to test with: CHROMIUM, else the first of the usual names."""
    stated = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [stated] if stated else NAMES)), None)
    if found is None:
        raise NoBrowserError(f"no {stated or ', '.join(NAMES)} on the path; set CHROMIUM")
    return found


class Browser:
    """One page. Use it as a context manager; what the page complained about is in `complaints`."""

    def __init__(self, folder: Path, *, width: int = 1600, height: int = 1000):
        import websocket

        self.complaints: list[str] = []
        self._calls = 0
        folder.mkdir(parents=True, exist_ok=True)
        command = [chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking"]
        command += [f"--user-data-dir={folder}", "--remote-debugging-port=0", "--lang=en"]
        command += [f"--window-size={width},{height}", "about:blank"]
        with (folder / "chromium.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        port = self._port(folder / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=START_S) as reply:
            page = next(target for target in json.load(reply) if target["type"] == "page")
        self._socket = websocket.create_connection(
            page["webSocketDebuggerUrl"], timeout=ANSWER_S, suppress_origin=True
        )
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _port(self, file: Path) -> int:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            if file.is_file() and (text := file.read_text()):
                return int(text.splitlines()[0])
            time.sleep(0.1)
        raise AssertionError(f"Chromium did not start: {(file.parent / 'chromium.log').read_text()[-2000:]}")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; notes what the page reports meanwhile."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._calls:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning"}:
            said = " ".join(str(part.get("value", part.get("description"))) for part in params["args"])
            self.complaints.append(f"{params['type']}: {said}")
        elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            entry = params["entry"]
            self.complaints.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page, a promise's value once it is there."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait_for(self, expression: str, *, seconds: float = 60) -> Any:
        """Return the first value of an expression that is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.evaluate(expression)
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"not true within {seconds} s: {expression}")

    def click(self, selector: str, text: str = "", *, until: str = "true", seconds: float = 60) -> None:
        """Click, as a mouse does, on the first visible element with a selector whose text contains `text`.

        Clicks again every few seconds until an expression is true, as people do while a page is still moving.
        """
        find = f"""(() => {{
            for (const it of document.querySelectorAll({json.dumps(selector)})) {{
                if (!it.textContent.includes({json.dumps(text)})) continue;
                it.scrollIntoView({{block: "center"}});
                const box = it.getBoundingClientRect();
                const x = box.x + box.width / 2, y = box.y + box.height / 2;
                if (it.contains(document.elementFromPoint(x, y))) return {{x, y}};
            }}
        }})()"""
        end = time.monotonic() + seconds
        while True:
            before, at = None, self.wait_for(find, seconds=seconds)
            while at != before:  # menus slide in
                time.sleep(0.2)
                before, at = at, self.wait_for(find, seconds=seconds)
            self.click_at(at["x"], at["y"])
            try:
                self.wait_for(until, seconds=5)
                return
            except AssertionError:
                if time.monotonic() > end:
                    raise

    def click_at(self, x: float, y: float) -> None:
        """Click, as a mouse does, on a place in the page."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, x=x, y=y)

    def screenshot(self) -> bytes:
        """Return what the page shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
