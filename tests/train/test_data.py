from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hypir_core.errors import ConfigError
from tests.train.pair_streams import assert_same, joined, take
from train.config import Crop, DataConfig, DegradeOn, PoolConfig, RecipeShare
from train.data.degrading import build_mixture
from train.data.opening import open_source
from train.data.pairs import PairSequence
from train.data.stream import PairStream

SCALE = 2
CPU = torch.device("cpu")


def config(root: Path, **changes) -> DataConfig:
    shares = (RecipeShare(recipe="light"), RecipeShare(recipe="bicubic"))
    plain = DataConfig(
        root=root, batch_size=4, crop_px=32, shrink=(0.6, 1.0), rot90=True, degrade=shares, workers=0
    )
    return replace(plain, **changes)


def sequence(data: DataConfig, *, seed: int = 3) -> PairSequence:
    mixture = build_mixture(data.degrade, scale=SCALE, sharpen_target=False)
    return PairSequence(open_source(data, scale=SCALE), data, mixture, seed=seed)


def stream(data: DataConfig, **options) -> PairStream:
    options = {"report": lambda lines: None} | options
    return PairStream(sequence(data), data, device=CPU, **options)


def halves(pairs: PairSequence, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    item, _ = pairs.pair(index)
    assert item.lq is not None
    return item.hq, item.lq


def test_a_pair_depends_on_its_index_alone(photos):
    first, second = sequence(config(photos)), sequence(config(photos))
    second.pair(5)
    for index in (0, 17, 3):
        for a, b in zip(halves(first, index), halves(second, index), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(halves(first, 0)[0], halves(sequence(config(photos), seed=4), 0)[0])


def test_shapes_range_and_that_low_is_the_shrunk_high(photos):
    data = config(photos, degrade=(RecipeShare(recipe="bicubic"),))
    batch = next(stream(data))
    assert batch.hq.shape == (4, 3, 32, 32)
    assert batch.lq.shape == (4, 3, 16, 16)
    expected = torch.nn.functional.interpolate(batch.hq, (16, 16), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(batch.lq, expected, atol=0.5 / 255 + 1e-5, rtol=0)


def test_an_epoch_shows_every_picture_once(photos):
    pictures = sequence(config(photos))
    seen = {tuple(pictures.picture(index)[1].hq.flatten()[:50].tolist()) for index in range(6, 12)}
    assert len(seen) == 6


@pytest.mark.parametrize("pool", [PoolConfig(), PoolConfig(size=8, reuse=1), PoolConfig(size=10, reuse=2)])
@pytest.mark.parametrize("stopped_after", [1, 2, 5])
def test_a_resumed_stream_goes_on_exactly(photos, pool, stopped_after):
    data = config(photos, pool=pool)
    straight = take(stream(data), 8)
    first = stream(data)
    take(first, stopped_after)
    assert_same(take(stream(data, position=first.position), 8 - stopped_after), straight[stopped_after:])


def test_workers_give_the_same_batches_as_none(photos):
    pool = PoolConfig(size=8, reuse=2)
    here, there = config(photos, pool=pool), config(photos, pool=pool, workers=2)
    assert_same(take(stream(here), 5), take(stream(there), 5))


def test_two_processes_together_see_the_batches_of_one(photos):
    data = config(photos)
    halves = [take(stream(replace(data, batch_size=2), rank=rank, processes=2), 3) for rank in range(2)]
    assert_same(joined(*halves), take(stream(data), 3))


def test_the_pool_uses_samples_as_often_as_it_says(photos):
    source = stream(config(photos, crop_px=8, shrink=(1.0, 1.0), pool=PoolConfig(size=16, reuse=4)))
    take(source, 4 + 40)
    assert source.position.fresh == 16 + 40 * 1
    assert len(set(source.position.pool)) == 16


def test_samples_degraded_on_the_device_are_those_of_the_workers(photos):
    pool = PoolConfig(size=8, reuse=2)
    there = config(photos, pool=pool, degrade_on=DegradeOn.device, sharpen_target=True)
    here = config(photos, pool=pool, sharpen_target=True)
    assert_same(take(stream(there), 5), take(stream(here), 5))


def test_a_batch_mixes_recipes_and_every_sample_has_choices_of_its_own(photos):
    pairs = sequence(config(photos))
    labels = [pairs.pair(index)[1] for index in range(8)]
    assert {label.split(":")[0] for label in labels} == {"light", "bicubic"}
    light = [label for label in labels if label.startswith("light")]
    assert len(set(light)) == len(light)


def test_processes_never_share_a_sample(photos):
    halves_ = [stream(config(photos, pool=PoolConfig(size=8)), rank=rank, processes=2) for rank in range(2)]
    for half in halves_:
        take(half, 4)
    first, second = (set(half.position.pool) for half in halves_)
    assert len(first) == len(second) == 8
    assert not first & second


@pytest.mark.parametrize("crop", list(Crop))
def test_crop_rules(crop, tmp_path):
    """A picture whose red is its row and whose green is its column shows what was cut out."""
    rows, columns = np.mgrid[0:100, 0:140].astype(np.uint8)
    size = (slice(0, 64), slice(0, 64)) if crop is Crop.none else (slice(None), slice(None))
    picture = np.stack([rows, columns, 0 * rows], -1)[size]
    Image.fromarray(picture).save(tmp_path / "a.png")
    data = config(tmp_path, crop=crop, crop_px=64, shrink=(1.0, 1.0), rot90=False, hflip=False)
    hq = [sequence(data).crop(index).hq.float() for index in range(30)]
    tops, lefts = {float(image[0, 0, 0]) for image in hq}, {float(image[1, 0, 0]) for image in hq}
    seen_rows = {float(image[0, -1, 0] - image[0, 0, 0]) for image in hq}
    if crop is Crop.none:
        assert (tops, lefts, seen_rows) == ({0}, {0}, {63})
    elif crop is Crop.center:
        assert (tops, lefts, seen_rows) == ({18}, {38}, {63})
    elif crop is Crop.random:
        assert len(tops) > 10
        assert len(lefts) > 10
        assert seen_rows == {63}
    elif crop is Crop.fit_center:
        assert tops <= {0, 1}
        assert lefts <= {20, 21}
        assert all(97 <= seen <= 99 for seen in seen_rows)
    else:
        assert len(seen_rows) > 5
        assert all(100 * 0.7 - 3 <= seen <= 99 for seen in seen_rows)
        assert len(lefts) > 10


def test_a_truncated_picture_leaves_its_turn_and_is_reported_once(photos, tmp_path):
    good, bad = sorted(photos.iterdir())[:2]
    (tmp_path / "a.png").write_bytes(good.read_bytes())
    (tmp_path / "b.png").write_bytes(bad.read_bytes()[:2000])
    reported = {}
    for workers in (0, 1):
        lines: list[str] = []
        take(stream(config(tmp_path, workers=workers), report=lines.extend), 4)
        reported[workers] = lines
        assert len(lines) == 1
        assert lines[0].startswith("b.png: cannot be decoded")
    assert reported[0] == reported[1]
    pictures = sequence(config(tmp_path))
    assert {pictures.picture(index)[0] for index in range(8)} == {0}


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_truncated_pictures_is_one_clear_error(photos, tmp_path, workers):
    for path in photos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:2000])
    lines: list[str] = []
    with pytest.raises(ConfigError, match=r"^data\.root: 6 of 6 pictures .* cannot be used") as caught:
        next(stream(config(tmp_path, workers=workers), report=lines.extend))
    assert len(lines) == 6
    assert "Traceback" not in str(caught.value)
