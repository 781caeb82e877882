"""Clips as files: times, sound and colours are the input's; a stop loses one part; what is damaged is told."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from hypir_core.batch import clip_files
from hypir_core.batch.clip_files import ClipWriting
from hypir_core.batch.naming import Job
from hypir_core.batch.restoring import Writing, restore_file
from hypir_core.cli import main
from hypir_core.clip.walk import Clip
from hypir_core.engines.catalog import load_engine
from hypir_core.errors import Cancelled, ConfigError, ImageFileError, ShapeError
from hypir_core.files.clips.colors import Colors, to_frame, to_image
from hypir_core.files.clips.formats import packing_for
from hypir_core.files.clips.source import open_clip
from hypir_core.image.size import TargetSize
from hypir_core.metrics.flicker import flicker
from hypir_core.pipeline import restore
from hypir_core.request import Request
from hypir_core.runtime import Runtime
from tests.core.clip_maker import av, frames_of, make_clip, sound_of, times_of

SAME_SIZE = Request(target=TargetSize(scale=1.0))


@pytest.fixture(scope="module")
def engine():
    return load_engine("built-in", device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch):
    monkeypatch.setattr(clip_files, "PART_FRAMES", 4)


def pan(count: int, height: int = 24, width: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Return a smooth picture that moves by two pixels a frame."""
    draw = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(draw, (height, width + 2 * count), mode="bicubic").clamp(0, 1)
    whole = ((0.25 + 0.5 * wide[0].movedim(0, -1)) * 255).byte().numpy()
    return [whole[:, 2 * i : 2 * i + width] for i in range(count)]


def run(engine, source, out, request=SAME_SIZE, *, key="k", runtime=None, **clip):
    writing = Writing(clip=ClipWriting(**clip))
    return restore_file(engine, Job(source, out), request, runtime or Runtime(), writing=writing, key=key)


def left_in(folder, *known):
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


