"""The depth of a file reaches the batch: 16 bits and floats beside 8, in one folder and in one pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.degrade import degrade
from tests.train.pair_streams import CPU, SCALE, assert_same, data, levels, sequence, stream, take
from train.config import DegradeOn, PoolConfig, RecipeShare
from train.data.batch import Samples, joined
from train.data.degrading import recipe_for, shrunk
from train.data.levels import WHITE, alike, deepened, from_01, to_01


def write_deep(path: Path, pixels: np.ndarray) -> None:
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        tifffile.imwrite(path, pixels, photometric="rgb")


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("degrade_on", list(DegradeOn))
def test_16_bit_files_reach_the_batch_with_their_depth(tmp_path, ending, degrade_on):
    for index in range(3):
        write_deep(tmp_path / f"{index}{ending}", levels(index))
    batch = next(stream(data(tmp_path, degrade_on=degrade_on)))
    values = batch.hq.double() * 65535
    assert (values - values.round()).abs().max() < 0.01
    assert (values.round() % 257 != 0).any()  # not the 256 levels of 8 bits
    known = {tuple(levels(index)[y, x]) for index in range(3) for y in range(40) for x in range(48)}
    assert tuple(values.round()[0, :, 0, 0].int().tolist()) in known
    lq = batch.lq.double() * 65535
    assert (lq.round() % 257 != 0).any()  # the recipe that only shrinks keeps it too


def test_recipes_that_imitate_files_give_8_bits_and_leave_the_target_deep(tmp_path):
    write_deep(tmp_path / "a.tif", levels(0))
    item, _ = sequence(data(tmp_path, degrade=(RecipeShare(recipe="light"),))).pair(0)
    assert item.lq is not None
    assert (item.hq.dtype, item.lq.dtype) == (torch.uint16, torch.uint8)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_deeper_container_holds_the_same_values(draw):
    """A batch must not depend on which other pictures made its container deep."""
    shallow = draw.draw(st.sampled_from(list(WHITE)[:2]))
    deep = draw.draw(
        st.sampled_from([d for d in WHITE if list(WHITE).index(d) >= list(WHITE).index(shallow)])
    )
    white = int(WHITE[shallow])
    values = draw.draw(st.lists(st.integers(0, white), min_size=1, max_size=20))
    pixels = torch.tensor(values).to(shallow)
    assert torch.equal(to_01(deepened(pixels, deep)), to_01(pixels))
    assert torch.equal(from_01(to_01(pixels), shallow).int(), pixels.int())


def test_all_levels_survive_the_way_to_01_and_back():
    for depth in (torch.uint8, torch.uint16):
        every = torch.arange(int(WHITE[depth]) + 1, dtype=torch.int32)
        assert torch.equal(from_01(to_01(every.to(depth)), depth).int(), every)
    eight = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    for deep in (torch.uint16, torch.float32):
        assert torch.equal(to_01(deepened(eight, deep)), to_01(eight))


@pytest.mark.parametrize("pool", [PoolConfig(), PoolConfig(size=8, reuse=2)])
def test_depths_mixed_in_a_folder_resume_exactly(tmp_path, pool):
    write_deep(tmp_path / "a.png", levels(0))
    Image.fromarray((levels(1) // 257).astype(np.uint8)).save(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", (levels(2) / 65535).astype(np.float32))
    config = data(tmp_path, pool=pool)
    straight = take(stream(config), 10)
    first = stream(replace(config, workers=1))
    assert_same(take(first, 4), straight[:4])
    assert_same(take(stream(config, position=first.position), 6), straight[4:])


def test_the_pool_takes_deeper_samples_in():
    def samples(value: float, depth: torch.dtype) -> Samples:
        half = from_01(torch.full((2, 1, 4, 4), value), depth)
        return Samples(torch.arange(2), half, half.clone(), ("", ""))

    for one in WHITE:
        for other in WHITE:
            pool = joined([samples(0.2, one), samples(0.2, one)])
            mixed = pool.replaced(torch.tensor([3, 0]), samples(0.6, other)).take(torch.tensor([0, 1, 3]))
            expected = [from_01(torch.tensor(v), d) for v, d in ((0.6, other), (0.2, one), (0.6, other))]
            assert mixed.to_batch(CPU).hq[:, 0, 0, 0].tolist() == [float(to_01(v)) for v in expected]
    assert {each.dtype for each in alike([samples(0.0, depth).hq for depth in WHITE])} == {torch.float32}


def test_the_recipe_that_only_shrinks_gives_what_degrade_gives():
    image_01 = to_01(torch.from_numpy((levels(3) // 257).astype(np.uint8)).permute(2, 0, 1))[None]
    generator = torch.Generator().manual_seed(0)
    theirs = degrade(image_01, recipe_for("bicubic"), generator=generator, scale=SCALE).lq_01
    assert torch.equal(to_01(from_01(shrunk(image_01, SCALE), torch.uint8)), theirs)
