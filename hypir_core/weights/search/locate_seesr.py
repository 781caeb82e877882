"""Find SeeSR's own two networks, in the order of `locate`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..download.sources import Fetch
from ..file_names import is_index, is_safetensors, is_weight_file, network_files
from .base_layout import Missing, network_fault, tensor_names
from .comfy_paths import weight_files
from .comfy_search import comfy_folders
from .locate import Results, locate_file
from .locate_controlnet import is_controlnet

_RESTORE = "hypir restore photo.jpg -o out.png --engine seesr"
SEESR_COMMANDS = (f"{_RESTORE} --download", f"{_RESTORE} --seesr FOLDER")
"""What mends missing files: download them; use copies one already has."""

IMAGE_BLOCKS = ".image_attentions."
"""In the names of the tensors that only SeeSR's networks have."""

_NAME = re.compile(r"see-?sr")


@dataclass(frozen=True, kw_only=True)
class SeesrFiles:
    """SeeSR's two networks. Both paths exist."""

    unet: Path
    """Weight file of the UNet with the image blocks; the rest of it is not needed."""
    controlnet: Path
    """Weight file of the ControlNet; its ``config.json`` may lie beside it."""
    found_in: str
    """Where they were found, for reports."""


def locate_seesr(
    given: Path | None = None,
    *,
    comfy_models: Sequence[Path] | None = None,
    offline: bool = False,
    fetch: Fetch | None = None,
) -> SeesrFiles:
    """Find SeeSR's UNet and ControlNet.

    Args:
        given: a folder with `unet` and `controlnet` (or with one `seesr` that has them, or with the two as
            files), or one of the two files, with the other one beside it. When given, nothing else is tried.
        comfy_models: ComfyUI folders to look into; None: those of this machine.
        offline: never use `fetch`; also set by HF_HUB_OFFLINE=1.
        fetch: called with the source and a folder when nothing is found; None: nothing is downloaded.

    Raises:
        WeightsNotFoundError: lists every place that was tried and the two commands that would mend it.
        WeightsError, Cancelled: from `fetch`.
    """
    return locate_file(
        ("seesr",),
        given,
        _recognise_seesr,
        what="SeeSR's UNet and ControlNet",
        commands=SEESR_COMMANDS,
        in_comfy=lambda name: iter(()) if name else _seesr_in_comfy(comfy_models),
        offline=offline,
        fetch=fetch,
    )


def _recognise_seesr(path: Path, place: str) -> Results[SeesrFiles]:
    if path.is_file():
        yield place, _beside(path, place)
        return
    for folder in dict.fromkeys((path, path / "seesr", path / "SeeSR")):
        if folder == path or folder.is_dir():
            yield place if folder == path else f"{place}: {folder.name}", _seesr_in(folder, place)


def _seesr_in(folder: Path, place: str) -> SeesrFiles | Missing:
    """Recognise the two networks of a folder: in `unet` and `controlnet`, or as files."""
    if not folder.is_dir():
        return Missing("no such file or folder")
    unets, controlnets = network_files(folder / "unet"), network_files(folder / "controlnet")
    if not unets and not controlnets:
        return _pair(filter(is_weight_file, sorted(folder.iterdir())), place)
    lacking = [part for part, files in (("unet", unets), ("controlnet", controlnets)) if not files]
    if lacking:
        return Missing(f"incomplete, without {lacking[0]}/diffusion_pytorch_model.safetensors")
    for file in (unets[0], controlnets[0]):
        if (fault := _seesr_fault(file)) is not None:
            return Missing(f"{file.parent.name}/{file.name} {fault}")
    return SeesrFiles(unet=unets[0], controlnet=controlnets[0], found_in=place)


def _beside(file: Path, place: str) -> SeesrFiles | Missing:
    """Recognise SeeSR by one of its two files: the other lies in the same folder, or in the folder next to it."""
    if (fault := _seesr_fault(file)) is not None:
        return Missing(fault)
    name = "controlnet" if _is_controlnet(file) else "unet"
    other = network_files(file.parent.parent / ("unet" if name == "controlnet" else "controlnet"))
    return _pair([file, *(other[:1] or filter(is_weight_file, sorted(file.parent.iterdir())))], place)


def _pair(files: Iterable[Path], place: str) -> SeesrFiles | Missing:
    """Take the first UNet and the first ControlNet with image blocks among some files."""
    unet = controlnet = None
    for file in files:
        if is_safetensors(file) and _seesr_fault(file) is None:
            if _is_controlnet(file):
                controlnet = controlnet or file
            else:
                unet = unet or file
    if unet is None or controlnet is None:
        lacking = [n for n, f in (("UNet", unet), ("ControlNet", controlnet)) if f is None]
        return Missing(f"no safetensors file that is SeeSR's {' or '.join(lacking)}")
    return SeesrFiles(unet=unet, controlnet=controlnet, found_in=place)


def _seesr_fault(file: Path) -> str | None:
    """Say why a file is no network of SeeSR; None: it is one, or a pickle or an index, which are read later."""
    fault = network_fault(file)
    if fault is not None:
        return f"is {fault}"
    if not is_safetensors(file) or is_index(file):
        return None
    names = tensor_names(file)
    if names is None:
        return "is damaged; get it again"
    if not any(IMAGE_BLOCKS in name for name in names):
        kind = "a plain ControlNet" if is_controlnet(names) else "another network"
        return f"is {kind}: it holds no image_attentions, SeeSR's own tensors"
    return None


def _is_controlnet(file: Path) -> bool:
    names = tensor_names(file) if is_safetensors(file) else None
    return file.parent.name == "controlnet" if names is None else is_controlnet(names)


def _seesr_in_comfy(roots: Sequence[Path] | None) -> Results[SeesrFiles]:
    for root, folders in comfy_folders(roots, "hypir", "diffusers", "controlnet", "diffusion_models"):
        if isinstance(folders, Missing):
            yield root, folders
            continue
        for folder in (*folders[0], *folders[1]):
            for child in sorted(folder.iterdir()):
                if child.is_dir() and _NAME.search(child.name.lower()):
                    yield from _recognise_seesr(child, str(child))
        every = [place for kind in folders for place in kind]
        files = [file for file in weight_files(every) if _NAME.search(file.name.lower())]
        yield root, _pair(files, root)
