"""The captioner that asks a server: what is sent and read, when it asks again, and that no key leaves the house."""

from __future__ import annotations

import base64
import io
import logging
import time
from email.utils import formatdate
from typing import Any

import pytest
import torch
from PIL import Image

from hypir_core.caption.base import INSTRUCTION
from hypir_core.caption.catalog import load_captioner
from hypir_core.caption.chat_server import MODEL, OPENAI_URL, find_server
from hypir_core.errors import Cancelled, CaptionError, ConfigError
from tests.core.caption_server import GREY, ChatServer, Reply, server

__all__ = ["server"]

KEY = "sk-test-0123456789"


def asking(server: ChatServer, **options: Any):
    return load_captioner("openai", {"base_url": server.url, "pause_s": 0.01, **options})


def fails(server: ChatServer, **options: Any) -> str:
    with pytest.raises(CaptionError) as caught:
        asking(server, **options)(GREY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_openai_sends_one_small_picture_and_reads_one_line(server, monkeypatch):
    monkeypatch.setenv("HYPIR_CAPTION_BASE_URL", f"{server.url}/")
    monkeypatch.setenv("HYPIR_CAPTION_API_KEY", f"{KEY}\n")
    monkeypatch.setenv("HYPIR_CAPTION_MODEL", "seer")
    image_01 = torch.zeros(1, 3, 100, 200)
    image_01[:, 0] = 1.0
    assert load_captioner("openai", {"longest_side_px": 64})(image_01) == "A cat on a wall."
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body["model"] == "seer"
    text, picture = asked.body["messages"][0]["content"]
    assert text == {"type": "text", "text": INSTRUCTION}
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (sent.format, sent.size) == ("JPEG", (64, 32))
    assert sent.getpixel((30, 10)) == pytest.approx((255, 0, 0), abs=3)


def test_openai_takes_answers_in_parts_and_tells_of_a_cut(server, caplog):
    message = {"content": [{"type": "text", "text": "A cat"}, {"type": "text", "text": "sits"}]}
    server.replies = [Reply(body={"choices": [{"message": message, "finish_reason": "length"}]})]
    with caplog.at_level(logging.WARNING):
        assert asking(server)(GREY) == "A cat sits"
    assert "cut the caption off" in caplog.text


@pytest.mark.parametrize("busy", [429, 500, 503])
def test_busy_server_is_asked_again(server, busy):
    server.replies = [Reply(busy), Reply(busy), Reply()]
    assert asking(server, retries=2)(GREY) == "A cat on a wall."
    assert len(server.asked) == 3


def test_pauses_double(server):
    server.replies = [Reply(503)]
    start = time.monotonic()
    assert "(3 tries)" in fails(server, retries=2, pause_s=0.1)
    assert 0.3 <= time.monotonic() - start < 2.0


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_counts_instead_of_the_pause(server, form):
    value = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 s
    server.replies = [Reply(429, headers={"Retry-After": value}), Reply()]
    start = time.monotonic()
    assert asking(server, pause_s=60.0)(GREY) == "A cat on a wall."
    assert 0.9 <= time.monotonic() - start < 5.0


def test_too_long_a_wait_is_not_waited_for(server):
    server.replies = [Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "3600"})]
    assert "429 (slow down), and asks to wait 3600 s" in fails(server)
    assert len(server.asked) == 1


def test_unreadable_retry_after_falls_back_to_the_pause(server):
    server.replies = [Reply(429, headers={"Retry-After": "soon"}), Reply()]
    assert asking(server)(GREY) == "A cat on a wall."


def test_spent_quota_is_not_asked_again(server):
    server.replies = [Reply(429, {"error": {"message": "quota", "code": "insufficient_quota"}})]
    assert "no quota left" in fails(server)
    assert len(server.asked) == 1