def test_times_sound_words_and_shape_are_the_inputs(engine, tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    times = [0, 3000, 9000, 10500, 15000, 18001, 24000, 27000, 30000, 33000]  # a telephone's: not even
    make_clip(source, pan(10), times=times, sound="aac", rotation=90, words={"title": "Rügen 1931"})
    report = run(engine, source, out, Request())
    assert report.output_px == (128, 96)  # turned upright, ×4
    assert "10 frames, 1 shot" in report.stages[0].tiles
    assert times_of(out) == times_of(source)
    assert sound_of(out) == sound_of(source)
    with av.open(str(source)) as given, av.open(str(out)) as made:
        assert made.metadata["title"] == "Rügen 1931"
        assert made.streams.video[0].duration * made.streams.video[0].time_base == pytest.approx(
            0.4, abs=0.05
        )
        assert given.streams.video[0].codec_context.name == made.streams.video[0].codec_context.name
    assert frames_of(out)[0].shape == (128, 96, 3)
    upright = np.rot90(pan(10)[0], 1)
    small = frames_of(out)[0].reshape(32, 4, 24, 4, 3).mean((1, 3))
    assert np.abs(small - upright).mean() < 6
    assert left_in(tmp_path, "in.mp4", "out.mp4") == []


@pytest.mark.parametrize(
    ("ending", "codec", "wanted"), [("mp4", None, "hevc"), ("mkv", "ffv1", "ffv1"), ("webm", None, "vp9")]
)
def test_ten_bits_and_colours_are_kept(engine, tmp_path, ending, codec, wanted):
    source, out = tmp_path / "in.mkv", tmp_path / f"out.{ending}"
    hdr = (9, 16, 9, 1)
    make_clip(source, pan(3), pixels="yuv420p10le", colors=hdr)
    report = run(engine, source, out, codec=codec, quality=None if codec else 2)
    assert report.notes == (() if wanted != "vp9" else ("10 bits became 8: vp9 has no more",))
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert context.name.removeprefix("lib") == wanted
        assert ("10le" in context.pix_fmt) == (wanted != "vp9")
        said = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert said == hdr
    before, after = frames_of(source), frames_of(out)
    assert np.abs(np.asarray(after[0], float) - before[0]).mean() < 5


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_black_white_and_colours_survive_both_ways(full_range, matrix):
    colors = Colors(primaries=2, transfer=2, matrix=matrix, full_range=full_range)
    bars = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    image = bars.T.reshape(1, 3, 1, 5).repeat_interleave(8, -1).expand(1, 3, 8, 40)
    frame = to_frame(image, colors, pixels="yuv420p", deep=False)
    luma = frame.to_ndarray()[0]
    assert (luma[0], luma[8]) == ((0, 255) if full_range else (16, 235))
    assert (to_image(frame, colors, turns=0) - image).abs().max() < 3.5 / 255
    deep = to_frame(image, colors, pixels="yuv444p12le", deep=True)
    assert (
        to_image(deep, colors, turns=0) - image
    ).abs().max() < 3 / 1000  # FFmpeg's scaler; 8 bits are 4 / 1000 apart


def test_names_of_parts_stay_as_long_as_they_are(engine, tmp_path, monkeypatch):
    """However long the clip: a name that grew with every part was too long for the disk after a minute."""
    monkeypatch.setattr(clip_files, "PART_FRAMES", 1)
    source, seen = tmp_path / "in.mp4", []
    make_clip(source, pan(20))

    def look():
        seen.append({len(name) for name in left_in(tmp_path, "in.mp4")})
        return len(seen) >= 18

    with pytest.raises(Cancelled):
        run(engine, source, tmp_path / "out.mp4", runtime=Runtime(should_stop=look))
    assert max(seen[-1]) <= max(max(lengths, default=0) for lengths in seen[:8]) + 1


@pytest.mark.parametrize("second_shot", [False, True])
def test_a_stopped_run_goes_on_and_gives_the_same_bytes(engine, tmp_path, second_shot):
    source, whole, out = (tmp_path / name for name in ("in.mp4", "whole.mp4", "out.mp4"))
    pictures = pan(5, seed=1) + pan(6, seed=2) if second_shot else pan(11)
    make_clip(source, pictures, sound="aac")
    twice = Request(target=TargetSize(scale=2))
    run(engine, source, whole, twice)
    seen = []

    def stop_in_third_part():
        return len(seen) >= 10

    stopping = Runtime(progress=lambda tick: seen.append(tick.done), should_stop=stop_in_third_part)
    with pytest.raises(Cancelled, match="stopped"):
        run(engine, source, out, twice, runtime=stopping)
    assert not out.exists()
    assert len(left_in(tmp_path, "in.mp4", "whole.mp4")) == 3
    again = []
    telling = Runtime(progress=lambda tick: again.append((tick.done, tick.total)))
    run(engine, source, out, twice, runtime=telling)
    assert again == [(9, 11), (10, 11), (11, 11)]
    assert out.read_bytes() == whole.read_bytes()
    assert left_in(tmp_path, "in.mp4", "whole.mp4", "out.mp4") == []


def test_parts_of_another_wish_are_of_no_use(engine, tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    make_clip(source, pan(6))
    count = []
    stopping = Runtime(progress=lambda tick: count.append(1), should_stop=lambda: len(count) >= 5)
    with pytest.raises(Cancelled):
        run(engine, source, out, runtime=stopping)
    ticks = []
    run(engine, source, out, key="other", runtime=Runtime(progress=lambda tick: ticks.append(tick.done)))
    assert ticks == [1, 2, 3, 4, 5, 6]
    assert left_in(tmp_path, "in.mp4", "out.mp4") == []


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_of_a_clip_that_is_cut_off_what_is_there_is_restored(engine, tmp_path, kind):
    source, out = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(20)]
    times = [9000 * i for i in range(20)]
    make_clip(tmp_path / f"whole.{kind}", noise, times=times, sound="aac", g="5", bf="0")
    data = (tmp_path / f"whole.{kind}").read_bytes()
    if kind == "mp4":  # its index at the front, as for the web
        with (
            av.open(str(tmp_path / "whole.mp4")) as given,
            av.open(str(source), "w", options={"movflags": "+faststart"}) as made,
        ):
            streams = {s.index: made.add_stream_from_template(s) for s in given.streams}
            for packet in given.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    made.mux(packet)
        data = source.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 3])
    report = run(engine, source, out)
    (note,) = [note for note in report.notes if "stopped at" in note]
    shown = times_of(out)
    assert 6 <= len(shown) < 20
    assert f"stopped at 0:{float(shown[-1]):05.2f}: the rest of the file is missing" == note


