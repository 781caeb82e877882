"""Sources read boxes as the whole picture has them; sinks write rows as the whole writer would."""

from __future__ import annotations

import sys
import textwrap
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hypir_core.errors import ImageFileError, RangeError, ShapeError
from hypir_core.files.picture import to_planes
from hypir_core.files.reading import read_picture, read_text
from hypir_core.files.sink import MemorySink, StreamSink, open_sink
from hypir_core.files.source import PictureSource, TiffSource, open_source
from hypir_core.files.writing import write_picture
from tests.core.picture_samples import EXTENSION, planes_of, random_samples

QUICK = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Part:
    """Stands for `tiling.geometry.Box`, of which sources read only these two."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]


def whole_planes(path):
    color, alpha = to_planes(read_picture(path))
    return color if alpha is None else torch.cat([color, alpha], 1)


def tiff_variants():
    for dtype in ("uint8", "uint16", "float32"):
        for channels in (1, 2, 3, 4):
            for options in (
                {},
                {"rowsperstrip": 7},
                {"tile": (16, 32)},
                {"tile": (16, 16), "compression": "zlib", "predictor": True},
                {"rowsperstrip": 5, "compression": "lzw"},
                {"planarconfig": "separate", "rowsperstrip": 9},
                {"byteorder": ">", "rowsperstrip": 4},
                {"bigtiff": True},
            ):
                if options.get("planarconfig") and channels == 1:
                    continue
                yield pytest.param(dtype, channels, options, id=f"{dtype}-{channels}-{options}")


@pytest.mark.parametrize(("dtype", "channels", "options"), tiff_variants())
def test_boxes_of_a_tiff_are_the_pictures(tmp_path, dtype, channels, options):
    samples = random_samples((45, 70, channels), dtype)
    path = tmp_path / "a.tif"
    stored = np.moveaxis(samples, -1, 0) if options.get("planarconfig") else samples
    writer_options = {k: v for k, v in options.items() if k not in ("byteorder", "bigtiff")}
    file_options = {k: v for k, v in options.items() if k in ("byteorder", "bigtiff")}
    tifffile.imwrite(
        path,
        stored[..., 0] if channels == 1 else stored,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig=writer_options.pop("planarconfig", "contig" if channels > 1 else None),
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        metadata=None,
        **writer_options,
        **file_options,
    )
    expected = whole_planes(path)
    with open_source(path) as source:
        assert isinstance(source, TiffSource)
        assert source.sizes_px == (45, 70)
        assert source.channels == channels
        assert source.white == {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
        for y, x, h, w in ((0, 0, 45, 70), (3, 5, 11, 40), (44, 69, 1, 1), (20, 0, 25, 9), (7, 31, 2, 2)):
            part = source.read(Part((y, x), (h, w)))
            assert part.dtype == torch.float32
            assert torch.equal(part, expected[..., y : y + h, x : x + w])


@pytest.mark.parametrize("extra", ["assocalpha", "miniswhite"])
def test_boxes_mean_what_the_whole_picture_means(tmp_path, extra):
    path = tmp_path / "a.tif"
    if extra == "assocalpha":
        samples = random_samples((20, 20, 4), "uint16")
        samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
        tifffile.imwrite(path, samples, photometric="rgb", extrasamples=["assocalpha"])
    else:
        tifffile.imwrite(path, random_samples((20, 20), "uint16"), photometric="miniswhite")
    with open_source(path) as source:
        assert isinstance(source, TiffSource)
        assert torch.equal(source.read(Part((4, 3), (9, 8))), whole_planes(path)[..., 4:13, 3:11])


@pytest.mark.parametrize("name", ["png", "jpg", "webp", "bmp", "npy"])
@given(data=st.data())
@QUICK
def test_boxes_of_other_files(tmp_path, name, data):
    path = tmp_path / f"a{EXTENSION[name]}"
    if not path.exists():
        if name == "npy":
            np.save(path, random_samples((19, 23, 3), "uint16").astype(np.float64) / 65535)
        else:
            Image.fromarray(random_samples((19, 23, 3), "uint8")).save(path)
    y, x = data.draw(st.integers(0, 18)), data.draw(st.integers(0, 22))
    h, w = data.draw(st.integers(1, 19 - y)), data.draw(st.integers(1, 23 - x))
    with open_source(path) as source:
        part = source.read(Part((y, x), (h, w)))
    assert torch.equal(part, whole_planes(path)[..., y : y + h, x : x + w])


def test_a_turned_tiff_is_read_upright(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, random_samples((10, 20), "uint16"), extratags=[(274, "H", 1, 6, True)])
    with open_source(path) as source:
        assert source.sizes_px == (20, 10)
        assert torch.equal(source.read(Part((0, 0), (20, 10))), whole_planes(path))


def test_a_box_outside_is_an_error(tmp_path):
    write_picture(tmp_path / "a.png", torch.rand(1, 3, 4, 5))
    source = PictureSource(read_picture(tmp_path / "a.png"))
    for box in (Part((0, 0), (5, 5)), Part((-1, 0), (1, 1)), Part((0, 0), (0, 1))):
        with pytest.raises(ShapeError, match="a box inside"):
            source.read(box)
    with pytest.raises(ShapeError, match="an alpha channel, got none"):
        PictureSource(read_picture(tmp_path / "a.png"), "alpha")


def test_bad_values_are_found_in_their_box(tmp_path):
    values = np.zeros((30, 30), np.float32)
    values[20, 20] = np.nan
    np.save(tmp_path / "a.npy", values)
    tifffile.imwrite(tmp_path / "a.tif", values, rowsperstrip=5)
    for name in ("a.npy", "a.tif"):
        with open_source(tmp_path / name) as source:
            source.read(Part((0, 0), (10, 30)))
            with pytest.raises(ImageFileError, match=f"{name}: .*NaN"):
                source.read(Part((15, 15), (10, 10)))


def test_a_box_of_a_large_file_takes_no_memory_of_the_rest(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.memmap(path, shape=(12000, 9000), dtype=np.uint8, photometric="minisblack")  # 108 MB, sparse
    tracemalloc.start()
    with open_source(path) as source:
        source.read(Part((5000, 4000), (256, 256)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


def written(path, color, blocks, *, bits, alpha=None, **options):
    rows = color if alpha is None else torch.cat([color, alpha], 1)
    sink = open_sink(path, color.shape[-2:], rows.shape[1], has_alpha=alpha is not None, bits=bits, **options)
    top = 0
    for height in blocks:
        sink.write(top, rows[:, :, top : top + height])
        top += height
    sink.commit()
    return sink


@pytest.mark.parametrize("name", ["png", "tiff", "npy", "jpg", "webp"])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("with_alpha", [False, True])
@given(data=st.data())
@QUICK
def test_rows_give_the_file_that_the_whole_gives(tmp_path, name, bits, channels, with_alpha, data):
    height, width = data.draw(st.sampled_from([1, 2, 17, 64])), data.draw(st.sampled_from([1, 3, 40]))
    blocks, left = [], height
    while left:
        blocks.append(data.draw(st.integers(1, left)))
        left -= blocks[-1]
    color = planes_of(random_samples((height, width, channels), "uint16"))
    alpha = planes_of(random_samples((height, width, 1), "uint16", seed=1)) if with_alpha else None
    if alpha is not None and name == "jpg":
        alpha = torch.ones_like(alpha)
    streamed, whole = (tmp_path / f"{word}{EXTENSION[name]}" for word in ("streamed", "whole"))
    sink = written(streamed, color, blocks, bits=bits, alpha=alpha, force=True, text={"hypir": "x"})
    write_picture(whole, color, alpha_01=alpha, bits=bits, force=True, text={"hypir": "x"})
    assert isinstance(sink, StreamSink if name in ("png", "tiff", "npy") else MemorySink)
    one, other = read_picture(streamed), read_picture(whole)
    np.testing.assert_array_equal(one.color_hwc, other.color_hwc)
    if alpha is None or name == "jpg":
        assert one.alpha_hw is None
    else:
        np.testing.assert_array_equal(one.alpha_hw, other.alpha_hw)
    assert read_text(streamed) == read_text(whole)
    if name == "png" and bits == 8:  # an independent reader
        with Image.open(streamed) as opened:
            np.testing.assert_array_equal(
                np.asarray(opened).reshape((*one.color_hwc.shape[:2], -1))[..., :channels], one.color_hwc
            )


@pytest.mark.parametrize("name", ["png", "tiff", "jpg"])
def test_words_may_come_with_the_last_row(tmp_path, name):
    path = tmp_path / f"a{EXTENSION[name]}"
    sink = open_sink(path, (8, 8), 3, text={"hypir.request": "early"})
    sink.write(0, torch.rand(1, 3, 8, 8))
    sink.text = {"hypir.request": "early", "hypir.report": "late"}
    sink.commit()
    assert read_text(path) == {"hypir.request": "early", "hypir.report": "late"}


@pytest.mark.parametrize("name", ["png", "tiff", "npy", "jpg"])
def test_nothing_bears_the_name_before_commit(tmp_path, name):
    path = tmp_path / f"a{EXTENSION[name]}"
    path.write_bytes(b"what was there before")
    sink = open_sink(path, (8, 8), 3, force=True)
    sink.write(0, torch.rand(1, 3, 4, 8))
    assert path.read_bytes() == b"what was there before"
    sink.abort()
    sink.abort()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"what was there before"


@pytest.mark.parametrize("name", ["png", "tiff", "npy", "jpg"])
def test_wrong_rows_are_errors_and_leave_nothing(tmp_path, name):
    path = tmp_path / f"a{EXTENSION[name]}"
    sink = open_sink(path, (8, 8), 3)
    for start, rows in (
        (1, torch.rand(1, 3, 4, 8)),
        (0, torch.rand(1, 1, 4, 8)),
        (0, torch.rand(1, 3, 9, 8)),
    ):
        with pytest.raises(ShapeError, match=r"expected .*rows"):
            sink.write(start, rows)
    with pytest.raises(ShapeError, match="expected 8 rows, got 0"):
        sink.commit()
    assert list(tmp_path.iterdir()) == []
    sink = open_sink(path, (8, 8), 3)

    def damaged():
        sink.write(0, torch.full((1, 3, 8, 8), float("nan")))
        sink.commit()

    with pytest.raises(RangeError, match="NaN"):
        damaged()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["png", "tiff", "npy"])
def test_a_disk_that_fills_up_while_rows_come(tmp_path, name):
    resource = pytest.importorskip("resource", reason="needs POSIX file size limits")
    path = tmp_path / f"a{EXTENSION[name]}"
    sink = open_sink(path, (600, 600), 3, bits=16)

    def everything():
        for top in range(0, 600, 100):
            sink.write(top, torch.rand(1, 3, 100, 600))
        sink.commit()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ImageFileError, match=r"expected a (file size|place)") as caught:
            everything()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value).count(str(path)) == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ImageFileError, match="committed or aborted"):
        sink.write(0, torch.rand(1, 3, 100, 600))


@pytest.mark.parametrize("name", ["png", "tiff", "npy"])
def test_a_streamed_picture_takes_memory_for_a_few_rows(tmp_path, name):
    import subprocess

    script = textwrap.dedent(f"""
        import resource, torch
        from hypir_core.files.sink import open_sink
        block = torch.rand(1, 3, 64, 6000)
        warm = open_sink({str(tmp_path / "warm") + EXTENSION[name]!r}, (64, 6000), 3, bits=16)
        warm.write(0, block); warm.commit()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sink = open_sink({str(tmp_path / "a") + EXTENSION[name]!r}, (1280, 6000), 3, bits=16)
        for top in range(0, 1280, 64):
            sink.write(top, block)
        sink.commit()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 * 2**20  # the picture itself has 46 MB
