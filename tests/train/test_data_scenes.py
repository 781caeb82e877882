"""Training on rasters, volumes, arrays and data sets of one's own: modalities, pairs, tiles, weights, curriculum."""

from __future__ import annotations

import gc
import math
import pickle
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hypir_core.errors import ConfigError, ImageFileError, UnknownNameError
from hypir_core.weights.spec import GeneratorSpec, spec_from_metadata
from hypir_core.weights.tensors import read_tensors
from train.config import Crop, DataConfig, SourceConfig, SourceKind, load_config
from train.config.presets import MODALITIES
from train.data.custom import DATASETS, register_dataset
from train.data.degrading import build_mixture
from train.data.opening import open_source
from train.data.pairs import PairSequence
from train.data.source import Channels
from train.data.statistics import NAME
from train.data.turns import turn
from train.data.viewing import for_screen
from train.options import check_options
from train.run.building import build
from train.run.phases import begins_at
from train.run.recipe import train

PRESET = """
seed: 3
precision: fp32
cpu: true
generator:
  name: residual
  options: {block: res, channels: 4, blocks: 1, head_kernel: 3, scale: 2}
  optimiser: {lr: 1.0e-3}
  ema: null
losses: {l1: {weight: 1.0, domain: net}}
data: {batch_size: 2, workers: 0, crop: random}
checkpoint: {every: 100}
tracking: {every: 2, tensorboard: false, csv: true}
"""


def preset(tmp_path: Path, *words: str):
    path = tmp_path / "preset.yaml"
    path.write_text(PRESET)
    return load_config(str(path), [f"output_dir={tmp_path / 'run'}", "max_steps=2", *words])


def smooth(rng, *shape: int) -> np.ndarray:
    """Values of 0 to 1 with structure along every spatial axis, [c *cells]."""
    grids = np.meshgrid(*[np.arange(n) / 3 for n in shape[1:]], indexing="ij")
    phases = rng.uniform(0.3, 2, (shape[0], len(grids)))
    waves = [math.prod([1.0]) + sum(np.sin(f * g) for f, g in zip(fs, grids, strict=True)) for fs in phases]
    stacked = np.stack(waves)
    return (stacked - stacked.min()) / (stacked.max() - stacked.min())


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """A raster of 4 named bands, reflectances of 0 to 10000, with a corner without data."""
    rasterio = pytest.importorskip("rasterio", reason="rasters need the extra scenes")
    folder = tmp_path_factory.mktemp("scene")
    values = (smooth(np.random.default_rng(0), 4, 64, 48) * 8000 + 500).astype(np.uint16)
    values[:, :20, :16] = 0
    profile = {"driver": "GTiff", "count": 4, "height": 64, "width": 48, "dtype": "uint16", "nodata": 0}
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)
    with rasterio.open(folder / "s2.tif", "w", **profile, crs="EPSG:32633", transform=transform) as file:
        file.write(values)
        for number, name in enumerate(("B02", "B03", "B04", "B08"), 1):
            file.set_band_description(number, name)
    return folder


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    """Two phantoms [z y x], as arrays."""
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(1)
    for name in "ab":
        np.save(folder / f"{name}.npy", (smooth(rng, 1, 12, 24, 20)[0] * 900 - 200).astype(np.float32))
    return folder


def test_a_raster_by_its_modality(scene, tmp_path):
    config = preset(
        tmp_path, f"data.root={scene}", "data.kind=sentinel2", "data.crop_px=16", "generator.options.in_channels=3",
        "data.source.bands=[B04, B03, B02]", "data.source.stride_px=8", "tracking.images_every=2",
        f"validation={{root: {scene}, source: {{kind: scenes, bands: [B04, B03, B02]}}, every: 2, most_px: 48, "
        "metrics: [sam, ergas, l1, consistency], best: sam, recipes: [bicubic]}",
    )  # fmt: skip
    assert config.ranges.lr.white == 10_000
    assert config.data.rot90
    run = build(config, write=False)
    batch = next(run.stream)
    assert batch.hq.shape == (2, 3, 16, 16)
    assert float(batch.hq.max()) > 1000  # in the values of the file
    values = run.task.attempt(run.player.module, batch, 0).compared
    assert values is not None
    assert float(values.target.max()) <= 1
    folder = train(config)
    spec = spec_from_metadata(read_tensors(folder / "generator.safetensors").metadata, folder)
    assert isinstance(spec, GeneratorSpec)
    assert (spec.in_channels, spec.value_range) == (3, config.ranges.lr)
    assert spec.bands == ("B04", "B03", "B02")
    measured = (folder / "scalars.csv").read_text()
    for name in ("psnr_y", "ssim", "sam", "ergas", "l1", "consistency"):
        assert f"val/bicubic/{name}," in measured
    assert (folder / "validation" / "bicubic-0" / "target.png").is_file()