def test_what_is_no_clip_is_told_in_one_line(engine, tmp_path):
    text, empty, sound, cut = (tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"))
    text.write_text("hello")
    empty.touch()
    make_clip(tmp_path / "whole.mp4", pan(3), sound="aac")
    with av.open(str(tmp_path / "whole.mp4")) as given, av.open(str(sound), "w") as made:
        heard = given.streams.audio[0]
        stream = made.add_stream_from_template(heard)
        for packet in given.demux(heard):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    cut.write_bytes((tmp_path / "whole.mp4").read_bytes()[:1000])  # its index is at the end
    cases = {
        text: r"a\.mp4: expected a clip that can be read, got text that starts with 'hello'",
        empty: r"b\.mp4: expected a clip, got an empty file",
        sound: r"c\.mp4: expected a clip with pictures, got a file with audio only",
        cut: r"d\.mp4: expected a clip that can be read, got one that is damaged or cut off",
    }
    for path, message in cases.items():
        with pytest.raises(ImageFileError, match=message) as found:
            run(engine, path, tmp_path / "out.mp4")
        assert "\n" not in str(found.value)
    assert not any(name.startswith((".out", "out")) for name in left_in(tmp_path))


def test_the_results_name_must_hold_codec_and_sound(engine, tmp_path):
    source = tmp_path / "in.mp4"
    make_clip(source, pan(2), sound="aac")
    for name, asked, message in (
        ("out.avi", {}, r"ends in one of \.mp4, \.m4v, \.mov, \.mkv, \.webm"),
        ("out.png", {}, r"ends in one of \.mp4"),
        ("out.mp4", {"codec": "ffv1"}, r"holds \(h264, h265, vp9\), got ffv1; .*write \.mkv"),
        ("out.webm", {}, r"holds the clip's sound, aac, got \.webm; write \.mp4"),
    ):
        with pytest.raises(ImageFileError, match=message):
            run(engine, source, tmp_path / name, **asked)
    for asked, message in (({"quality": 52}, "from 0 to 51 for h264"), ({"steady": 1.0}, "0 to 0.95, got 1")):
        with pytest.raises(ConfigError, match=message):
            run(engine, source, tmp_path / "out.mp4", **asked)
    with pytest.raises(ConfigError, match="leave it out"):
        packing_for(tmp_path / "out.mkv", bits=8, codec="ffv1", quality=3)
    assert left_in(tmp_path, "in.mp4") == []


def test_the_command_takes_named_clips_and_patterns_but_passes_over_those_in_folders(tmp_path, capsys):
    films = tmp_path / "films"
    films.mkdir()
    make_clip(films / "one.mp4", pan(2))
    make_clip(films / "two.mkv", pan(2))
    assert main(["restore", str(films), "-o", str(tmp_path / "out")]) == 2
    assert "2 files were passed over: a video" in capsys.readouterr().err
    report = tmp_path / "report.json"
    asked = ["restore", str(films / "*.m*"), "-o", str(tmp_path / "out"), "--device", "cpu", "--scale", "2"]
    assert main([*asked, "--report", str(report), "--quality", "20"]) == 0
    assert [len(times_of(tmp_path / "out" / name)) for name in ("one.mp4", "two.mkv")] == [2, 2]
    results = json.loads(report.read_text())["results"]
    assert [one["report"]["output_px"] for one in results] == [[48, 64], [48, 64]]
    assert main([*asked, "--quality", "20"]) == 0  # the manifest knows them
    single = [str(films / "one.mp4"), "-o", str(tmp_path / "x.mp4")]
    assert main(["restore", *single, "--steady", "2"]) == 2
    assert main(["restore", *single, "--mask", str(films / "two.mkv")]) == 2
    assert main(["restore", *single, "--compare", str(tmp_path / "x.png")]) == 1
    assert not (tmp_path / "x.mp4").exists()


def test_a_still_shot_stays_as_still_in_the_file(engine, tmp_path):
    """Without noise the result does not change at all; packed without loss, nor does its file."""
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    make_clip(source, pan(1) * 6, codec="ffv1", pixels="yuv444p")
    run(engine, source, out, Request(), codec="ffv1")
    frames = frames_of(out)
    assert all(np.array_equal(a, b) for a, b in pairwise(frames))


def test_a_noisy_still_shot_differs_no_more_from_frame_to_frame_than_its_input(engine, tmp_path):
    """In the file, by what is usual; without steadying the same shot flickers more than it did."""
    draw = np.random.default_rng(0)
    clean = pan(1, 48, 64)[0].astype(float)
    noisy = [(clean + draw.normal(0, 10, clean.shape)).clip(0, 255).astype(np.uint8) for _ in range(6)]
    source = tmp_path / "in.mkv"
    make_clip(source, noisy, codec="ffv1", pixels="yuv444p")

    def changes(path):
        frames = [frame.astype(float) for frame in frames_of(path)]
        return np.mean([np.abs(a - b).mean() for a, b in pairwise(frames)])

    run(engine, source, tmp_path / "out.mkv")
    run(engine, source, tmp_path / "loose.mkv", steady=0.0)
    assert changes(tmp_path / "out.mkv") <= changes(source)
    assert changes(tmp_path / "out.mkv") < 0.5 * changes(tmp_path / "loose.mkv")


@pytest.mark.parametrize("step", [0, 2])
def test_flicker_is_measured_and_kept_down(engine, step):
    draw = torch.Generator().manual_seed(0)
    wide = torch.rand(1, 3, 8, 12, generator=draw)
    wide = torch.nn.functional.interpolate(wide, (64, 96), mode="bicubic").clamp(0, 1)
    clip = [wide[..., step * i : step * i + 64] for i in range(6)]
    clip = [(frame + 0.04 * torch.randn(frame.shape, generator=draw)).clamp(0, 1) for frame in clip]

    def some(of, frames):
        return restore(of, frames, Request(), Runtime()).image_01

    def measured(steady):
        return flicker(zip(clip, Clip(engine, steady=steady).restored(clip, some), strict=True))

    before, after = measured(0.0), measured(0.8)
    assert before.given == after.given
    assert after.restored_ratio < before.restored_ratio
    if step == 0:
        assert after.restored_ratio < 0.5 < 1 < before.restored_ratio
    else:
        assert after.ratio < before.ratio


def test_flicker_of_what_is_known():
    light = [torch.full((1, 3, 8, 8), value) for value in (0.2, 0.3, 0.4)]
    twice = [frame + 0.1 * i for i, frame in enumerate(light)]
    found = flicker(zip(light, twice, strict=True))
    assert (found.given, found.restored, found.residual) == pytest.approx((0.1, 0.2, 0.1))
    assert found.ratio == pytest.approx(1)
    assert flicker([(light[0], light[0])] * 2).ratio == 0
    with pytest.raises(ShapeError, match="two frames"):
        flicker([(light[0], light[0])])


def test_reading_can_begin_anywhere(tmp_path):
    source = tmp_path / "in.mp4"
    times = make_clip(source, pan(12), g="5")
    clip = open_clip(source)
    whole = list(clip.frames())
    for begin in (times[0], times[4], times[7] - 1, times[11]):
        some = list(clip.frames(begin_at=begin))
        assert [frame.at for frame in some] == [at for at in times if at >= begin]
        assert torch.equal(some[0].image_01, whole[-len(some)].image_01)
    assert clip.notes == []
