"""Words from a server that speaks OpenAI's chat protocol, such as LM Studio, Ollama, llama.cpp or vLLM."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from ..environment import variables
from ..errors import CaptionError
from ..progress import ShouldStop, never
from .base import Captioner, one_line
from .chat_server import CHECK, ChatServer, find_server
from .picture import small_picture
from .post_json import Patience, RefusedError, post_json

if TYPE_CHECKING:
    from .catalog import OpenAIOptions

log = logging.getLogger(__name__)

_JPEG_QUALITY = 90


class OpenAICaptioner(Captioner):
    """Sends the picture, shrunk, with one question. The key is read at each call and kept nowhere."""

    def __init__(self, options: OpenAIOptions):
        self._options = options

    def __call__(
        self, image_01: Tensor, *, source: Path | None = None, should_stop: ShouldStop = never
    ) -> str:
        """Return the model's answer.

        Raises:
            CaptionError: no key, no connection, the server refuses, or its answer has no words.
            ConfigError: the address is not usable.
        """
        options = self._options
        server = find_server(options.base_url, options.model, variables())
        picture = small_picture(image_01, longest_side_px=options.longest_side_px)
        payload = {"model": server.model, "messages": [_question(options.instruction, picture)]}
        patience = Patience(timeout_s=options.timeout_s, retries=options.retries, pause_s=options.pause_s)
        url = f"{server.base_url}/chat/completions"
        try:
            answer = post_json(url, payload, key=server.key, patience=patience, should_stop=should_stop)
        except RefusedError as err:
            raise CaptionError(_refusal(server, err)) from err
        return _words(answer, server)


def _question(instruction: str, picture: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return {
        "role": "user",
        "content": [{"type": "text", "text": instruction}, {"type": "image_url", "image_url": {"url": url}}],
    }


def _words(answer: Any, server: ChatServer) -> str:
    try:
        choice = answer["choices"][0]
        content = choice["message"].get("content")
        cut = choice.get("finish_reason") == "length"
        if isinstance(content, list):  # some servers answer in parts
            content = " ".join(part.get("text") or "" for part in content)
        words = one_line(content or "")
    except (KeyError, IndexError, TypeError, AttributeError) as err:
        raise CaptionError(
            f"{server.base_url}: expected a chat completion, got {str(answer)[:80]!r}; {CHECK}"
        ) from err
    if not words:
        raise CaptionError(
            f"{server.base_url}: the model {server.model!r} answered without words; try another"
        )
    if cut:
        log.warning("%s: the server cut the caption off at its own limit of tokens", server.base_url)
    return words


def _refusal(server: ChatServer, err: RefusedError) -> str:
    if err.status in {401, 403} and server.key is None:
        advice = (
            "no key was sent, because the environment names none for this server: set HYPIR_CAPTION_API_KEY "
            f"and HYPIR_CAPTION_BASE_URL={server.base_url}"
        )
    elif err.status in {401, 403}:
        advice = "check the key in HYPIR_CAPTION_API_KEY (or OPENAI_API_KEY)"
    elif err.status == 404:
        advice = f"check the model's name; {CHECK}, which usually ends with /v1"
    elif 300 <= err.status < 400:
        advice = f"the server sends requests elsewhere, give that address; {CHECK}"
    elif err.status == 429:
        advice = "the account has no quota left"
    else:
        advice = "check that the model takes pictures"
    return f"{server.base_url} refused the model {server.model!r} with {err}; {advice}"
