"""Ranges of every kind: the original's normalisers, windows, histograms, custom ones; settled, saved and read again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from skimage.exposure import match_histograms
from torch.nn.functional import interpolate

from hypir_core.color.histogram import match_histogram
from hypir_core.config import build, to_plain
from hypir_core.engines.catalog import load_engine
from hypir_core.errors import ConfigError, ShapeError, SpecMismatchError, UnknownNameError
from hypir_core.image.histogram import Statistics
from hypir_core.image.ranges import (
    ALIASES,
    CUSTOM_RANGES,
    NAMED,
    AnyRange,
    Curve,
    CustomConfig,
    FitOn,
    Range,
    RangeConfig,
    RangeKind,
    RangesConfig,
    allow_custom,
    fit,
    named_range,
    notes_on,
    read_statistics,
    register_ranges,
    settle,
    write_statistics,
)
from hypir_core.models.architectures import build_architecture
from hypir_core.pipeline import restore
from hypir_core.request import Request, TargetSize
from hypir_core.runtime import Runtime
from hypir_core.weights.spec import GeneratorSpec, spec_from_metadata, spec_to_metadata
from hypir_core.weights.tensors import write_tensors


@pytest.fixture(scope="module")
def theirs(golden) -> dict[str, torch.Tensor]:
    return load_file(golden / "opensr" / "normalisers.safetensors")


def statistics(*blocks: torch.Tensor, valid: torch.Tensor | None = None) -> Statistics:
    found = Statistics()
    for block in blocks:
        found.add(block, valid)
    return found


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMED)
def test_the_originals_normalisers(theirs, name):
    """In both directions, over each other, and of numbers in the wrong unit; to 1e-6 of what white is."""
    found = named_range(name).fixed
    for unit in ("dn", "unit"):
        x = theirs[unit][None, None]
        white = named_range(name).white or 1.0
        normalised = found.apply(x)
        for got, wanted, scale in (
            (normalised, "normalized", 1.0),
            (found.undo(normalised), "back", white),
            (found.undo(x), "denormalized", white),
        ):
            expected = theirs[f"{name}/{unit}/{wanted}"]
            torch.testing.assert_close(got[0, 0], expected, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parity
def test_the_originals_min_max_and_percentiles(theirs):
    image, found = theirs["image"][None], statistics(theirs["image"][None])
    for name, config in {
        "minmax": RangeConfig(kind=RangeKind.minmax, per_channel=False),
        "minmax_percentile_2_98": RangeConfig(
            kind=RangeKind.percentile, percents=(2, 98), per_channel=False, clip=True
        ),
        "minmax_percentile_10_50": RangeConfig(
            kind=RangeKind.percentile, percents=(10, 50), per_channel=False, clip=True
        ),
    }.items():
        torch.testing.assert_close(fit(config, found).apply(image)[0], theirs[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("case", ["", "_nan", "_quantised"])
def test_the_originals_histogram_matching(theirs, case):
    target = theirs[f"hist/target{case}"]
    reference = interpolate(theirs["hist/reference"], target.shape[-2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        match_histogram(target, reference, reference_valid=~target.isnan()),
        theirs[f"hist/matched{case}"],
        rtol=1e-6,
        atol=1e-6,
        equal_nan=True,
    )


@pytest.mark.parity
def test_the_originals_moment_matching(theirs):
    """As a range that is fitted on the target."""
    target = theirs["hist/target"]
    wanted = tuple((each.mean, each.deviation) for each in statistics(theirs["hist/reference"]).channels)
    found = fit(RangeConfig(kind=RangeKind.moments, reference=wanted), statistics(target))
    torch.testing.assert_close(found.apply(target)[0], theirs["moment/matched"], rtol=1e-6, atol=1e-6)
    assert found.lossless


def test_histogram_matching_is_scikit_images_with_masks_and_on_any_axes():
    rng = np.random.default_rng(0)
    image, reference = rng.integers(0, 9, (2, 4, 3, 5, 6)).astype(np.float32), rng.random((2, 4, 7, 2, 2))
    matched = match_histogram(torch.from_numpy(image), torch.from_numpy(reference.astype(np.float32)))
    for sample in range(2):
        expected = match_histograms(image[sample], reference[sample].astype(np.float32), channel_axis=0)
        np.testing.assert_allclose(matched[sample], expected, atol=1e-6)
    x = torch.from_numpy(image[:1, :1]).clone()
    x[..., 0, 0] = 900.0
    valid = x < 900
    alone = match_histogram(x, matched[:1, :1], valid=valid)
    assert torch.equal(alone[~valid], x[~valid])
    twin = x.masked_fill(~valid, float("nan"))
    assert torch.equal(match_histogram(twin, matched[:1, :1])[valid], alone[valid])
    with pytest.raises(ShapeError, match="as many samples and channels"):
        match_histogram(x, x[:, :0])


LOSSLESS: dict[str, RangeConfig] = {
    "unit": RangeConfig(),
    "pm1": RangeConfig(kind=RangeKind.pm1),
    "white": RangeConfig(kind=RangeKind.white, white=10_000.0, symmetric=True),
    "window": RangeConfig(kind=RangeKind.window, window=(40, 400)),
    "minmax": RangeConfig(kind=RangeKind.minmax, per_channel=False),
    "percentile": RangeConfig(kind=RangeKind.percentile, percents=(2, 98)),
    "zscore": RangeConfig(kind=RangeKind.zscore),
    "moments": RangeConfig(kind=RangeKind.moments, reference=((0.4, 0.2),)),
    "histogram": RangeConfig(kind=RangeKind.histogram),
}
DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.float32)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_undo_of_apply_is_the_same_number_in_the_files_format(data):
    """Whole numbers come back exactly after rounding; float32 within its rounding of the widest number on the way."""
    config, dtype = LOSSLESS[data.draw(st.sampled_from(sorted(LOSSLESS)))], data.draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    axes = data.draw(st.lists(st.integers(2, 6), min_size=1, max_size=3))
    values = rng.normal(0, 100, (1, 3, *axes)) + data.draw(st.floats(-1000, 1000))
    if np.issubdtype(dtype, np.integer):
        values = values.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    x = torch.from_numpy(values.astype(dtype))
    found = fit(config, statistics(x))
    assert found.lossless
    back = found.undo(found.apply(x))
    if np.issubdtype(dtype, np.integer):
        assert torch.equal(back.round().to(x.dtype).long(), x.long())
    else:
        assert (back - x).abs().max() <= 2e-5 * max(float(x.abs().max()), 1.0)


def test_a_hounsfield_window():
    found = RangeConfig(kind=RangeKind.window, window=(40, 400), clip=True).fixed
    hu = torch.tensor([[[-1000.0, -160.0, 40.0, 240.0, 3000.0]]])
    assert found.apply(hu).flatten().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert not found.lossless


def test_a_z_score_may_be_cut_at_deviations_and_has_black_and_white():
    x = torch.randn(1, 2, 1000, generator=torch.Generator().manual_seed(0)) * 30 + 400
    x[0, 0, 0] = 9000
    found = fit(RangeConfig(kind=RangeKind.zscore, deviations=5, clip=True), statistics(x))
    assert float(found.apply(x).max()) == 5
    assert found.black_white == (-5, 5)
    assert not found.lossless


def test_a_histogram_range_spreads_evenly_or_as_the_reference():
    x = torch.rand(1, 2, 200, 200, generator=torch.Generator().manual_seed(0)) ** 3 * 4000
    even = fit(RangeConfig(kind=RangeKind.histogram), statistics(x))
    ranks = torch.linspace(0, 1, 11)
    torch.testing.assert_close(even.apply(x)[0, 0].flatten().quantile(ranks), ranks, atol=0.01, rtol=0)
    reference = ((0.0, 0.1, 0.9, 1.0), (-1.0, 0.0, 1.0, 2.0))
    found = fit(RangeConfig(kind=RangeKind.histogram, reference=reference), statistics(x))
    for channel, wanted in enumerate(reference):
        got = found.apply(x)[0, channel].flatten().quantile(torch.linspace(0, 1, 4))
        torch.testing.assert_close(got, torch.tensor(wanted), atol=0.02, rtol=0)
    assert found.black_white == (-1.0, 2.0)
    beyond = torch.tensor([[[-100.0, 5000.0]] * 2])
    assert (found.undo(found.apply(beyond)) - beyond).abs().max() < 0.5
    x[0, 0, 0, 0] = 1e7
    assert not fit(
        RangeConfig(kind=RangeKind.histogram), statistics(x)
    ).lossless  # float32 is too coarse for it
    flat = fit(RangeConfig(kind=RangeKind.histogram), statistics(torch.full((1, 1, 9), 3.0)))
    assert flat.apply(torch.tensor([[[3.0, 7.0]]])).tolist() == [[[3.0, 7.0]]]
    assert "all equal" in flat.notes[0]
    assert Curve.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(ShapeError, match="reference of the range is for 2 channels, the picture has 3"):
        fit(RangeConfig(kind=RangeKind.histogram, reference=reference), statistics(torch.rand(1, 3, 9)))


def test_every_name_of_the_original_is_known(golden):
    for name, target in ALIASES.items():
        assert named_range(name) == NAMED[target]
    with pytest.raises(UnknownNameError, match="did you mean 'sen2_stretch'"):
        named_range("sen2_strech")


def test_settings_state_ranges_by_name_or_in_full_for_each_side():
    pair = build(
        RangesConfig,
        {"lr": "normalise_10k", "hr": {"kind": "zscore", "fit": "dataset", "per_channel": False}},
    )
    assert pair.lr == NAMED["normalise_10k"]
    assert pair.hr == RangeConfig(kind=RangeKind.zscore, fit=FitOn.dataset, per_channel=False)
    assert build(RangesConfig, {"lr": {"kind": "sentinel2", "clip": False}}).lr.white == 10_000
    with pytest.raises(ConfigError, match=r"unknown key 'lr.wwhite' \(did you mean 'white'"):
        build(RangesConfig, {"lr": {"kind": "white", "wwhite": 3}})
    with pytest.raises(ConfigError, match="did you mean 'zscore'"):
        build(RangesConfig, {"lr": "z_score"})


@pytest.mark.parametrize("kind", [RangeKind.zscore, RangeKind.percentile, RangeKind.histogram])
def test_a_range_of_a_data_set_is_fitted_once_and_saved_with_the_weights(kind):
    first, second = torch.rand(1, 2, 30) * 100, torch.rand(1, 2, 40) * 300
    config = RangeConfig(kind=kind, fit=FitOn.dataset)
    pair = RangesConfig(lr=config)
    assert pair.needs_dataset
    with pytest.raises(ConfigError, match="must be fitted on its data set"):
        _ = config.fixed
    settled = pair.settled(statistics(first, second))
    assert not settled.needs_dataset
    spec = GeneratorSpec(
        name="x",
        architecture="compact",
        scale=2,
        trained_on="x",
        trained_with="x",
        licence="x",
        value_range=settled.lr,
        out_range=RangeConfig(kind=RangeKind.pm1),
    )
    again = spec_from_metadata(spec_to_metadata(spec), "x")
    assert again == spec
    assert isinstance(again, GeneratorSpec)
    same = fit(RangeConfig(kind=kind), statistics(torch.cat([first, second], 2)))
    x = torch.rand(1, 2, 9) * 50
    torch.testing.assert_close(fit(again.value_range, statistics(x)).apply(x), same.apply(x))


def test_statistics_are_written_and_read(tmp_path):
    x = torch.randn(1, 3, 5000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1], [9], [90.0]])
    path = tmp_path / "stats.json"
    found = statistics(x)
    write_statistics(path, found)
    for kind in (RangeKind.minmax, RangeKind.percentile, RangeKind.zscore, RangeKind.histogram):
        config = settle(RangeConfig(kind=kind, fit=FitOn.file, statistics=path))
        assert config.statistics is None
        direct = fit(RangeConfig(kind=kind), found)
        torch.testing.assert_close(config.fixed.apply(x), direct.apply(x), atol=5e-3, rtol=1e-4)


@pytest.mark.parametrize("ending", [".yaml", ".npy", ".pt"])
def test_published_statistics_of_other_layouts(tmp_path, ending):
    path = tmp_path / f"stats{ending}"
    if ending == ".yaml":
        path.write_text("mean: [1, 2]\nstd: [3, 4]\n")
    elif ending == ".npy":
        np.save(path, np.array([[1.0, 2.0], [3.0, 4.0]]))
    else:
        torch.save({"mean": torch.tensor([1.0, 2.0]), "std": torch.tensor([3.0, 4.0])}, path)
    found = settle(RangeConfig(kind=RangeKind.zscore, fit=FitOn.file, statistics=path)).fixed
    assert isinstance(found, Range)
    assert (found.middle, found.width) == ((1, 2), pytest.approx((3, 4)))
    for kind, missing in ((RangeKind.percentile, "quantiles"), (RangeKind.minmax, "low and no high")):
        with pytest.raises(ConfigError, match=f"has no {missing}") as caught:
            settle(RangeConfig(kind=kind, fit=FitOn.file, statistics=path))
        assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mean: [1, 2]\nstd: [3]\n", "2 of mean, 1 of deviation"),
        ("mean: [a]\nstd: [3]\n", "expected lists of numbers"),
        ("mean: 3\nstd: 4\n", "expected lists of numbers"),
        ("colour: blue\n", "none of mean"),
    ],
)
def test_statistics_that_say_nothing_are_refused(tmp_path, text, said):
    path = tmp_path / "stats.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_statistics(path)
    with pytest.raises(ConfigError, match=r"expected statistics as \.json"):
        read_statistics(tmp_path / "stats.csv")
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot be read as an array"):
        read_statistics(tmp_path / "x.npy")


def test_a_note_says_when_much_of_a_picture_lies_beyond_the_range():
    found = named_range("sen2_stretch").fixed
    bright = statistics(torch.linspace(0, 1, 1000)[None, None])
    (note,) = notes_on(found, bright)
    assert note.startswith("range: 70 % of the values were cut")
    assert notes_on(found, statistics(torch.linspace(0, 0.3, 1000)[None, None])) == ()
    assert (
        "lie outside"
        in notes_on(RangeConfig(kind=RangeKind.pm1).fixed, statistics(torch.full((1, 1, 9), 9.0)))[0]
    )


class Root:
    """A range of one's own: the root of the value over the white one."""

    lossless = True

    def __init__(self, *, white: float):
        self.white = white

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        return (x / self.white).sqrt()

    def undo(self, y: torch.Tensor) -> torch.Tensor:
        return y.square() * self.white


