"""Which server is asked, and which key it may see.

A key goes only to the server that the environment names for it. An address that comes from elsewhere, for
instance from a workflow that somebody shared, is asked without a key: local servers need none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import CaptionError, ConfigError

OPENAI_URL = "https://api.openai.com/v1"
MODEL = "gpt-4o-mini"


@dataclass(frozen=True, slots=True)
class ChatServer:
    """One server, for one request."""

    base_url: str
    """Without a slash at the end."""
    model: str
    key: str | None = field(repr=False)


ADDRESS = "the address (base_url, or HYPIR_CAPTION_BASE_URL)"
"""How messages name what ComfyUI takes from the environment and the command line also from an option."""

CHECK = f"check {ADDRESS}"


def find_server(base_url: str | None, model: str | None, environ: Mapping[str, str]) -> ChatServer:
    """Complete what the options say with the environment.

    Args:
        base_url: the option, or None.
        model: the option, or None.
        environ: HYPIR_CAPTION_BASE_URL, HYPIR_CAPTION_API_KEY, HYPIR_CAPTION_MODEL are looked at first, then
            OPENAI_BASE_URL, OPENAI_API_KEY. An empty value counts as none.

    Raises:
        ConfigError: the address is not usable.
        CaptionError: OpenAI's own server without a key, or a key that cannot be one.
    """
    common = environ.get("OPENAI_BASE_URL") or OPENAI_URL
    own = environ.get("HYPIR_CAPTION_BASE_URL") or common
    chosen = _checked(base_url or own)
    key = None
    for name, home in (("HYPIR_CAPTION_API_KEY", own), ("OPENAI_API_KEY", common)):
        given = environ.get(name, "").strip()
        if key is None and given and _origin(home) == _origin(chosen):
            key = _checked_key(name, given)
    if key is None and _origin(chosen) == _origin(OPENAI_URL):
        raise CaptionError(
            f"captioner openai: {OPENAI_URL} needs a key; set the environment variable HYPIR_CAPTION_API_KEY "
            "(or OPENAI_API_KEY), or name another server as base_url or HYPIR_CAPTION_BASE_URL, "
            "for instance http://localhost:1234/v1"
        )
    return ChatServer(chosen, model or environ.get("HYPIR_CAPTION_MODEL") or MODEL, key)


def _checked(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or parts.query or parts.fragment or any(c.isspace() for c in base_url):
        raise ConfigError(
            f"{ADDRESS}: expected something such as {OPENAI_URL} or http://localhost:1234/v1, "
            f"got {base_url!r}"
        )
    if parts.username is not None:
        raise ConfigError(
            f"{ADDRESS}: expected no user name or password in the address; set HYPIR_CAPTION_API_KEY"
        )
    return base_url.rstrip("/")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _checked_key(name: str, key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CaptionError(f"{name}: expected a key of printable ASCII without spaces; set it again")
    return key
