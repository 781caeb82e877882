"""Serve the page: to this machine unless told otherwise, with nothing loaded from anywhere else."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MissingDependencyError
from ..weights.download.sources import Fetch
from .engine import HeldEngine
from .sessions import Sessions
from .settings import PageSettings

if TYPE_CHECKING:
    import gradio as gr

LOOPBACK = ("127.0.0.1", "localhost", "::1")

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "style-src 'self' 'unsafe-inline'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "worker-src 'self' blob:",
        "connect-src 'self' data: blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'none'",
    )
)
"""What the browser may load: Gradio's page names servers of fonts and scripts that nobody needs."""

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Headers:
    """Puts the policy on every answer."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Answer as the application does, with three headers more."""

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


@contextmanager
def serving(settings: PageSettings, *, fetch: Fetch | None = None) -> Iterator[str]:
    """Serve the page while the block runs, and give its address; afterwards nothing of it is left on the disk.

    Args:
        settings: what was decided at the start.
        fetch: how to get missing weights; None downloads nothing.

    Raises:
        MissingDependencyError: Gradio is not installed.
        ConfigError: a setting is wrong, or the port is taken.
    """
    settings.check()
    sessions = Sessions()
    try:
        with _environment(
            # Read when Gradio is imported and when it starts: no word of this page to anybody, all files in one place.
            GRADIO_ANALYTICS_ENABLED="False",
            HF_HUB_DISABLE_TELEMETRY="1",
            GRADIO_TEMP_DIR=str(sessions.root),
        ):
            page = _built(settings, sessions, fetch)
            sessions.keep_what_is_there()
            try:
                yield _launch(page, settings)
            finally:
                page.close(verbose=False)
    finally:
        sessions.close_all()


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _built(settings: PageSettings, sessions: Sessions, fetch: Fetch | None) -> gr.Blocks:
    try:
        from .building import build_page
    except ModuleNotFoundError as err:
        if err.name != "gradio":
            raise
        raise MissingDependencyError("gradio", "web", "the web page") from err
    return build_page(settings, sessions, HeldEngine(settings, fetch))


def _launch(page: gr.Blocks, settings: PageSettings) -> str:
    from gradio.themes import Base
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    middleware = [Middleware(Headers)]
    if settings.host in LOOPBACK:  # a page of another name that leads here is another site's trick
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK)))
    theme = Base(
        primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
    ).set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")
    try:
        _app, address, _share = page.launch(
            server_name=settings.host,
            server_port=settings.port,
            share=False,
            inbrowser=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=settings.max_upload_bytes,
            app_kwargs={"middleware": middleware},
            theme=theme,
            css_paths=Path(__file__).with_name("look.css"),
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
        )
    except OSError as err:
        wanted = settings.port or "from 7860 on"
        raise ConfigError(f"--host {settings.host} --port {wanted}: {err}; choose another --port") from err
    return address
