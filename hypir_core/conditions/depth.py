"""How far away things are, as a transformers model sees it: near is white, far is black."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import MissingDependencyError, RangeError, WeightsError, WeightsNotFoundError
from ..files.encode import to_samples
from ..image.resize import resize
from ..residency import send_home
from ..weights.search.hub_cache import hub_cache_folder, is_repo_id, snapshots
from .base import ConditionPicture, ConditionSettings, Make

DEPTH_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"
"""Apache-2.0, 100 MB."""

METRES = ("glpn", "zoedepth")
"""Models whose result is a distance; others say which of them by `depth_estimation_type`, and else nearness."""


def load_depth(settings: ConditionSettings, device: torch.device) -> Make:
    """Load the model; return what makes the depth of a picture at the wanted size.

    The model's own preparation resizes the picture as it was trained; its result is stretched to [0,1] and resized. A
    distance d becomes the nearness 1/d first, which is what ControlNets for depth were trained on.

    Raises:
        WeightsNotFoundError: the model is not on this machine.
        WeightsError: transformers cannot load it as a depth-estimation model.
        MissingDependencyError: transformers is not installed.
    """
    folder = find_depth_model(settings.depth_model)
    model, prepare = _loaded(folder)
    model.eval()
    kind = getattr(model.config, "depth_estimation_type", None)
    is_distance = kind == "metric" or model.config.model_type in METRES

    @torch.no_grad()
    def measure(picture_01: Tensor, size_px: tuple[int, int]) -> ConditionPicture:
        rgb = picture_01.float().clamp(0, 1).expand(-1, 3, -1, -1)
        pictures = [Image.fromarray(to_samples(one, None, bits=8)) for one in rgb.cpu()]
        inputs = prepare(images=pictures, return_tensors="pt")["pixel_values"].to(device)
        try:  # once a picture: what it takes is wanted by the networks that come after it
            depth = model.to(device)(pixel_values=inputs).predicted_depth.float()[:, None]
        finally:
            send_home(model)
        if not torch.isfinite(depth).all():
            raise RangeError(f"{folder}: the depth of this picture is not finite; use another depth_model")
        if is_distance:
            depth = 1 / depth.clamp(min=1e-3)
        near = resize(_stretched(depth), size_px).clamp(0, 1).to(picture_01.device)
        return ConditionPicture(picture_01=near.expand(-1, 3, -1, -1))

    return measure


def find_depth_model(name: str | None) -> Path:
    """Return the folder of a depth-estimation model: `name` itself, or its newest copy in the Hugging Face cache.

    Raises:
        WeightsNotFoundError: it is not there; says where it was looked for and how to get it.
    """
    if name is not None and Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    repo = name or DEPTH_MODEL
    if is_repo_id(repo) and (there := snapshots(repo)):
        return there[0]
    looked = f"Hugging Face cache {hub_cache_folder()}: {repo}: not downloaded"
    if name is not None:
        looked = f"given path: {name}: no such folder" + (f"\n  - {looked}" if is_repo_id(name) else "")
    raise WeightsNotFoundError(
        f"expected a depth-estimation model of transformers, found none; tried:\n  - {looked}\n"
        f"download one:\n  hf download {DEPTH_MODEL}\nor name a folder or another repository with depth_model"
    )


def _loaded(folder: Path) -> tuple[Any, Any]:
    try:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation
    except ImportError as err:
        raise MissingDependencyError("transformers", "diffusion", "the guide 'depth'") from err
    from safetensors import SafetensorError

    given = {"local_files_only": True, "trust_remote_code": False}
    try:
        prepare: Any = AutoImageProcessor.from_pretrained(folder, **given)
        model: Any = AutoModelForDepthEstimation.from_pretrained(folder, **given)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as err:
        reason = next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)
        raise WeightsError(
            f"{folder}: transformers cannot load this as a depth-estimation model ({reason})"
        ) from err
    return model, prepare


def _stretched(depth: Tensor) -> Tensor:
    """Bring every picture to [0,1]; one of a single depth becomes black. [b 1 h w] → [b 1 h w]."""
    least, greatest = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
    return (depth - least) / (greatest - least).clamp(min=1e-12)
