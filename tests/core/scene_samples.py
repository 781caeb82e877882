"""Scenes and networks small enough for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from hypir_core import EngineSpec, Request, Runtime
from hypir_core.batch.naming import Job
from hypir_core.batch.restoring import Writing, restore_file
from hypir_core.engines.feed_forward.engine import FeedForward
from hypir_core.image.ranges import RangeConfig, RangeKind
from hypir_core.models.architectures import build_architecture
from hypir_core.request import Report
from hypir_core.weights.spec import GeneratorSpec, spec_to_metadata


class Enlarge(nn.Module):
    """Blurs a little and enlarges by a factor per axis: it sees one cell to each side."""

    def __init__(self, scale: tuple[int, ...]):
        super().__init__()
        self.scale = scale
        self.mean = (F.avg_pool2d, F.avg_pool3d)[len(scale) - 2]

    def forward(self, x: Tensor) -> Tensor:
        x = 0.5 * x + 0.5 * self.mean(x, 3, stride=1, padding=1, count_include_pad=False)
        for axis, factor in enumerate(self.scale, 2):
            x = x.repeat_interleave(factor, axis)
        return x


def engine(scale: tuple[int, ...], channels: int = 1, *, net: nn.Module | None = None, **more) -> FeedForward:
    spec = {"file_values": True, "default_scale": float(max(scale)), "out_channels": channels}
    spec |= {key: more.pop(key) for key in ("file_values", "out_channels") if key in more}
    return FeedForward(
        spec=EngineSpec(
            name="toy", weights="none", in_channels=channels, axes=len(scale), streams=True, **spec
        ),
        net=Enlarge(scale) if net is None else net,
        scale=scale,
        radius=1,
        bytes_per_input_px=100.0,
        **more,
    )


def restored(
    made: FeedForward, source: Path, output: Path, request: Request | None = None, **writing
) -> Report:
    key = writing.pop("key", "")
    runtime = writing.pop("runtime", Runtime())
    return restore_file(
        made, Job(source, output), request or Request(), runtime, writing=Writing(**writing), key=key
    )


def write_weights(
    path: Path, channels: int, *, scale: int = 2, white: float | None = None, bands: tuple[str, ...] = ()
) -> Path:
    spec = GeneratorSpec(
        name="tiny",
        architecture="compact",
        scale=scale,
        in_channels=channels,
        out_channels=channels,
        bands=bands,
        options={"features": 8, "blocks": 1},
        trained_on="nothing",
        trained_with="nothing",
        licence="Apache-2.0",
        **({} if white is None else {"value_range": RangeConfig(kind=RangeKind.white, white=white)}),
    )
    data = {**spec.options, "in_channels": channels, "out_channels": channels, "scale": scale, "dims": 2}
    net = build_architecture("compact", data, where="test")
    save_file(net.state_dict(), path, spec_to_metadata(spec))
    return path


def write_volume_weights(path: Path, *, white: float) -> Path:
    """A random generator of three axes, one channel, ×2."""
    spec = GeneratorSpec(
        name="tiny volume",
        architecture="residual",
        dims=3,
        scale=2,
        in_channels=1,
        out_channels=1,
        options={"channels": 8, "blocks": 1},
        value_range=RangeConfig(kind=RangeKind.white, white=white),
        trained_on="nothing",
        trained_with="nothing",
        licence="Apache-2.0",
    )
    data = {**spec.options, "in_channels": 1, "out_channels": 1, "scale": 2, "dims": 3}
    net = build_architecture(spec.architecture, data, where="test")
    save_file(net.state_dict(), path, spec_to_metadata(spec))
    return path


def ramp(*shape: int, dtype=np.uint16, high: float = 9000) -> np.ndarray:
    """Values that tell every cell from its neighbours, smooth along the last two axes."""
    rng = np.random.default_rng(sum(shape))
    *outer, h, w = shape
    y, x = np.linspace(0.1, 0.9, h)[:, None], np.linspace(0.1, 0.8, w)[None]
    base = (y + x) / 2 + 0.05 * rng.random((*outer, 1, 1))
    return (base * high + rng.random(shape) * 20).astype(dtype)


def truth(made: FeedForward, values: np.ndarray) -> np.ndarray:
    """The network over the whole picture [c *sizes] at once."""
    return made.net(torch.from_numpy(values.astype(np.float32))[None])[0].numpy()
