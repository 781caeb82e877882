"""Find, fetch and load a captioning model of transformers."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import torch

from ..environment import variables
from ..errors import CaptionError, MissingDependencyError
from ..tiling.memory import is_out_of_memory
from ..weights.download.sources import HUB, human_size, offline_by_environment
from ..weights.file_names import is_safetensors

log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Vlm:
    """A loaded model with what prepares its input."""

    model: Any
    """On its device, in evaluation mode."""
    processor: Any


def load_vlm(name: str, *, download: bool, device: torch.device, dtype: torch.dtype) -> Vlm:
    """Load a model and its processor; no code from the repository is run.

    Args:
        name: a folder, or a repository id that is looked for in the Hugging Face cache.
        download: fetch from the hub what the cache lacks, after saying what.
        device: where it will run.
        dtype: its number format.

    Raises:
        CaptionError: it is not on this machine, or transformers cannot load it.
        MissingDependencyError: transformers is not installed.
    """
    try:
        import transformers  # noqa: F401
    except ImportError as err:
        raise MissingDependencyError("transformers", "caption", "captioner vlm") from err
    try:
        vlm = _loaded(name, local_files_only=True)
    except OSError as err:
        if Path(name).is_dir():
            raise CaptionError(
                f"{name}: expected a transformers model in this folder ({_first_line(err)})"
            ) from err
        if not download:
            raise CaptionError(
                f"captioner vlm: the model {name!r} is not in the Hugging Face cache; fetch it with "
                "--option download=true, or name another one, or a folder, with --option model=…"
            ) from err
        vlm = _fetched(name)
    vlm.model.to(device=device, dtype=dtype).eval()
    return vlm


def describe_download(name: str, *, endpoint: str) -> str:
    """Ask a hub what a download of the model `name` would bring: from where, how big, under which licence.

    Raises:
        CaptionError: the hub cannot be reached, or has no such public model.
    """
    url = f"{endpoint.rstrip('/')}/api/models/{quote(name)}?blobs=true"
    if not url.startswith(("https://", "http://")):
        raise CaptionError(f"HF_ENDPOINT: expected an http(s) address, got {endpoint!r}")
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310  # scheme checked above
            info = json.load(response)
    except HTTPError as err:
        with err:
            raise CaptionError(
                f"{endpoint} has no public model {name!r} ({err.code} {err.reason}); check the name, or "
                "put the model into the cache with the hub's own tool"
            ) from err
    except (OSError, ValueError) as err:
        raise CaptionError(
            f"{endpoint} cannot be reached ({getattr(err, 'reason', err)}); check the connection, or "
            "set model to a folder on this machine"
        ) from err
    sizes = {str(file["rfilename"]): int(file.get("size") or 0) for file in info.get("siblings", ())}
    weights = [n for n in sizes if is_safetensors(n)] or [n for n in sizes if n.endswith(".bin")]
    licence = (info.get("cardData") or {}).get("license") or "not stated"
    size = human_size(sum(sizes[n] for n in weights))
    return f"downloading {name} from {endpoint}: about {size}, licence {licence}"


def _fetched(name: str) -> Vlm:
    if offline_by_environment():
        raise CaptionError(
            f"captioner vlm: the model {name!r} is not in the Hugging Face cache and cannot be downloaded "
            "offline; run once without HF_HUB_OFFLINE"
        )
    log.warning(describe_download(name, endpoint=variables().get("HF_ENDPOINT") or HUB))
    try:
        return _loaded(name, local_files_only=False)
    except OSError as err:
        raise CaptionError(
            f"{name}: the download failed ({_first_line(err)}); try again, it resumes"
        ) from err


def _loaded(name: str, *, local_files_only: bool) -> Vlm:
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        given: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
        processor = AutoProcessor.from_pretrained(name, **given)
        if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
            raise CaptionError(
                f"{name}: expected a model of pictures and words, got {type(processor).__name__} only"
            )
        return Vlm(AutoModelForImageTextToText.from_pretrained(name, **given), processor)
    except (ValueError, ImportError, RuntimeError, SafetensorError) as err:
        if is_out_of_memory(err):
            raise
        raise CaptionError(
            f"{name}: transformers cannot load this as an image-text-to-text model ({_first_line(err)})"
        ) from err


def _first_line(err: BaseException) -> str:
    return next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)
