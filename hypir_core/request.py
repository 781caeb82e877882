"""What the user asks for, and what is told about the run afterwards: both JSON-able, both written into the picture."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .color.mode import ColorFix
from .config import strict, to_plain
from .errors import ConfigError
from .image.size import TargetSize
from .tiling.plan import TileWish
from .tiling.stage import StageReport
from .version import VERSION


@dataclass(frozen=True, kw_only=True)
class Request:
    """One wish, independent of the picture, the engine and the machine."""

    __pydantic_config__ = strict

    target: TargetSize = field(default_factory=TargetSize)
    """Size of the result; by default the engine's own scale."""
    prompt: str = ""
    """What the picture shows, for engines that listen; generic quality words lower quality."""
    seed: int = 0
    """Only engines that draw noise depend on it."""
    tile: TileWish = field(default_factory=TileWish)
    """What is asked of the tiles; what it leaves open is the engine's."""
    color_fix: ColorFix | None = None
    """Where low frequencies (colour) come from; None takes the engine's."""
    color_strength: float = 1.0
    """0 leaves the engine's colours, 1 applies the colour fix fully."""
    strength: float = 1.0
    """0 gives the resized input back, 1 the restored picture."""
    edge_enhance: float = 0.0
    """0 to 1: how much steeper edges of the input become before the engine sees it; colours and the untouched part of
    a blend come from the input as it is."""
    sharpen: float = 0.0
    """0 to 1: how much steeper edges of the result become, after the colour fix and before the blend with the
    input."""

    def __post_init__(self) -> None:
        problems = [
            f"{name.replace('_', ' ')} must be from 0 to 1, got {value:g}"
            for name in ("color_strength", "strength", "edge_enhance", "sharpen")
            if not 0 <= (value := getattr(self, name)) <= 1
        ]
        if not 0 <= self.seed < 2**63:
            problems.append(f"seed must be from 0 to 2**63 − 1, got {self.seed}")
        if problems:
            raise ConfigError(problems)

    def to_json(self) -> str:
        """Return the request as one line of JSON with sorted keys."""
        return json.dumps(to_plain(self), sort_keys=True, ensure_ascii=False)

    def key(self) -> str:
        """Return a short hash of the request: the same wish has the same key."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def software_versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    import torch

    return {
        "onestep-restore": VERSION,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


@dataclass(frozen=True, kw_only=True)
class Tag:
    """One thing that was seen in a picture."""

    name: str
    probability: float
    """0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """How one picture was restored."""

    engine: str
    weights: str
    """File name and content hash of the weights, or ``random``."""
    licence: str = ""
    """Under which the weights that ran are published."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Every setting of the engine, as it was resolved."""
    input_px: tuple[int, ...]
    """Height and width; slices first where there are any."""
    output_px: tuple[int, ...]
    device: str
    dtype: str
    stages: tuple[StageReport, ...]
    seconds: float
    color_fix: str
    edge_enhance: float = 0.0
    sharpen: float = 0.0
    prompt: str
    """The words that were read: those of the request, and what the engine put to them."""
    seed: int
    tags: tuple[Tag, ...] = ()
    """What the engine saw in the picture, the surest first."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Figures of the result, by name: `chi_squared`, and `psnr_db`, `ssim`, `frc_px` where a truth was given …"""
    notes: tuple[str, ...] = ()
    """What the user should know: memory rungs, a truncated prompt, …"""
    networks_bytes: Mapping[str, int] = field(default_factory=dict)
    """Memory of the weights of every network, by name; empty where the engine does not tell."""
    peak_device_bytes: int | None = None
    """Highest memory allocated on a CUDA device during the run."""
    software: Mapping[str, str] = field(default_factory=software_versions)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the report as JSON."""
        return json.dumps(to_plain(self), sort_keys=True, ensure_ascii=False, indent=indent)


def picture_text(request: Request, report: Report) -> dict[str, str]:
    """Return the words that a restored picture carries: what was asked for, and what was done.

    How long it took and the memory it had are left out: made again, a picture is the same to the last byte.
    """
    plain = to_plain(report)
    del plain["peak_device_bytes"]
    for timed in (plain, *plain["stages"]):
        timed.pop("seconds", None)
    done = json.dumps(plain, sort_keys=True, ensure_ascii=False)
    return {"hypir.request": request.to_json(), "hypir.report": done}
