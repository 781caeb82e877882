"""Find ControlNets for Stable Diffusion 2 besides SeeSR's own, in the order of `locate`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import UnknownNameError
from ..download.sources import Fetch
from ..file_names import is_safetensors, network_files
from .base_layout import Missing, network_fault, tensor_names
from .comfy_paths import weight_files
from .comfy_search import comfy_folders, ranked
from .locate import Results, locate_file

CONTROLNET_SOURCES = {"edge": "controlnet-sd21-canny", "depth": "controlnet-sd21-depth"}
"""Kind of control picture → source of a ControlNet that reads it."""

OF_CONTROLNET = ("controlnet_cond_embedding.", "control_model.", "input_hint_block.")
"""Starts of names that only ControlNets have: those of diffusers, and of the original release."""

_NAMES = {
    kind: re.compile(rf"(?=.*control)(?=.*(?:sd|v)[-_. ]?2[-_. ]?1)(?=.*{words})")
    for kind, words in (("edge", "canny"), ("depth", "(?<!zoe)depth"))
}


def locate_controlnet(
    kind: str,
    given: str | Path | None = None,
    *,
    comfy_models: Sequence[Path] | None = None,
    offline: bool = False,
    fetch: Fetch | None = None,
) -> Path:
    """Find a plain ControlNet for Stable Diffusion 2 that reads one kind of control picture.

    Args:
        kind: what it reads: ``edge`` or ``depth`` are looked for; others must be given.
        given: a file, a diffusers folder, a repository id in the Hugging Face cache, or the bare name of a file in
            ComfyUI's folder ``controlnet``. When given, nothing else is tried.
        comfy_models: as for `locate_base`.
        offline: as for `locate_base`.
        fetch: as for `locate_base`.

    Raises:
        UnknownNameError: nothing is given, and no ControlNet is known for this kind.
        WeightsNotFoundError, WeightsError, Cancelled: as for `locate_base`.
    """
    if given is None and kind not in CONTROLNET_SOURCES:
        raise UnknownNameError("kind of ControlNet that is found by itself", kind, CONTROLNET_SOURCES)
    known = kind if kind in CONTROLNET_SOURCES else "edge"
    restore = "hypir restore photo.jpg -o out.png --engine seesr"
    return locate_file(
        (CONTROLNET_SOURCES[kind],) if given is None else (),
        given,
        _recognise,
        what=f"a ControlNet for the {kind} picture",
        commands=(
            f"{restore} --guide {known} --download",
            f"{restore} --guide {kind} --guide-weights {kind}=FILE",
        ),
        in_comfy=lambda name: _in_comfy(comfy_models, kind, name),
        offline=offline,
        fetch=fetch,
    )


def is_controlnet(names: Sequence[str]) -> bool:
    """Return whether tensors of these names are a ControlNet's."""
    return any(name.startswith(OF_CONTROLNET) for name in names)


def _recognise(path: Path, place: str) -> Results[Path]:
    if path.is_dir():
        there = network_files(path) or network_files(path / "controlnet")
        if not there:
            yield place, Missing("no diffusion_pytorch_model.safetensors or .bin")
    else:
        there = [path]
    for file in there:
        yield place, _read(file)


def _read(file: Path) -> Path | Missing:
    if not file.is_file():
        return Missing("no such file or folder")
    fault = network_fault(file)
    if fault is not None:
        return Missing(f"{file.name} is {fault}")
    names = tensor_names(file) if is_safetensors(file) else None
    if names is not None and not is_controlnet(names):
        return Missing(f"{file.name} is another network: it holds no {OF_CONTROLNET[0]}…")
    return file


def _in_comfy(roots: Sequence[Path] | None, kind: str, name: str | None) -> Results[Path]:
    for root, folders in comfy_folders(roots, "controlnet", "hypir"):
        if isinstance(folders, Missing):
            yield root, folders
            continue
        every = [place for place_kind in folders for place in place_kind]
        fits = _NAMES.get(kind)
        for file in ranked(weight_files(every)):
            if file.name == name if name else fits is not None and fits.match(file.stem.lower()):
                yield str(file), _read(file)
        yield root, Missing(f"no {name or CONTROLNET_SOURCES[kind] + '.safetensors'}")