def halved(x: torch.Tensor, *, by: float = 2.0) -> torch.Tensor:
    return x / by


def doubled(x: torch.Tensor, *, by: float = 2.0) -> torch.Tensor:
    return x * by


@pytest.fixture
def mine(monkeypatch) -> str:
    """The name of an importable module with the things above."""
    module: Any = ModuleType("a_plugin_of_ranges")
    module.Root, module.halved, module.doubled = Root, halved, doubled
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for part in ("_entries", "_names", "_made"):
        monkeypatch.setattr(CUSTOM_RANGES, part, {})
    return module.__name__


def of(config: CustomConfig) -> AnyRange:
    return RangeConfig(kind=RangeKind.custom, custom=config).fixed


def test_a_custom_range_is_a_class_or_two_functions(mine):
    x = torch.rand(1, 2, 3, 4)
    register_ranges("root")(Root)
    rooted = of(CustomConfig(function="root", options={"white": 4.0}))
    torch.testing.assert_close(rooted.apply(x), (x / 4).sqrt())
    torch.testing.assert_close(rooted.undo(rooted.apply(x)), x)
    assert rooted.lossless
    assert named_range("root").custom == CustomConfig(function="root")
    pair = build(
        RangesConfig,
        {
            "lr": {
                "kind": "custom",
                "custom": {"function": f"{mine}:halved", "inverse": f"{mine}:doubled", "options": {"by": 4}},
            }
        },
    )
    pair.allow_custom()
    torch.testing.assert_close(pair.lr.fixed.apply(x), x / 4)
    torch.testing.assert_close(pair.lr.fixed.undo(x), x * 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"function": "MODULE:halved"}, "has no apply and no undo"),
        ({"function": "MODULE:Root", "options": {"black": 1}}, "does not take its options"),
        ({"function": "MODULE:nothing"}, r"ranges\.lr\.custom: MODULE has no nothing"),
        ({"function": "no_such_package:x"}, "no_such_package cannot be imported"),
        ({"function": ":x"}, "expected package.module:name"),
    ],
)
def test_custom_ranges_without_a_way_back_or_a_home_are_refused(mine, changes, said):
    changes = changes | {"function": changes["function"].replace("MODULE", mine)}
    pair = RangesConfig(lr=RangeConfig(kind=RangeKind.custom, custom=CustomConfig(**changes)))
    with pytest.raises(ConfigError, match=said.replace("MODULE", mine)):
        pair.allow_custom()


