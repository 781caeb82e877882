"""The page as a person meets it, in a real browser: one visit, because a server and a browser take long to start."""

from __future__ import annotations

import select
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hypir_core
from hypir_core.cli import main

EXAMPLES = Path(hypir_core.__file__).parent / "examples"
PHOTO = "photo ä & <b>.png"


def test_a_visit(page, photos, tmp_path_factory):
    page.open()
    what_is_downloaded_is_what_the_command_line_makes(page, photos, tmp_path_factory.mktemp("step"))
    the_slider_uncovers_the_result(page)
    several_pictures_and_one_that_is_none(page, photos, tmp_path_factory.mktemp("step"))
    stop_leaves_nothing_half_made(page, tmp_path_factory.mktemp("step"))
    a_file_that_is_too_large_is_refused_and_not_kept(page, tmp_path_factory.mktemp("step"))
    two_gigabytes_are_refused_long_before_they_are_here(page)
    no_other_file_of_the_machine_can_be_had(page, photos, tmp_path_factory.mktemp("step"))
    the_captioner_fills_in_the_words(page, photos)
    an_example_is_one_click(page)
    what_is_painted_alone_is_restored(page, tmp_path_factory.mktemp("step"))
    light_and_dark(page)
    nothing_is_asked_of_anybody_else_and_nothing_is_left(page)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A 16-bit grey picture and a colour one with words in it, as people have them."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[0:40, 0:56]
    color = np.stack([4 * x, 6 * y, 255 - 3 * x], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "a slope"
    Image.fromarray(color).save(folder / PHOTO, exif=exif)
    Image.fromarray((700 * x + 500 * y).astype(np.uint16)).save(folder / "grey.png")
    return folder


def restored(tmp_path, *inputs, flags=()):
    """Return name → bytes of what the command line makes."""
    out = tmp_path / ("out" if len(inputs) > 1 else "out.png")
    assert main(["restore", *map(str, inputs), "-o", str(out), "--device", "cpu", *flags]) == 0
    files = [out] if out.is_file() else sorted(out.glob("*.png"))
    return {file.name: file.read_bytes() for file in files}


def what_is_downloaded_is_what_the_command_line_makes(page, photos, tmp_path):
    assert page.browser.evaluate("document.querySelector('#run').disabled")
    page.upload(photos / PHOTO)
    page.wait_for_words("#forecast", "56×40 → 224×160 px")
    page.type_number("#scale input[type=number]", 2)
    page.wait_for_words("#forecast", "56×40 → 112×80 px")
    page.run()
    page.wait_for_words("#panel", "done in")
    page.browser.wait_for(
        "[...document.querySelectorAll('#compare img')].filter(it => it.naturalWidth).length > 1"
    )
    file = page.download()
    assert file.name.endswith("-restored.png")
    assert file.read_bytes() == restored(tmp_path, photos / PHOTO, flags=("--scale", "2"))["out.png"]
    with Image.open(file) as picture:
        assert picture.size == (112, 80)
        assert picture.getexif()[0x010E] == "a slope"
        assert '"scale": 2.0' in picture.text["hypir.request"]


def the_slider_uncovers_the_result(page):
    place = "document.querySelector('#compare').getBoundingClientRect()"
    box = page.browser.evaluate(f"(() => {{ const b = {place}; return [b.x, b.y, b.width, b.height]; }})()")
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    clip = "[...document.querySelectorAll('#compare *')].map(it => it.style.cssText).join()"
    before = page.browser.evaluate(clip)
    mouse = {"button": "left", "clickCount": 1, "y": y}
    page.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, **mouse)
    page.browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x, **mouse)
    page.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x - box[2] / 4, buttons=1, **mouse)
    page.browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=x - box[2] / 4, **mouse)
    page.browser.wait_for(f"({clip}) !== {before!r}", seconds=10)