def test_timeout_is_tried_again_and_named(server):
    server.replies = [Reply(delay_s=0.6), Reply()]
    assert asking(server, timeout_s=0.2)(GREY) == "A cat on a wall."
    server.replies = [Reply(delay_s=0.4)]
    assert "no answer within 0.1 s (2 tries)" in fails(server, timeout_s=0.1, retries=1)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (
            Reply(404, {"error": {"message": "no model 'm'"}}),
            "404 no model 'm'; check the model's name; check",
        ),
        (Reply(400, {"error": "no vision"}), "400 no vision; check that the model takes pictures"),
        (Reply(403, b""), "403 Forbidden; no key was sent"),
        (Reply(200, b"<html>hello"), "expected JSON, got '<html>hello'; check the address"),
        (Reply(200, {"answer": 42}), "expected a chat completion"),
        (Reply(200, {"choices": []}), "expected a chat completion"),
        (Reply(200, [1]), "expected a chat completion"),
        (Reply(200, {"choices": [{"message": {"content": None}}]}), "answered without words"),
        (
            Reply(302, b"", {"Location": "http://127.0.0.1:1/v1"}),
            "302 http://127.0.0.1:1/v1; the server sends",
        ),
        (Reply(200, b'{"choices": [', {"Content-Length": "99"}), "expected JSON"),
    ],
)
def test_bad_answers_are_named_at_once(server, reply, says):
    server.replies = [reply]
    assert says in fails(server, model="m")
    assert len(server.asked) == 1


def test_refused_key_is_named_and_never_shown(server, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.replies = [Reply(401, {"error": {"message": f"bad key {KEY}"}})]
    with caplog.at_level(logging.DEBUG):
        text = fails(server)
    assert "401 bad key ***; check the key in HYPIR_CAPTION_API_KEY" in text
    assert KEY not in text + caplog.text


def test_key_goes_only_to_the_server_that_the_environment_names(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HYPIR_CAPTION_API_KEY", KEY)
    asking(server)(GREY)
    assert "Authorization" not in server.asked[0].headers
    server.replies = [Reply(401, b"")]
    assert f"HYPIR_CAPTION_BASE_URL={server.url}" in fails(server)


def test_find_server_order():
    own = {"HYPIR_CAPTION_BASE_URL": "https://a.example/v1", "HYPIR_CAPTION_API_KEY": "one"}
    common = {"OPENAI_BASE_URL": "https://b.example/v1", "OPENAI_API_KEY": "two"}
    found = find_server(None, None, own | common)
    assert (found.base_url, found.model, found.key) == ("https://a.example/v1", MODEL, "one")
    assert "one" not in repr(found)
    assert find_server("https://b.example:443/v2/", "m", own | common).key == "two"
    assert find_server("http://b.example/v1", "m", own | common).key is None  # not without TLS
    assert find_server(None, None, common | {"HYPIR_CAPTION_API_KEY": "one"}).key == "one"
    assert find_server(None, None, {"OPENAI_API_KEY": "two"}).base_url == OPENAI_URL


def test_unusable_addresses_and_keys():
    for address in (
        "localhost:1234",
        "file:///etc",
        "http://",
        "http://a:b:c",
        "https://a/v1?x=1",
        "https://a /v1",
    ):
        with pytest.raises(ConfigError, match="expected something such as"):
            find_server(address, None, {})
    with pytest.raises(ConfigError, match="no user name") as caught:
        find_server("https://me:secret@a.example/v1", None, {})
    assert "secret" not in str(caught.value)
    with pytest.raises(CaptionError, match="needs a key"):
        find_server(None, None, {"OPENAI_API_KEY": " "})
    for bad in ("a\nb", "a b", "schlüssel"):
        with pytest.raises(CaptionError, match="OPENAI_API_KEY: expected a key") as caught:
            find_server(None, None, {"OPENAI_API_KEY": bad})
        assert bad not in str(caught.value)


def test_no_server_there(server):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(
        CaptionError, match=r"cannot be reached \(Connection refused\); check the connection"
    ) as err:
        load_captioner("openai", {"base_url": url})(GREY)
    assert "\n" not in str(err.value)


def test_cancel_ends_the_wait(server):
    server.replies = [Reply(503)]
    start = time.monotonic()
    with pytest.raises(Cancelled):
        asking(server, pause_s=30.0)(GREY, should_stop=lambda: bool(server.asked))
    assert time.monotonic() - start < 5.0