def exported(path: Path, net: torch.nn.Module, **changes: Any) -> Path:
    spec = GeneratorSpec(
        name="x",
        architecture="compact",
        scale=2,
        options={"features": 8, "blocks": 2},
        trained_on="x",
        trained_with="x",
        licence="x",
        **changes,
    )
    write_tensors(path, net.state_dict(), spec_to_metadata(spec))
    return path


def ran(path: Path, image_01: torch.Tensor):
    engine = load_engine(
        "upscaler", options={"weights": str(path)}, device=torch.device("cpu"), dtype="float32"
    )
    return restore(engine, image_01, Request(target=TargetSize(scale=2)), Runtime())


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"features": 8, "blocks": 2, "scale": 2}
        return build_architecture("compact", sizes, where="sizes").eval().requires_grad_(False)


def test_code_named_by_a_weight_file_is_not_run(tmp_path, mine, net):
    """A file from anywhere could name anything, ``os:system`` for one."""
    custom = RangeConfig(
        kind=RangeKind.custom, custom=CustomConfig(function=f"{mine}:Root", options={"white": 2.0})
    )
    path = exported(tmp_path / "x.safetensors", net, value_range=custom)
    with pytest.raises(SpecMismatchError, match="code that a weight file names"):
        ran(path, torch.rand(1, 3, 12, 9))
    assert custom.custom is not None
    allow_custom(custom.custom)
    x = torch.rand(1, 3, 12, 9)
    torch.testing.assert_close(
        ran(path, x).image_01, (net((x / 2).sqrt()).square() * 2).clamp(0, 1), atol=1e-5, rtol=0
    )


