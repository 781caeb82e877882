"""``hypir web``."""

from __future__ import annotations

import signal
import threading
import webbrowser
from typing import Annotated, Any

import typer

from . import console
from .caption import captioner_settings
from .downloads import fetcher


def web_command(
    engine: Annotated[str, typer.Option(help="The engine that is chosen at first.")] = "built-in",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    captioner: Annotated[
        str, typer.Option(help="What the button beside the prompt asks: vlm, tags, openai …")
    ] = "vlm",
    captioner_option: Annotated[
        list[str] | None, typer.Option("--captioner-option", metavar="KEY=VALUE", help="One of its settings.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Port.", show_default="the first free one from 7860 on")
    ] = None,
    max_upload: Annotated[float, typer.Option(help="Largest file that may be uploaded, MiB.")] = 256,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
    *,
    engine_flags: dict[str, Any],
) -> None:
    """Restore pictures in a browser. Ctrl-C stops it.

    Settings of engines that are given here hold for the page: weights, folders, --download.
    """
    from ..web.serving import serving
    from ..web.settings import MIB, PageSettings

    settings = PageSettings(
        engine=engine,
        given=engine_flags,
        device=device,
        dtype=dtype,
        captioner=captioner,
        captioner_options=captioner_settings(captioner, captioner_option or []),
        host=host,
        port=port,
        max_upload_bytes=round(max_upload * MIB),
    )
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a container that is stopped removes its files too
    with serving(
        settings, fetch=fetcher(consented=True) if engine_flags.get("download") else None
    ) as address:
        console.tell(f"the page is at {address} (Ctrl-C stops it)")
        if open_browser:
            webbrowser.open(address)
        threading.Event().wait()
