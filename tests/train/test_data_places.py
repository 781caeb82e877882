"""Training on several places at once: shares, epochs, resuming, pairs beside degraded pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.errors import ConfigError
from tests.train.pair_streams import SCALE, assert_same, data, joined, sequence, stream, take
from train.__main__ import main
from train.config import Crop, DataConfig, DegradeOn, PoolConfig, RootShare, SourceConfig
from train.data.opening import open_source
from train.data.turns import BLOCK, shares_of, turn


def make_places(tmp_path: Path, *counts: int) -> list[Path]:
    """Folders whose pictures tell by their red where they are from, by their green which they are."""
    roots = []
    for place, count in enumerate(counts):
        root = tmp_path / f"place{place}"
        root.mkdir()
        for index in range(count):
            Image.new("RGB", (32, 32), (place, index, 0)).save(root / f"{index}.png")
        roots.append(root)
    return roots


def test_places_have_their_shares_and_every_epoch_of_each_shows_each_picture_once(tmp_path):
    one, two = make_places(tmp_path, 3, 7)
    config = data(roots=(RootShare(root=one, weight=2), RootShare(root=two)), crop_px=16)
    source = open_source(config, scale=SCALE)
    turns = [turn(source, index, seed=3) for index in range(2 * BLOCK)]
    numbers = [now.first + int(now.order[now.place]) for now in turns]
    from_one = [number for number in numbers if number < 3]
    assert [sum(n < 3 for n in block) for block in (numbers[:BLOCK], numbers[BLOCK:])] == [667, 667]
    for drawn, count in ((from_one, 3), ([n for n in numbers if n >= 3], 7)):
        for start in range(0, len(drawn) - count, count):
            assert len(set(drawn[start : start + count])) == count
    assert numbers[:50] != numbers[BLOCK : BLOCK + 50]
    assert source.name(4) == f"{two}: 1.png"


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12))
@settings(deadline=None)
def test_shares_add_up_and_follow_the_weights(weights):
    shares = shares_of(weights)
    assert sum(shares) == BLOCK
    assert min(shares) >= 1
    for share, weight in zip(shares, weights, strict=True):
        exact = weight / sum(weights) * BLOCK
        assert abs(share - exact) < 1 or share == 1 or min(shares) == 1


@pytest.mark.parametrize("pool", [PoolConfig(), PoolConfig(size=8, reuse=2)])
def test_mixed_places_resume_exactly_with_any_workers_and_processes(tmp_path, pool):
    one, two = make_places(tmp_path, 3, 7)
    config = data(roots=(RootShare(root=one, weight=0.5), RootShare(root=two, weight=1.5)), pool=pool)
    straight = take(stream(config), 10)
    first = stream(replace(config, workers=2))
    assert_same(take(first, 4), straight[:4])
    assert_same(take(stream(config, position=first.position), 6), straight[4:])
    if not pool.size:
        halves = [take(stream(replace(config, batch_size=2), rank=rank, processes=2), 3) for rank in range(2)]
        assert_same(joined(*halves), straight[:3])


def test_the_hash_of_a_mixture_follows_weights_and_pictures_not_paths(tmp_path):
    one, two = make_places(tmp_path, 2, 3)

    def found(*shares: RootShare) -> str:
        return open_source(data(roots=shares), scale=SCALE).hash

    before = found(RootShare(root=one), RootShare(root=two))
    assert found(RootShare(root=one), RootShare(root=two, weight=2)) != before
    assert found(RootShare(root=two), RootShare(root=one)) != before
    two.rename(tmp_path / "moved")
    assert found(RootShare(root=one), RootShare(root=tmp_path / "moved")) == before
    (one / "1.png").unlink()
    assert found(RootShare(root=one), RootShare(root=tmp_path / "moved")) != before


def test_pairs_and_degraded_pictures_are_mixed(tmp_path):
    pictures, hq = make_places(tmp_path, 2, 2)
    lq = tmp_path / "lq"
    lq.mkdir()
    for path in hq.iterdir():
        Image.new("RGB", (16, 16), (9, 9, 9)).save(lq / path.name)
    shares = (RootShare(root=pictures), RootShare(root=hq, source=SourceConfig(lq_root=lq)))
    config = data(roots=shares, shrink=(0.5, 1.0), margin_px=4, sharpen_target=True, rot90=True, crop_px=16)
    pairs = sequence(config)
    labels = Counter()
    for index in range(40):
        item, label = pairs.pair(index)
        assert item.hq.shape == (3, 16, 16)
        assert item.lq is not None
        assert item.lq.shape == (3, 8, 8)
        labels[label.split(":")[0]] += 1
        is_pair = int(item.hq[0, 0, 0]) == 1
        assert (label == "given") == is_pair == bool((item.lq == 9).all())
    assert min(labels["given"], labels["bicubic"]) > 8
    assert_same(take(stream(replace(config, workers=1)), 3), take(stream(config), 3))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({}, r"set data\.root"),
        ({"root": Path("x"), "roots": (RootShare(root=Path("y")),)}, "root and roots are both set"),
        ({"roots": (RootShare(root=Path("y"), weight=0),)}, r"roots\.0\.weight must be above 0"),
        ({"roots": (RootShare(root=Path("y")),), "source": SourceConfig(check=False)}, "source belongs to root"),
        ({"roots": (RootShare(root=Path("y"), source=SourceConfig(lq_column="z")),)}, r"roots\.0\.source\.lq_column"),
        (
            {
                "roots": (RootShare(root=Path("y")), RootShare(root=Path("x"), source=SourceConfig(lq_root=Path("z")))),
                "degrade_on": DegradeOn.device,
            },
            "degrade_on must be worker",
        ),
        ({"root": Path("x"), "margin_px": 4, "crop": Crop.none}, "margin_px must be 0 with crop=none"),
        ({"root": Path("x"), "margin_px": 4, "source": SourceConfig(lq_root=Path("z"))}, "margin_px must be 0 for"),
        ({"root": Path("x"), "margin_px": -1}, "margin_px must be 0 or more"),
    ],
)  # fmt: skip
def test_places_that_contradict_each_other_are_refused(settings_, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**settings_)


@pytest.mark.tiny
def test_a_run_on_several_places_goes_on_exactly(tmp_path, photos):
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(photos.iterdir())[:2]:
        (other / path.name).write_bytes(path.read_bytes())
    roots = f"data.roots=[{{root: {photos}, weight: 2}}, {{root: {other}}}]"

    def run(out: Path, *more: str) -> bytes:
        assert main(["tiny_cpu_pixel", roots, f"output_dir={out}", "checkpoint.every=2", *more]) == 0
        return (out / "generator.safetensors").read_bytes()[-4000:]

    straight = run(tmp_path / "straight", "max_steps=4", "export.name=x")
    run(tmp_path / "stopped", "max_steps=2", "export.name=x")
    assert run(tmp_path / "stopped", "max_steps=4", "export.name=x") == straight