def several_pictures_and_one_that_is_none(page, photos, tmp_path):
    (tmp_path / "notes.txt").write_text("hello <b>you</b>, this is text")
    page.clear()
    page.upload(tmp_path / "notes.txt")
    said = page.wait_for_words("#notice", "notes.txt")
    assert said.count("\n") == 0
    assert "notes.txt: expected a picture" in said
    assert "got text that starts with 'hello <b>you</b>'" in said  # shown as text, not as markup
    assert page.browser.evaluate("document.querySelector('#run').disabled")
    assert not [path for folder in page.served.pages for path in folder.rglob("notes.txt")]
    page.upload(photos / PHOTO, tmp_path / "notes.txt", photos / "grey.png")
    page.wait_for_words("#forecast", "2 pictures")
    assert "notes.txt: expected a picture" in page.words("#notice")
    page.run()
    page.wait_for_words("#panel", "done in")
    with zipfile.ZipFile(page.download()) as archive:
        made = [archive.read(name) for name in archive.namelist()]
    expected = restored(tmp_path, photos / PHOTO, photos / "grey.png", flags=("--scale", "2"))
    assert made == [expected[PHOTO], expected["grey.png"]]


def stop_leaves_nothing_half_made(page, tmp_path):
    Image.linear_gradient("L").resize((1000, 1000)).convert("RGB").save(tmp_path / "large.png")
    page.clear()
    page.browser.evaluate("document.querySelector('#more button').click()")
    page.browser.wait_for("!!document.querySelector('#tile input')")
    page.type_number("#tile input", 64)
    page.upload(tmp_path / "large.png")
    page.wait_for_words("#forecast", "2000×2000 px")
    page.run()
    page.browser.wait_for("!!document.querySelector('#panel img')")  # the canvas fills in
    page.browser.click("#stop", until="document.querySelector('#stop').disabled")
    assert "stopped in stage 'restore'" in page.wait_for_words("#panel", "stopped")
    assert page.browser.evaluate("!document.querySelector('#run').disabled")
    assert not page.browser.evaluate("!!document.querySelector('#download')?.offsetParent")
    left = [
        path.name for folder in page.served.pages for path in folder.rglob("*") if "restored" in path.name
    ]
    assert not [name for name in left if "large" in name]


def a_file_that_is_too_large_is_refused_and_not_kept(page, tmp_path):
    (tmp_path / "huge.png").write_bytes(b"\x89PNG" + bytes(2_000_000))
    page.clear()
    before = sorted(page.served.temporary.rglob("*"))
    page.upload(tmp_path / "huge.png")
    page.browser.wait_for("document.body.innerText.includes('exceed the maximum allowed size')")
    boundary = "x" * 20
    body = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="../../x.png"\r\n\r\n'.encode()
    body += bytes(2_000_000) + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    assert (
        answer(page, "upload", body, **{"Content-Type": kind}) == 413
    )  # past the page's own look at the size
    assert [path for path in sorted(page.served.temporary.rglob("*")) if path not in before] == []


def two_gigabytes_are_refused_long_before_they_are_here(page):
    head, tail = (
        b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n",
        b"\r\n--x--\r\n",
    )
    size = 2 << 30
    host, _, port = urllib.parse.urlsplit(page.served.address).netloc.partition(":")
    before = sorted(page.served.temporary.rglob("*"))
    sent, part = 0, bytes(1 << 16)
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {size + len(head) + len(tail)}\r\n\r\n".encode()
            + head
        )
        line.setblocking(False)
        answered = b""
        end = time.monotonic() + 30
        while not answered and sent < size and time.monotonic() < end:
            readable, writable, _ = select.select([line], [line], [], 1)
            if readable:
                answered = line.recv(1 << 16)
                break
            if writable:
                sent += line.send(part)
    assert answered.startswith(b"HTTP/1.1 413"), answered[:200]
    assert sent < 64 << 20
    assert [path for path in sorted(page.served.temporary.rglob("*")) if path not in before] == []


