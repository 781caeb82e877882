"""The feed-forward engine on pictures of any bands and on volumes, with a factor per axis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hypir_core import EngineSpec, Request, Runtime, TargetSize, TileWish, restore
from hypir_core.engines.feed_forward.engine import FeedForward
from hypir_core.errors import ConfigError, ShapeError
from hypir_core.image.ranges import RangeConfig, RangeKind
from hypir_core.tiling.geometry import Plane
from hypir_core.tiling.run import run_stage


class Repeat(nn.Module):
    """Repeats every cell by a factor per axis; with `bands`, the first ones only."""

    def __init__(self, scale: tuple[int, ...], bands: int | None = None):
        super().__init__()
        self.scale, self.bands = scale, bands

    def forward(self, x: Tensor) -> Tensor:
        for axis, factor in enumerate(self.scale, 2):
            x = x.repeat_interleave(factor, axis)
        return x[:, : self.bands]


def engine(scale: tuple[int, ...], channels: int, *, out: int | None = None, **more) -> FeedForward:
    return FeedForward(
        spec=EngineSpec(
            name="toy", weights="none", in_channels=channels, out_channels=out or channels, axes=len(scale)
        ),
        net=Repeat(scale, out),
        scale=scale,
        radius=1,
        bytes_per_input_px=100.0,
        **more,
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("scale", [(4,), (4, 4), (1, 4, 4), (2, 2, 2)])
def test_volumes_and_bands(scale, channels):
    made = engine(scale, channels)
    sizes = (19, 21, 23)[: len(scale)]
    x = torch.rand(1, channels, *sizes)
    size_px = tuple(size * factor for size, factor in zip(sizes, scale, strict=True))
    prepared = made.prepare(Plane(x), size_px, Request())
    (stage,) = made.stages(prepared, Request())
    out, report = run_stage(stage, prepared.plane, wish=TileWish(tile_px=32, overlap_px=8), runtime=Runtime())
    torch.testing.assert_close(out.data, Repeat(scale)(x))
    assert out.sizes_px == size_px
    assert report.redundancy > 1


def test_less_than_the_factor_is_averaged_within_the_tile():
    made = engine((1, 4, 4), 2)
    x = torch.rand(1, 2, 5, 8, 8)
    prepared = made.prepare(Plane(x), (5, 16, 16), Request())
    assert prepared.plane.strides == (1, 2, 2)
    (stage,) = made.stages(prepared, Request())
    out, _ = run_stage(stage, prepared.plane, runtime=Runtime())
    torch.testing.assert_close(out.data, Repeat((1, 2, 2))(x))


def test_thirteen_bands_through_the_pipeline():
    made, x = engine((2, 2), 13), torch.rand(1, 13, 10, 12)
    restored = restore(made, x, Request(target=TargetSize(scale=2)), Runtime())
    torch.testing.assert_close(restored.image_01, Repeat((2, 2))(x))


def test_bands_in_and_colours_out():
    made, x = engine((2, 2), 4, out=3), torch.rand(1, 4, 6, 6)
    assert restore(made, x, Request(target=TargetSize(scale=2)), Runtime()).image_01.shape == (1, 3, 12, 12)
    with pytest.raises(ConfigError, match="makes 3 channels of 4: a strength below 1 would mix them"):
        restore(made, x, Request(target=TargetSize(scale=2), strength=0.5), Runtime())


def test_a_picture_of_other_bands_is_refused_with_both_numbers():
    with pytest.raises(ShapeError, match="takes 13 channels, the picture has 3"):
        restore(engine((2, 2), 13), torch.rand(1, 3, 6, 6), Request(), Runtime())
    with pytest.raises(ConfigError, match="restores volumes of 3 axes"):
        restore(engine((1, 2, 2), 3), torch.rand(1, 3, 6, 6), Request(), Runtime())


def test_a_network_of_another_range_gets_it():
    class Seen(nn.Module):
        low = high = 0.0

        def forward(self, x: Tensor) -> Tensor:
            Seen.low, Seen.high = float(x.min()), float(x.max())
            return x

    made = engine((1, 1), 3, value_range=RangeConfig(kind=RangeKind.pm1))
    object.__setattr__(made, "net", Seen())
    x = torch.cat([torch.zeros(1, 3, 8, 4), torch.ones(1, 3, 8, 4)], 3)
    restored = restore(made, x, Request(target=TargetSize(scale=1)), Runtime())
    assert (Seen.low, Seen.high) == (-1, 1)
    torch.testing.assert_close(restored.image_01, x)