def test_a_network_may_give_another_range_than_it_takes_and_says_what_it_cut(tmp_path, net):
    x = torch.rand(1, 3, 20, 14)
    stretch, score = named_range("sen2_stretch"), RangeConfig(kind=RangeKind.zscore)
    done = ran(exported(tmp_path / "x.safetensors", net, value_range=stretch, out_range=score), x)
    right = fit(score, statistics(x)).undo(net(stretch.fixed.apply(x))).clamp(0, 1)
    torch.testing.assert_close(done.image_01, right, atol=1e-5, rtol=0)
    assert any(note.startswith("range: ") and "were cut" in note for note in done.report.notes)
    assert done.report.settings["out_range"]["kind"] == "zscore"


def test_a_config_is_plain_data_and_back():
    for config in (*NAMED.values(), *LOSSLESS.values()):
        assert RangeConfig.from_json(json.loads(json.dumps(to_plain(config)))) == config


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"kind": RangeKind.window, "window": (0, 0)}, "window must be a centre"),
        ({"window": (40, 400)}, "window belongs to the range 'window'"),
        ({"kind": RangeKind.moments}, "moments needs a reference"),
        ({"kind": RangeKind.moments, "reference": ((1.0, 0.0),)}, "deviation above 0"),
        ({"kind": RangeKind.histogram, "reference": ((2.0, 1.0),)}, "rising values"),
        ({"reference": ((0.0, 1.0),)}, "reference belongs to moments and histogram"),
        ({"fit": FitOn.dataset}, "is not fitted; leave it out"),
        ({"kind": RangeKind.zscore, "fit": FitOn.file}, "statistics belongs to fit: file"),
        ({"kind": RangeKind.zscore, "saved": Range()}, "saved numbers belong"),
        ({"kind": RangeKind.zscore, "deviations": 0.0}, "deviations must be above 0"),
        ({"kind": RangeKind.minmax, "file_clip": (0.0, 1.0)}, "file_clip belongs to fixed ranges"),
        ({"kind": RangeKind.custom}, "custom belongs"),
    ],
)
def test_impossible_configs_are_refused(bad, said):
    with pytest.raises(ConfigError, match=said):
        RangeConfig(**bad)
