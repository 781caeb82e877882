"""Faults of training data, held as kinds: depth, channels, places, margins, names, lists, counts, early refusals."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
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
from hypir_core.errors import ConfigError, ImageFileError
from train.__main__ import main
from train.config import Crop, DataConfig, DegradeOn, PoolConfig, RecipeShare, RootShare, SourceConfig
from train.data.batch import Batch, Samples, joined
from train.data.channels import read_channels
from train.data.degrading import build_mixture, recipe_for, shrunk
from train.data.levels import WHITE, alike, deepened, from_01, to_01
from train.data.opening import open_source
from train.data.pairs import PairSequence
from train.data.source import Channels
from train.data.stream import PairStream
from train.data.turns import BLOCK, shares_of, turn

CPU = torch.device("cpu")
SCALE = 2
BICUBIC = (RecipeShare(recipe="bicubic"),)


def levels(seed: int, *, height: int = 40, width: int = 48, channels: int = 3) -> np.ndarray:
    """16-bit values that 8 bits cannot hold."""
    return np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)


def data(root: Path | None = None, **changes) -> DataConfig:
    plain = DataConfig(
        root=Path(), batch_size=4, crop_px=16, hflip=False, degrade=BICUBIC, workers=0, crop=Crop.random
    )
    return replace(plain, root=root, **changes)


def sequence(config: DataConfig, *, channels: Channels | None = None, scale: int = SCALE) -> PairSequence:
    mixture = build_mixture(config.degrade, scale=scale, sharpen_target=config.sharpen_target)
    source = open_source(config, scale=scale, channels=channels or Channels())
    return PairSequence(source, config, mixture, seed=3)


def stream(config: DataConfig, *, channels: Channels | None = None, **options) -> PairStream:
    options = {"report": lambda lines: None} | options
    return PairStream(sequence(config, channels=channels), config, device=CPU, **options)


def take(source: PairStream, count: int) -> list[Batch]:
    return [next(source) for _ in range(count)]


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.hq, b.hq)
        assert torch.equal(a.lq, b.lq)


# -- depth ------------------------------------------------------------------------------------------------------------


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


# -- channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("ending", [".npy", ".tif"])
def test_batches_have_the_channels_of_the_generator(tmp_path, channels, ending):
    pixels = levels(0, channels=channels)
    for index in range(2):
        if ending == ".tif":
            # planar, as raster files are
            photometric = "rgb" if channels == 3 else "minisblack"
            tifffile.imwrite(
                tmp_path / f"{index}.tif",
                pixels.transpose(2, 0, 1) if channels > 1 else pixels[..., 0],
                photometric=photometric,
                planarconfig="separate" if channels > 1 else None,
            )
        else:
            np.save(tmp_path / f"{index}.npy", (pixels / 65535).astype(np.float32))
    config = data(tmp_path, crop=Crop.center)
    batch = next(stream(config, channels=Channels(hq=channels, lq=channels)))
    assert batch.hq.shape == (4, channels, 16, 16)
    assert batch.lq.shape == (4, channels, 8, 8)
    middle = torch.from_numpy(pixels[12:28, 16:32].astype(np.float32) / 65535).permute(2, 0, 1)
    torch.testing.assert_close(batch.hq[0], middle, atol=1e-6, rtol=0)


def test_another_number_of_bands_is_left_out_with_both_sides_named(tmp_path):
    np.save(tmp_path / "four.npy", np.zeros((40, 48, 4), np.float32))
    np.save(tmp_path / "five.npy", np.zeros((40, 48, 5), np.float32))
    Image.new("RGB", (48, 40)).save(tmp_path / "colour.png")
    source = open_source(data(tmp_path), scale=SCALE, channels=Channels(hq=4, lq=4))
    assert [source.name(n) for n in range(len(source))] == ["four.npy"]
    assert set(source.skipped) == {
        "colour.png: holds no bands; expected a TIFF or npy file",
        "five.npy: has 5 bands, the generator asks for 4",
    }
    with pytest.raises(ImageFileError, match=r"five\.npy: has 5 bands, the generator asks for 4"):
        read_channels(tmp_path / "five.npy", 4)


def test_colour_becomes_grey_by_luma_and_grey_becomes_colour(tmp_path):
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / "colour.png")
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    assert int(read_channels(tmp_path / "colour.png", 1)[0, 0, 0]) == round(
        0.299 * 200 + 0.587 * 100 + 0.114 * 50
    )
    assert read_channels(tmp_path / "grey.png", 1).unique().tolist() == [77]
    assert read_channels(tmp_path / "grey.png", 3).shape == (3, 8, 8)


BANDS = [
    "generator.options={in_channels: 4, out_channels: 4, features: 4, blocks: 1, scale: 2}", "data.crop_px=32",
    "data.degrade=[{recipe: bicubic}]", "max_steps=2", "tracking.images_every=1",
]  # fmt: skip


def band_run(tmp_path: Path, *more: str) -> list[str]:
    root = tmp_path / "bands"
    root.mkdir(exist_ok=True)
    for index in range(3):
        pixels = levels(index, height=70, width=72, channels=4)
        np.save(root / f"{index}.npy", (pixels / 65535).astype(np.float32))
    return ["tiny_cpu_pixel", f"data.root={root}", f"output_dir={tmp_path / 'run'}", *BANDS, *more]


@pytest.mark.tiny
def test_four_bands_train_with_discriminators_lpips_and_validation(tmp_path):
    lpips = "{net: alex, pretrained: false, channels: [2, 1, 0]}"
    command = band_run(
        tmp_path,
        "data.crop_px=64",
        f"losses.lpips={{weight: 0.1, options: {lpips}}}",
        "discriminators={p: {name: patch, options: {features: 4, layers: 2}}, "
        "u: {name: unet, options: {features: 4, depth: 1}}}",
        f"validation={{root: {tmp_path / 'bands'}, count: 1, every: 2, recipes: [bicubic], lpips: {lpips}}}",
    )
    assert main(command) == 0
    assert (tmp_path / "run" / "generator.safetensors").is_file()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("losses.lpips={options: {net: alex, pretrained: false}}", "losses.lpips.options.channels: what sees three"),
        ("losses.lpips={options: {net: alex, channels: [0, 1, 4]}}", "expected three numbers from 0 to 3, got [0, 1"),
        ("discriminators={c: {name: clip_convnext}}", "discriminators.c.options.channels: what sees three colours"),
        ("discriminators={p: {name: patch, options: {in_channels: 3}}}", "is 3, and the generator makes 4 channels"),
        ("data.degrade=[{recipe: realesrgan}]", "the recipe realesrgan is made for grey and colour"),
        ("generator.options.out_channels=3", "4 channels cannot become 3"),
        ("generator={name: rrdb, options: {in_channels: 4, out_channels: 3}}", "takes 4 channels and makes 3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_channels_is_refused_at_the_start(tmp_path, capsys, setting, message):
    assert main(band_run(tmp_path, setting)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


# -- several places ---------------------------------------------------------------------------------------------------


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
        together = [
            Batch(torch.cat([a.hq, b.hq]), torch.cat([a.lq, b.lq])) for a, b in zip(*halves, strict=True)
        ]
        assert_same(together, straight[:3])


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


# -- the margin -------------------------------------------------------------------------------------------------------


def blurred(tmp_path: Path) -> Path:
    recipe = tmp_path / "blur.yaml"
    recipe.write_text(
        "stage1: {blur: {prob: 1, sizes: [13], sigma: [3, 3], mix: {iso: 1, aniso: 0, generalized_iso: 0, "
        "generalized_aniso: 0, plateau_iso: 0, plateau_aniso: 0}, sinc_prob: 0}}\nfinal_modes: [bicubic_antialias]\n",
        encoding="utf-8",
    )
    return recipe


@pytest.mark.parametrize("degrade_on", list(DegradeOn))
def test_with_a_margin_the_crop_is_degraded_as_the_whole_picture_is(tmp_path, degrade_on):
    root = tmp_path / "pictures"
    root.mkdir()
    pixels = (levels(0, height=64, width=64) // 257).astype(np.uint8)
    Image.fromarray(pixels).save(root / "a.png")
    share = (RecipeShare(recipe=str(blurred(tmp_path))),)
    whole_01 = to_01(torch.from_numpy(pixels).permute(2, 0, 1))[None]
    recipe = recipe_for(share[0].recipe)
    whole = degrade(whole_01, recipe, generator=torch.Generator().manual_seed(0), scale=SCALE).lq_01
    expected = whole[0, :, 12:20, 12:20]
    off = {}
    for margin_px in (0, 16):
        config = data(
            root, crop=Crop.center, degrade=share, margin_px=margin_px, degrade_on=degrade_on, batch_size=1
        )
        batch = next(stream(config))
        assert batch.hq.shape == (1, 3, 16, 16)
        assert torch.equal(batch.hq[0], whole_01[0, :, 24:40, 24:40])
        off[margin_px] = float((batch.lq[0] - expected).abs().max())
    assert off[16] < 0.6 / 255
    assert off[0] > 5 / 255


def test_a_margin_needs_larger_pictures_and_divides_by_the_scale(tmp_path):
    Image.new("RGB", (30, 40)).save(tmp_path / "small.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "large.png")
    source = open_source(data(tmp_path, margin_px=8), scale=SCALE)
    expected = "small.png: is 30×40 px, smaller than 32 px (data.crop_px and 2 × data.margin_px)"
    assert source.skipped == (expected,)
    with pytest.raises(ConfigError, match=r"data\.margin_px: 7 must divide by the generator's scale 2"):
        open_source(data(tmp_path, margin_px=7), scale=SCALE)


# -- names, endings, lists --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (".jfif", "JPEG"),
        (".jpe", "JPEG"),
        (".dib", "BMP"),
        (".JPG", "JPEG"),
        (".tif", "TIFF"),
        (".webp", "WEBP"),
    ],
)
def test_every_ending_of_a_format_is_a_picture(tmp_path, ending, kind):
    Image.new("RGB", (32, 32), (10, 20, 30)).save(tmp_path / f"a{ending}", kind)
    assert len(open_source(data(tmp_path), scale=SCALE)) == 1


def test_an_array_beside_its_picture_is_no_picture(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8), np.float32))
    source = open_source(data(tmp_path), scale=SCALE)
    assert (len(source), source.skipped) == (1, ())


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="file names there are always Unicode")
@pytest.mark.tiny
def test_names_that_are_not_utf_8_are_trained_on_and_written_down(tmp_path, photos, capsys):
    root = os.fsencode(tmp_path / "pictures")
    Path(os.fsdecode(root)).mkdir()
    for number, path in enumerate(sorted(photos.iterdir())):
        Path(os.fsdecode(root + b"/f\xea%d.png" % number)).write_bytes(path.read_bytes())
    Path(os.fsdecode(root + b"/t\xea.png")).write_bytes(b"no picture")
    torn = sorted(photos.iterdir())[0].read_bytes()[:2000]
    Path(os.fsdecode(root + b"/torn\xea.png")).write_bytes(torn)
    command = ["tiny_cpu_pixel", f"data.root={os.fsdecode(root)}", f"output_dir={tmp_path / 'run'}"]
    assert main([*command, "max_steps=2"]) == 0
    listed = (tmp_path / "run" / "bad_files.txt").read_text(encoding="utf-8")
    assert listed.startswith(r"t\udcea.png: is not a picture")
    assert main([*command, "max_steps=3"]) == 0  # the same hash
    assert (tmp_path / "run" / "bad_files.txt").read_text(encoding="utf-8").count("is not a picture") == 1
    assert main(["inspect-data", *command, "--decode-all"]) == 0
    assert "6 to train on" in capsys.readouterr().out
    names = tmp_path / "names.list"
    names.write_bytes(b"\n".join(root + b"/f\xea%d.png" % number for number in range(6)))
    assert len(open_source(data(names, crop_px=16), scale=SCALE)) == 6


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        ("a.list", "0.png\n1.png\n", SourceConfig()),
        ("a.json", json.dumps(["0.png", "1.png"]), SourceConfig()),
        (
            "a.json",
            json.dumps([{"p": "0.png", "t": "x"}, {"p": "1.png"}]),
            SourceConfig(path_column="p", prompt_column="t"),
        ),
        ("a.jsonl", '\ufeff{"path": "0.png"}\n{"path": "1.png"}', SourceConfig()),
        ("a.txt", "\ufeff0.png\r\n1.png", SourceConfig()),
    ],
)  # fmt: skip
def test_lists_in_the_forms_people_have(tmp_path, name, content, source):
    for index in range(2):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{index}.png")
    (tmp_path / name).write_text(content, encoding="utf-8")
    found = open_source(data(tmp_path / name, source=source), scale=SCALE)
    assert [found.name(place) for place in range(2)] == ["0.png", "1.png"]
    assert found.item(0).prompt == ("x" if source.prompt_column else "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"path": "a"}', "expected an array"),
        ('["a", 3]', "entry 1: expected an object"),
        ("[1", "not a readable"),
    ],
)
def test_a_json_that_is_no_list_says_what_it_is(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        open_source(data(tmp_path / "a.json"), scale=SCALE)


# -- counts and early refusals ----------------------------------------------------------------------------------------


@given(good=st.integers(1, 4), torn=st.integers(0, 3), text=st.integers(0, 3), small=st.integers(0, 2))
@settings(max_examples=12, deadline=None)
def test_inspect_data_counts_every_file_once(tmp_path_factory, good, torn, text, small):
    root = tmp_path_factory.mktemp("counted")
    whole = root / "good0.png"
    for index in range(good):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
            root / f"good{index}.png"
        )
    for index in range(torn):
        (root / f"torn{index}.png").write_bytes(whole.read_bytes()[:1000])
    for index in range(text):
        (root / f"text{index}.png").write_text("no picture")
    for index in range(small):
        Image.new("RGB", (8, 8)).save(root / f"small{index}.png")
    from train.config import load_config
    from train.data.inspection import inspect_data

    config = load_config("tiny_cpu_pixel", [f"data.root={root}", f"output_dir={root / 'out'}", "max_steps=1"])
    said = "\n".join(inspect_data(config, pairs=1, decode_all=True))
    assert f"pictures    {good} to train on" in said
    assert f"left out    {torn + text + small}\n" in said
    assert f"0 of {good} decoded pictures" in said


def test_a_damaged_shard_is_no_picture_in_the_count(tmp_path, caplog):
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    import tarfile

    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "y.png")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for name in ("x.png", "y.png"):
            tar.add(tmp_path / name, name)
    with caplog.at_level("WARNING"):
        source = open_source(data(tmp_path / "*.tar"), scale=SCALE)
    assert (len(source), source.left_out, len(source.skipped)) == (1, 1, 2)
    assert "1 of 2 pictures are left out" in caplog.text


def test_every_wrong_place_and_recipe_is_told_at_once_before_anything_is_built(
    tmp_path, photos, capsys, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("the generator was built first")

    monkeypatch.setattr("train.run.building.build_generator", never)
    command = [
        "tiny_cpu_pixel", f"output_dir={tmp_path / 'run'}", "max_steps=1", "data.degrade=[{recipe: realesrgn}]",
        f"data.roots=[{{root: {photos}}}, {{root: {tmp_path}/gone.csv}}, "
        f"{{root: {photos}, source: {{lq_root: {tmp_path}/nowhere}}}}]",
        f"validation={{root: {tmp_path}/typo, recipes: [realesrgan, blurr.yaml]}}",
    ]  # fmt: skip
    assert main(command) == 2
    said = capsys.readouterr().err
    for line in (
        "data.roots.1.root: ",
        "data.roots.2.source.lq_root: ",
        "validation.root: ",
        "data.degrade: unknown degrade preset 'realesrgn' (did you mean 'realesrgan'",
        "validation.recipes: blurr.yaml: cannot be read",
    ):
        assert line in said
    assert not (tmp_path / "run").exists()
