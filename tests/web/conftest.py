"""A page that is really served, and a browser that looks at it; one of each for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.browser import Browser, NoBrowserError, chromium

START_S = 120


class Served:
    """`hypir web` in a process of its own, whose temporary files all lie in one folder."""

    def __init__(self, folder: Path, *arguments: str):
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        env = os.environ | {
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "GRADIO_HEARTBEAT_INTERVAL": "0.2",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",  # as in the tests' own process: reports name it
        }
        code = "from hypir_core.cli import main; raise SystemExit(main())"
        self._log = (folder / "server.log").open("wb")
        command = [sys.executable, "-c", code, "web", *arguments]
        self.process = subprocess.Popen(command, env=env, stdout=self._log, stderr=self._log)
        self.address = self._address()

    def _address(self) -> str:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            for word in self.said().split():
                if word.startswith("http://"):
                    return word.rstrip("/")
            time.sleep(0.05)
        raise AssertionError(f"the page did not start: {self.said()[-2000:]}")

    def said(self) -> str:
        return (self.folder / "server.log").read_text()

    @property
    def pages(self) -> list[Path]:
        """Folders of open pages."""
        return sorted(self.temporary.glob("hypir-web-*/page-*"))

    def stop(self) -> int:
        """Ask it to end, as a person or a container does; returns its exit code."""
        self.process.terminate()
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._log.close()
        return code


class Page:
    """What a person does on the page."""

    def __init__(self, browser: Browser, served: Served, downloads: Path):
        self.browser, self.served, self.downloads = browser, served, downloads
        self.asked: list[str] = []
        """Addresses that the browser asked for."""
        note = browser._note

        def noted(event: dict[str, Any]) -> None:
            if event["method"] == "Network.requestWillBeSent":
                self.asked.append(event["params"]["request"]["url"])
            note(event)

        browser._note = noted  # type: ignore[method-assign]  # every event passes here
        downloads.mkdir()
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def open(self) -> None:
        self.browser.open(f"{self.served.address}/")
        self.browser.wait_for("!!document.querySelector('#pictures input[type=file]')", seconds=START_S)

    def clear(self) -> None:
        """Take all pictures away."""
        empty = "document.querySelector('#forecast').innerText.includes('Add a picture')"
        self.browser.click("#pictures button[aria-label=Clear]", until=empty)
        self.browser.wait_for("!!document.querySelector('#pictures input[type=file]')")

    def upload(self, *files: Path) -> None:
        document = self.browser.call("DOM.getDocument")["root"]["nodeId"]
        node = self.browser.call("DOM.querySelector", nodeId=document, selector="#pictures input[type=file]")
        self.browser.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(file) for file in files])

    def type_number(self, selector: str, value: float) -> None:
        self.browser.evaluate(
            f"""(() => {{
                const it = document.querySelector({selector!r});
                it.value = {value};
                for (const kind of ["input", "change", "blur"]) it.dispatchEvent(new Event(kind, {{bubbles: true}}));
            }})()"""
        )

    def words(self, selector: str) -> str:
        """Return what an element shows; nothing where there is none."""
        return self.browser.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''")

    def wait_for_words(self, selector: str, text: str, *, seconds: float = 60) -> str:
        self.browser.wait_for(
            f"(document.querySelector({selector!r})?.innerText ?? '').includes({text!r})", seconds=seconds
        )
        return self.words(selector)

    def run(self) -> None:
        self.browser.click("#run", until="!document.querySelector('#stop').disabled")

    def download(self) -> Path:
        before = set(self.downloads.iterdir())
        self.browser.click("#download")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            new = [p for p in set(self.downloads.iterdir()) - before if p.suffix != ".crdownload"]
            if new:
                return new[0]
            time.sleep(0.05)
        raise AssertionError("nothing was downloaded")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    if find_spec("gradio") is None:
        pytest.skip("the extra web is not installed: pip install 'onestep-restore[web]'")
    try:
        chromium()
    except NoBrowserError as err:
        pytest.skip(str(err))
    served = Served(
        tmp_path_factory.mktemp("web"),
        *(
            "--max-upload",
            "1",
            "--captioner",
            "fixed",
            "--captioner-option",
            "text=a <b>cat</b>",
            "--device",
            "cpu",
        ),
    )
    yield served
    if served.process.poll() is None:
        served.stop()


@pytest.fixture(scope="module")
def page(served, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    with Browser(folder / "chromium", width=1440, height=1000) as browser:
        yield Page(browser, served, folder / "downloads")