def test_a_restorer_says_its_bands_where_all_scenes_name_theirs_alike(scene, tmp_path):
    words = [
        f"data.root={scene}",
        "data.source.kind=scenes",
        "data.crop_px=16",
        "data.degrade=[{recipe: area}]",
    ]
    words += ["generator.options.in_channels=4", "ranges.lr={kind: white, white: 10000}"]

    def named(*more):
        run = build(preset(tmp_path, *words, *more), write=False)
        return run.generator.spec(run.config.export, "test").bands

    assert named() == ("B02", "B03", "B04", "B08")
    assert named("export.bands=[blue, green, red, nir]") == ("blue", "green", "red", "nir")
    with pytest.raises(ConfigError, match=r"export\.bands: expected a name for each of 4 channels, got blue"):
        named("export.bands=[blue]")
    np.save(tmp_path / "nameless.npy", np.random.default_rng(0).random((4, 32, 32)).astype(np.float32))
    words[0] = f"data.root={tmp_path / 'nameless.npy'}"
    assert named() == ()


def test_a_scene_is_closed_with_its_tiles(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.ome.tif", np.full((4, 32, 32), 7, np.uint16), photometric="minisblack")
    config = DataConfig(
        root=tmp_path, crop=Crop.none, crop_px=16, source=SourceConfig(kind=SourceKind.scenes)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_source(config, scale=2, channels=Channels(hq=4, lq=4))
        assert float(source.item(0).hq.max()) == 7
        (opened,) = source._open.values()  # type: ignore[attr-defined]
        closed = []
        close, opened._close = opened._close, lambda: closed.append(True) or close()
        del source, opened
        gc.collect()
    assert closed == [True]


def test_tiles_are_filled_marked_and_read_in_each_process(scene):
    config = DataConfig(root=scene, crop=Crop.none, crop_px=16, source=SourceConfig(kind=SourceKind.scenes))
    source = open_source(config, scale=2, channels=Channels(hq=4, lq=4))
    assert len(source) == 4 * 3
    item = source.item(3)  # rows 16 to 31, columns 0 to 15: its upper quarter has no data
    assert item.valid is not None
    assert item.valid.shape == (1, 16, 16)
    assert int((~item.valid).sum()) == 4 * 16
    assert bool(torch.isfinite(item.hq).all())
    assert float(item.hq.min()) > 400  # filled from the neighbours, not with the nodata value
    with pytest.raises(ImageFileError, match=r"s2.tif at 0, 0: has data in 0 % of its cells"):
        source.item(0)
    assert source._open  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(source))
    assert not again._open
    assert torch.equal(again.item(5).hq, source.item(5).hq)


def test_what_does_not_fit_is_named_with_the_key_that_mends_it(scene, tmp_path, volumes):
    wrong = preset(tmp_path, f"data.root={scene}", "data.kind=multispectral", "data.crop_px=16")
    with pytest.raises(
        ConfigError, match=r"has 4 bands \(B02, B03, B04, B08\).*takes 3; .*data\.source\.bands"
    ):
        build(wrong)
    with pytest.raises(UnknownNameError, match=r"'sentinel3' \(did you mean 'sentinel2'"):
        preset(tmp_path, f"data.root={scene}", "data.kind=sentinel3")
    small = preset(
        tmp_path, f"data.root={volumes}", "data.kind=medical_mri", "data.crop_px=[16, 16, 16]",
        "generator.options.block=res",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"has \[12, 24, 20\] cells, fewer than a tile of \[16, 16, 16\]"):
        build(small)
    odd = preset(tmp_path, f"data.root={volumes}", "data.kind=medical_mri", "data.crop_px=[5, 16, 16]")
    with pytest.raises(ConfigError, match=r"data\.crop_px: \(5, 16, 16\) must divide by .*scale 2"):
        build(odd)
    per_scene = preset(
        tmp_path, f"data.root={scene}", "data.kind=multispectral", "data.crop_px=16", "ranges.lr={fit: scene}",
        "generator.options.in_channels=4",
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"ranges\.lr: a batch has no scene to fit zscore on; set ranges\.lr\.fit"
    ):
        build(per_scene)


def test_a_volume_by_its_modality_overfits(volumes, tmp_path):
    config = preset(
        tmp_path, f"data.root={volumes}", "data.kind=medical_mri", "data.crop_px=[8, 16, 16]", "max_steps=60",
        "generator.optimiser.lr=5.0e-3", "data.hflip=false", "data.flip_slices=false", "tracking.images_every=30",
        f"validation={{root: {volumes}, source: {{kind: scenes}}, every: 60, count: 1, recipes: [area], metrics: [l1], "
        "best: l1}",
    )  # fmt: skip
    folder = train(config)
    rows = [line.split(",") for line in (folder / "scalars.csv").read_text().splitlines()[1:]]
    losses = [float(value) for _, name, value in rows if name == "loss/total"]
    assert losses[-1] < 0.6 * losses[0]
    spec = spec_from_metadata(read_tensors(folder / "generator.safetensors").metadata, folder)
    assert isinstance(spec, GeneratorSpec)
    assert spec.dims == 3
    assert spec.value_range.saved is not None  # the numbers of the data set go with the weights
    kept = (folder / NAME).read_text()
    build(config)
    assert (folder / NAME).read_text() == kept
    gains = {name: float(value) for _, name, value in rows if name.startswith("val/area/")}
    assert math.isfinite(gains["val/area/l1_gain"])


@pytest.mark.parametrize("kind", sorted(path.stem for path in MODALITIES.glob("*.yaml")))
def test_every_modality_makes_a_batch(kind, photos, volumes, scene, tmp_path):
    of = {"rgb_folder": (photos, "32", 3), "sentinel2": (scene, "16", 4), "multispectral": (scene, "16", 4)}
    root, crop, bands = of.get(kind, (volumes, "[4, 8, 8]", 1))
    config = preset(
        tmp_path, f"data.root={root}", f"data.kind={kind}", f"data.crop_px={crop}",
        f"generator.options.in_channels={bands}",
    )  # fmt: skip
    run = build(config, write=False)
    compared = run.task.attempt(run.player.module, next(run.stream), 0).compared
    assert compared is not None
    assert compared.image.shape == compared.target.shape
    assert float(compared.target.abs().max()) < 10  # z-scores and percentiles, not raw values


def test_pairs_stay_aligned_through_every_transform(tmp_path):
    """A bright cell of the low-quality half lies under the bright block of the target, however the pair is turned."""
    rng = np.random.default_rng(0)
    for folder in ("hq", "lq"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        lq = np.zeros((1, 6, 16, 16), np.float32)
        z, y, x = rng.integers(2, 4), rng.integers(5, 11), rng.integers(5, 11)
        lq[0, z, y, x] = 100
        hq = lq.repeat(2, 2).repeat(2, 3)
        np.save(tmp_path / "lq" / f"{number}.npy", lq)
        np.save(tmp_path / "hq" / f"{number}.npy", hq)
    source = SourceConfig(kind=SourceKind.scenes, lq_root=tmp_path / "lq", tile_px=(6, 32, 32))
    config = DataConfig(
        root=tmp_path / "hq", source=source, crop_px=(4, 24, 24), rot90=True, flip_slices=True, elastic=0.08
    )
    scale = (1, 2, 2)
    found = open_source(config, scale=scale, channels=Channels(hq=1, lq=1), dims=3)
    mixture = build_mixture(config.degrade, scale=scale, sharpen_target=False, bounded=False)
    sequence, seen = PairSequence(found, config, mixture, seed=0), set()
    for index in range(24):
        item, label = sequence.pair(index)
        assert label == "given"
        assert item.lq is not None
        assert item.hq.shape[1:] == (4, 24, 24)
        assert item.lq.shape[1:] == (4, 12, 12)
        if float(item.hq.sum()) < 50 or float(item.lq.sum()) < 20:
            continue
        centres = []
        for image, factor in ((item.hq, scale), (item.lq, (1, 1, 1))):
            total = image.sum()
            axes = [
                float(
                    (image.sum([0, *[a for a in (1, 2, 3) if a != axis]]) * (torch.arange(n) + 0.5)).sum()
                    / total
                )
                / k
                for axis, n, k in zip((1, 2, 3), image.shape[1:], factor, strict=True)
            ]
            centres.append(axes)
        assert centres[0] == pytest.approx(centres[1], abs=0.35)
        seen.add(tuple(round(each) for each in centres[1]))
    assert len(seen) > 8


def test_weights_decide_how_often_pictures_come(photos, tmp_path):
    rows = ["path,w", *(f"{photos / f'{n}.png'},{w}" for n, w in enumerate((0, 1, 1, 6, 0, 0)))]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    source = SourceConfig(weight_column="w")
    config = DataConfig(root=tmp_path / "list.csv", source=source, crop_px=32)
    found = open_source(config, scale=2)
    turns = [turn(found, index, seed=5) for index in range(600)]
    counts = torch.bincount(torch.tensor([int(t.order[t.place]) for t in turns]), minlength=6)
    assert counts[[0, 4, 5]].tolist() == [0, 0, 0]
    assert counts[3] == pytest.approx(450, abs=45)
    even = open_source(replace(config, source=SourceConfig()), scale=2)
    assert even.weights is None
    assert even.hash != found.hash
    (tmp_path / "list.csv").write_text("\n".join([*rows[:2], f"{photos / '1.png'},-1"]))
    with pytest.raises(
        ConfigError, match=r"has a weight that is no number of 0 or more: '-1'|no usable picture of"
    ):
        open_source(config, scale=2)


def test_a_curriculum_changes_crops_and_goes_on_exactly(volumes, tmp_path):
    words = (
        f"data.root={volumes}", "data.kind=medical_mri", "data.crop_px=[4, 8, 8]", "data.source.tile_px=[8, 16, 16]",
        "max_steps=6", "curriculum=[{start: 2, crop_px: [4, 16, 16], batch_size: 3}, {start: 4, crop_px: [8, 16, 16]}]",
    )  # fmt: skip
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    config = preset(tmp_path / "one", *words)
    assert [begins_at(config, step) for step in range(6)] == [False, False, True, False, True, False]
    run = build(config, write=False)
    shapes = []
    for step in range(6):
        if begins_at(config, step):
            run.stream = run.open_stream(step, run.stream.position)
        shapes.append(tuple(next(run.stream).hq.shape))
    assert shapes == [(2, 1, 4, 8, 8)] * 2 + [(3, 1, 4, 16, 16)] * 2 + [(3, 1, 8, 16, 16)] * 2
    whole = train(config)
    for steps in (2, 5, 6):  # stopped at a border of phases, and inside one
        parts = train(preset(tmp_path / "two", *words, f"max_steps={steps}"))
    ends = [read_tensors(folder / "generator.safetensors").tensors for folder in (whole, parts)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    with pytest.raises(ConfigError, match="expected starts that rise"):
        preset(tmp_path, *words, "curriculum=[{start: 3}, {start: 3}]")
    with pytest.raises(ConfigError, match=r"crop_px: \(4, 9, 16\) must divide by"):
        build(preset(tmp_path, *words, "curriculum=[{start: 1, crop_px: [4, 9, 16]}]"))


CODE = """
import numpy as np

class Pairs:
    weights = [1, 0, 3]

    def __init__(self, root, size=16):
        self.size = size

    def __len__(self):
        return 3

    def __getitem__(self, index):
        target = np.full((2, self.size, self.size), float(index * 100), np.float32)
        return target[:, ::2, ::2], target

def odd(root):
    return [np.zeros((2, 16, 16)), np.zeros((3, 16, 16))]
"""


def test_data_sets_of_ones_own_by_path_and_by_name(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for table in ("_entries", "_names"):
        monkeypatch.setattr(DATASETS, table, dict(getattr(DATASETS, table)))
    words = ("data.root=somewhere", "data.crop_px=16", "generator.options.in_channels=2", "data.crop=center")
    config = preset(tmp_path, *words, "data.source={dataset: 'own_data:Pairs', options: {size: 32}}")
    run = build(config, write=False)
    seen = {float(hq[0, 0, 0]) for _ in range(20) for hq in next(run.stream).hq}
    assert seen == {0.0, 200.0}  # the middle one has weight 0
    train(config)
    from own_data import odd  # pyright: ignore[reportMissingImports]

    register_dataset("my_odd")(odd)
    wrong = preset(tmp_path, *words, "data.source={dataset: my_odd}", "data.degrade=[{recipe: bicubic}]")
    source = open_source(wrong.data, scale=2, channels=Channels(hq=2, lq=2))
    with pytest.raises(ImageFileError, match="item 1: its target has 3 channels, the generator makes 2"):
        source.item(1)
    with pytest.raises(
        ConfigError, match=r"data\.source\.dataset: own_data:Pairs does not take root and its options"
    ):
        build(preset(tmp_path, *words, "data.source={dataset: 'own_data:Pairs', options: {colour: 1}}"))
    sys.modules.pop("own_data", None)


def test_a_base_model_keeps_its_own_range(photos, tmp_path):
    words = [f"data.root={photos}", f"output_dir={tmp_path}", "max_steps=1", "ranges.lr=normalise_10k"]
    with pytest.raises(ConfigError, match=r"ranges: sd2_lora takes pictures in \[0,1\] as they are"):
        check_options(load_config("tiny_cpu", words))


def test_bands_are_picked_stretched_and_cut_in_the_middle():
    target = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 8, 8) * 1000 + torch.arange(8.0) * 50
    target = target.clone()
    target[5, 1] = float("nan")
    shown = for_screen((target[:, :, ::2, ::2], target), bands=(5, 0, 3), bounded=False)
    assert [tuple(each.shape) for each in shown] == [(3, 4, 4), (3, 8, 8)]
    other = for_screen((target,), bands=(2, 1, 0), bounded=False)[0]
    assert float(other.min()) == 0.0
    assert float(other.max()) == 1.0
    assert bool(torch.isfinite(torch.cat([each.flatten() for each in shown])).all())
