"""Send JSON to a server and read its JSON answer, with patience for a busy one."""

from __future__ import annotations

import http.client
import json
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..errors import Cancelled, CaptionError
from ..progress import ShouldStop, never
from .chat_server import CHECK

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
"""A server that asks for more patience than this is given up."""
_POLL_S = 0.1
_MOST_BYTES = 1 << 20
_MOST_ERROR_CHARS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long to wait and how often to try."""

    timeout_s: float
    retries: int
    pause_s: float
    """Before the first retry, where the server names no time; doubles each time."""


class RefusedError(CaptionError):
    """The server answered with an error that another try would not change."""

    def __init__(self, status: int, said: str):
        self.status, self.said = status, said
        super().__init__(f"{status} {said}")


def post_json(
    url: str, payload: Any, *, key: str | None, patience: Patience, should_stop: ShouldStop = never
) -> Any:
    """POST `payload` and return the parsed answer.

    Another try is made only on 429, 5xx and timeouts. Redirects are not followed: the key would go with them.

    Args:
        url: http or https.
        payload: what JSON can hold.
        key: sent as a bearer token; None sends none.
        patience: how long, how often.
        should_stop: asked before each try and while waiting for the next.

    Raises:
        Cancelled: `should_stop` said yes.
        RefusedError: any other status than 2xx, 429 and 5xx.
        CaptionError: not reachable, too slow or too busy to the end, or no JSON.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "onestep-restore"}
    request = Request(url, json.dumps(payload).encode(), headers)  # noqa: S310  # the caller checks the scheme
    if key is not None:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    for failed in range(patience.retries + 1):
        _pause(0.0, should_stop)
        try:
            return _answer(request, key, patience.timeout_s)
        except _BusyError as err:
            wait_s = err.retry_after_s
            if wait_s is None:
                wait_s = min(patience.pause_s * 2**failed, LONGEST_WAIT_S)
            if wait_s > LONGEST_WAIT_S:
                raise CaptionError(f"{url}: {err}, and asks to wait {wait_s:.0f} s; try again then") from err
            if failed == patience.retries:
                raise CaptionError(
                    f"{url}: {err} ({failed + 1} tries); try again later, or raise retries and timeout_s"
                ) from err
            log.info("%s: %s; next try in %.1f s", url, err, wait_s)
            _pause(wait_s, should_stop)
    raise AssertionError("the loop above returns or raises")


def _pause(wait_s: float, should_stop: ShouldStop) -> None:
    end_s = time.monotonic() + wait_s
    while True:
        if should_stop():
            raise Cancelled("stopped before the server answered")
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(left_s, _POLL_S))


class _BusyError(Exception):
    """One try failed in a way that may pass."""

    def __init__(self, text: str, retry_after_s: float | None = None):
        self.retry_after_s = retry_after_s
        super().__init__(text)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        """Leave the answer 3xx as an error."""


def _answer(request: Request, key: str | None, timeout_s: float) -> Any:
    url = request.full_url
    try:
        with build_opener(_NoRedirects).open(request, timeout=timeout_s) as response:
            body = response.read(_MOST_BYTES)
    except HTTPError as err:
        with err:
            raise _judged(err, key) from err
    except (OSError, http.client.HTTPException) as err:
        reason = getattr(err, "reason", err)
        if isinstance(reason, TimeoutError):
            raise _BusyError(f"no answer within {timeout_s:g} s") from err
        why = _short(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__, key)
        raise CaptionError(
            f"{url}: the server cannot be reached ({why}); "
            f"check the connection; {CHECK}, or use a captioner that needs no network (vlm, file)"
        ) from err
    try:
        return json.loads(body)
    except ValueError as err:
        got = _short(body.decode("utf-8", "replace"), key)
        raise CaptionError(f"{url}: expected JSON, got {got!r}; {CHECK}, it usually ends with /v1") from err


def _judged(err: HTTPError, key: str | None) -> Exception:
    """Return what an answer with an error status means."""
    try:
        body = err.read(_MOST_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        body = ""
    message, code = _error_in(body)
    said = _short(message or err.headers.get("Location") or str(err.reason), key)
    if (err.code == 429 and code != "insufficient_quota") or err.code >= 500:
        return _BusyError(
            f"the server answered {err.code} ({said})", _retry_after_s(err.headers.get("Retry-After"))
        )
    return RefusedError(err.code, said)


def _error_in(body: str) -> tuple[str, str]:
    """Return message and code of an error body as OpenAI and its likes write it; else the body itself."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body, ""
    if isinstance(error, dict):
        return str(error.get("message") or ""), str(error.get("code") or "")
    return str(error), ""


def _retry_after_s(value: str | None) -> float | None:
    """Read a Retry-After header: seconds or a date (RFC 9110, section 10.2.3); None where it is neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def _short(text: str, key: str | None) -> str:
    """Return a server's words as one short line without the key."""
    line = " ".join(text.split())
    if key is not None:
        line = line.replace(key, "***")
    return line if len(line) <= _MOST_ERROR_CHARS else f"{line[:_MOST_ERROR_CHARS]}…"
