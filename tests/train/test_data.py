from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hypir_core.errors import ConfigError
from train.config import Crop, DataConfig, PoolConfig, RecipeShare
from train.data.batch import Batch
from train.data.degrading import build_mixture
from train.data.folder import open_folder
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
    folder = open_folder(data.root, key="data.root", least_px=data.crop_px, exact=data.crop is Crop.none)
    return PairSequence(
        folder, data, build_mixture(data.degrade, scale=SCALE, sharpen_target=False), seed=seed
    )


def stream(data: DataConfig, **options) -> PairStream:
    return PairStream(sequence(data), data, device=CPU, **options)


def take(source: PairStream, count: int) -> list[Batch]:
    return [next(source) for _ in range(count)]


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.hq_01, b.hq_01)
        assert torch.equal(a.lq_01, b.lq_01)


def test_a_pair_depends_on_its_index_alone(photos):
    first, second = sequence(config(photos)), sequence(config(photos))
    second.pair(5)
    for index in (0, 17, 3):
        for a, b in zip(first.pair(index), second.pair(index), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(first.pair(0)[0], sequence(config(photos), seed=4).pair(0)[0])


def test_shapes_range_and_that_low_is_the_shrunk_high(photos):
    data = config(photos, degrade=(RecipeShare(recipe="bicubic"),))
    batch = next(stream(data))
    assert batch.hq_01.shape == (4, 3, 32, 32)
    assert batch.lq_01.shape == (4, 3, 16, 16)
    expected = torch.nn.functional.interpolate(batch.hq_01, (16, 16), mode="bicubic", antialias=True).clamp(
        0, 1
    )
    torch.testing.assert_close(batch.lq_01, expected, atol=0.5 / 255 + 1e-5, rtol=0)


def test_an_epoch_shows_every_picture_once(photos):
    pictures = sequence(config(photos))
    seen = {tuple(pictures._picture(index).flatten()[:50].tolist()) for index in range(6, 12)}
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
    joined = [
        Batch(torch.cat([a.hq_01, b.hq_01]), torch.cat([a.lq_01, b.lq_01]))
        for a, b in zip(*halves, strict=True)
    ]
    assert_same(joined, take(stream(data), 3))


def test_the_pool_uses_samples_as_often_as_it_says(photos):
    source = stream(config(photos, crop_px=8, shrink=(1.0, 1.0), pool=PoolConfig(size=16, reuse=4)))
    take(source, 4 + 40)
    assert source.position.fresh == 16 + 40 * 1
    assert len(set(source.position.pool)) == 16


def test_bad_files_are_reported_and_left_out(photos, tmp_path, caplog):
    for path in sorted(photos.iterdir())[:2]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "text.png").write_text("not a picture")
    Image.fromarray(np.zeros((10, 90, 3), np.uint8)).save(tmp_path / "small.png")
    with caplog.at_level(logging.WARNING):
        folder = open_folder(tmp_path, key="data.root", least_px=32)
    assert [path.name for path in folder.files] == ["0.png", "1.png"]
    assert "text.png: is not a picture" in caplog.text
    assert "small.png: is 90×10 px, smaller than 32 px" in caplog.text


def test_a_truncated_picture_is_reported_once_and_passed_over(photos, tmp_path, caplog):
    good, bad = sorted(photos.iterdir())[:2]
    (tmp_path / "a.png").write_bytes(good.read_bytes())
    (tmp_path / "b.png").write_bytes(bad.read_bytes()[:2000])
    pictures = sequence(config(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert all(pictures._picture(index).shape == (3, 64, 80) for index in range(4))
    assert caplog.text.count("b.png: cannot be decoded") == 1


@pytest.mark.parametrize("content", ["missing", "empty", "wrong size"])
def test_a_folder_without_usable_pictures_names_the_key(photos, tmp_path, content):
    root = {"missing": tmp_path / "nowhere", "empty": tmp_path, "wrong size": photos}[content]
    with pytest.raises(ConfigError, match=r"^data\.root: "):
        open_folder(root, key="data.root", least_px=32, exact=True)
