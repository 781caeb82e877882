"""One file on an HTTP server: what it is (size, hash), and its bytes from a given offset on."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import IO

from ...errors import WeightsError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
_AGENT = "onestep-restore"
_NO_HEAD = {400, 403, 405, 501}
"""Answers of servers, and of addresses signed for GET, that know the file but not HEAD."""


class TransferError(WeightsError):
    """A server's answer that cannot be used."""

    def __init__(self, message: str, *, passing: bool = False, status: int | None = None):
        self.passing = passing
        """Whether trying again may help: a broken connection, a busy server."""
        self.status = status
        """The HTTP status, where there was an answer."""
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """What a server says about one file."""

    url: str
    size_bytes: int
    sha256: str | None
    """From ``X-Linked-ETag`` (the Git LFS hash of large files), where the server states one."""
    git_sha1: str | None
    """From the ETag of a hub's small files: SHA-1 of ``blob <size>\\0`` and the content."""
    etag: str


def probe(url: str, *, timeout_s: float) -> RemoteFile:
    """Ask for a file's size and hash, through all redirects, without its content.

    Hugging Face states them on its own answer, before the redirect to the storage: headers of every answer
    on the way count, the first one wins. A server that refuses HEAD is asked for the first byte instead.

    Raises:
        TransferError: no such file, no answer, or an answer without a size.
    """
    try:
        headers = _ask(url, "HEAD", {}, timeout_s)
    except TransferError as err:
        if err.status not in _NO_HEAD:
            raise
        headers = _ask(url, "GET", {"Range": "bytes=0-0"}, timeout_s)
    total = headers.get("content-range", "").rpartition("/")[2]
    size = headers.get("x-linked-size") or total or headers.get("content-length", "")
    if not size.isdigit():
        raise TransferError(f"{url}: the server states no size, so the file could not be checked")
    linked = _bare(headers.get("x-linked-etag", ""))
    etag = linked or _bare(headers.get("etag", ""))
    from_hub = "x-repo-commit" in headers
    return RemoteFile(
        url=url,
        size_bytes=int(size),
        sha256=linked if _SHA256.fullmatch(linked) else None,
        git_sha1=etag if from_hub and _GIT_SHA1.fullmatch(etag) else None,
        etag=etag,
    )


@contextmanager
def open_at(remote: RemoteFile, offset: int, *, timeout_s: float) -> Iterator[tuple[int, IO[bytes]]]:
    """Open a file's bytes from `offset` on; yields (where they really start, stream).

    A server without range support sends the whole file: then the first value is 0.

    Raises:
        TransferError: no answer, or another part than the one asked for. Reading may raise OSError or
            `http.client.HTTPException`.
    """
    ranged = {"Range": f"bytes={offset}-"} if offset else {}
    with _open(remote.url, "GET", ranged, timeout_s) as (response, _):
        start = 0
        if response.status == http.client.PARTIAL_CONTENT:
            stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not stated or int(stated[1]) != offset or stated[2] not in {"*", str(remote.size_bytes)}:
                got = response.headers.get("Content-Range", "an unnamed part")
                raise TransferError(
                    f"{remote.url}: expected bytes from {offset} of {remote.size_bytes}, got {got!r}; the "
                    "file may have changed"
                )
            start = offset
        yield start, response


def _ask(url: str, method: str, headers: Mapping[str, str], timeout_s: float) -> dict[str, str]:
    """Return the headers of all answers on the way, names in lower case, the first answer's first."""
    with _open(url, method, headers, timeout_s) as (response, passed):
        merged: dict[str, str] = {}
        final = response.headers
        for message in (*passed, final):
            for name, value in message.items():
                if message is final or name.lower() not in {"content-length", "content-range"}:
                    merged.setdefault(name.lower(), value)
        return merged


@contextmanager
def _open(
    url: str, method: str, headers: Mapping[str, str], timeout_s: float
) -> Iterator[tuple[http.client.HTTPResponse, list[Message]]]:
    if not url.startswith(("https://", "http://")):
        raise TransferError(f"{url}: expected an http(s) address")
    redirects = HeaderKeepingRedirects()
    opener = urllib.request.build_opener(redirects)
    sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
    request = urllib.request.Request(url, headers=sent, method=method)  # noqa: S310  # scheme checked above
    try:
        response = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as err:
        with err:
            passing = err.code in {408, 425, 429} or err.code >= 500
            raise TransferError(
                f"{url}: HTTP {err.code} {err.reason}", passing=passing, status=err.code
            ) from err
    except urllib.error.URLError as err:
        raise TransferError(f"{url}: no connection ({err.reason})", passing=True) from err
    except (OSError, http.client.HTTPException) as err:
        raise TransferError(f"{url}: no answer ({err or type(err).__name__})", passing=True) from err
    with response:
        yield response, redirects.passed


class HeaderKeepingRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects with the same method, keep every answer's headers, refuse to leave HTTPS."""

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302

    def __init__(self) -> None:
        self.passed: list[Message] = []

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request:
        """Return the request that follows, or raise TransferError; the answer is closed then."""
        secure = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.startswith(secure):
            fp.close()
            raise TransferError(f"{req.full_url}: redirects to {newurl}, which is not {secure[0]}…; refused")
        self.passed.append(headers)
        return urllib.request.Request(  # noqa: S310  # scheme checked above
            newurl.replace(" ", "%20"),
            headers=dict(req.header_items()),
            origin_req_host=req.origin_req_host,
            unverifiable=True,
            method=req.get_method(),
        )


def _bare(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"')
