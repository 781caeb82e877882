"""A chat server that answers as it is told, and the picture that it is asked about."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

WORDS = {
    "choices": [{"message": {"role": "assistant", "content": "A cat\non a wall."}, "finish_reason": "stop"}]
}
GREY = torch.full((1, 3, 8, 8), 0.5)


@dataclass
class Reply:
    status: int = 200
    body: Any = field(default_factory=lambda: WORDS)
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass
class Asked:
    path: str
    headers: Any
    body: Any


class ChatServer(ThreadingHTTPServer):
    """A real server that answers with the given replies, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = [Reply()]
        self.asked: list[Asked] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(Asked(self.path, self.headers, json.loads(data) if data else None))
        reply = self.server.replies[min(len(self.server.asked), len(self.server.replies)) - 1]
        time.sleep(reply.delay_s)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        try:
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client did not wait
            self.close_connection = True

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        del format, args


@pytest.fixture
def server(monkeypatch):
    """A running server; the environment names no other one, and no proxy."""
    for name in ("API_KEY", "BASE_URL", "MODEL"):
        monkeypatch.delenv(f"HYPIR_CAPTION_{name}", raising=False)
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