def no_other_file_of_the_machine_can_be_had(page, photos, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("L", (8, 8)).save(secret)
    (root,) = page.served.temporary.iterdir()
    for path in (secret, f"{root}/../../secret", f"{root}/%2e%2e/%2e%2e/{secret}", "/etc/passwd"):
        assert answer(page, f"file={urllib.parse.quote(str(path), safe='/%=')}") in {403, 404}
    assert answer(page, "startup-events") == 200
    assert (
        answer(page, "startup-events", Host="evil.example") == 400
    )  # a page of another name that leads here


def the_captioner_fills_in_the_words(page, photos):
    page.upload(photos / "grey.png")
    page.wait_for_words("#forecast", "56×40")
    page.browser.click("#auto", until="document.querySelector('#prompt textarea').value !== ''")
    assert page.browser.evaluate("document.querySelector('#prompt textarea').value") == "a <b>cat</b>"


def an_example_is_one_click(page):
    page.clear()
    page.browser.click(
        "#examples button", until="document.querySelector('#forecast').innerText.includes('→')"
    )
    page.browser.wait_for("!document.querySelector('#run').disabled")
    names = [path.name for folder in page.served.pages for path in folder.rglob("*.jpg")]
    assert {path.name for path in EXAMPLES.glob("*.jpg")} & set(names)


def what_is_painted_alone_is_restored(page, tmp_path):
    Image.radial_gradient("L").resize((300, 200)).convert("RGB").save(tmp_path / "part.png")
    page.clear()
    page.type_number("#tile input", 256)
    page.upload(tmp_path / "part.png")
    page.wait_for_words("#forecast", "300×200 → 600×400")
    page.browser.evaluate("document.querySelector('#part button').click()")
    page.browser.wait_for("!!document.querySelector('#mask canvas')")
    place = """(() => {
        const it = document.querySelector('#mask canvas');
        it.scrollIntoView({block: "center"});
        const b = it.getBoundingClientRect();
        return [b.x + b.width / 2, b.y + b.height / 2];
    })()"""
    before, at = None, page.browser.evaluate(place)
    while at != before:  # it grows with the picture
        time.sleep(1)
        before, at = at, page.browser.evaluate(place)
    x, y = at
    stroke = [("mouseMoved", x, 0), ("mousePressed", x, 1)]
    stroke += [("mouseMoved", x + 6 * step, 1) for step in range(1, 6)]
    for kind, where, buttons in [*stroke, ("mouseReleased", x + 30, 0)]:
        button = {} if kind == "mouseMoved" and not buttons else {"button": "left", "clickCount": 1}
        page.browser.call("Input.dispatchMouseEvent", type=kind, x=where, y=y, buttons=buttons, **button)
        time.sleep(0.1)  # it looks at the mouse as often as it draws
    time.sleep(1)
    page.run()
    page.wait_for_words("#panel", "done in")
    (mask,) = [path for folder in page.served.pages for path in folder.rglob("mask.png")]
    with Image.open(mask) as painted:
        share = np.asarray(painted.convert("L")).mean() / 255
    assert 0.02 < share < 0.5
    shutil.copy(mask, tmp_path / "mask.png")
    flags = (
        "--scale",
        "2",
        "--tile",
        "256",
        "--prompt",
        "a <b>cat</b>",
        "--mask",
        str(tmp_path / "mask.png"),
    )
    assert page.download().read_bytes() == restored(tmp_path, tmp_path / "part.png", flags=flags)["out.png"]


def light_and_dark(page):
    color = "getComputedStyle(document.querySelector('h1')).color"
    before = page.browser.evaluate(color)
    page.browser.click("#theme", until=f"{color} !== {before!r}")


def nothing_is_asked_of_anybody_else_and_nothing_is_left(page):
    hosts = {urllib.parse.urlsplit(url).netloc for url in page.asked if url.startswith(("http", "ws"))}
    assert hosts == {urllib.parse.urlsplit(page.served.address).netloc}
    assert hosts.pop().startswith("127.0.0.1:")
    assert page.served.pages
    page.browser.open("about:blank")
    end = time.monotonic() + 30
    while page.served.pages and time.monotonic() < end:
        time.sleep(0.1)
    assert page.served.pages == []
    assert page.served.stop() == 130
    assert sorted(page.served.temporary.iterdir()) == []
    assert "Traceback" not in page.served.said()


def answer(page, path, body=None, **headers):
    """Ask the server without a browser; returns the code of its answer."""
    request = urllib.request.Request(f"{page.served.address}/gradio_api/{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as err:
        with err:
            return err.code
