"""What a person gets for bad input of large runs: one line, the right exit code, nothing under a final name."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hypir_core.cli import main

USAGE, FAILED = 2, 1


def told_in_one_line(capsys, *words: object) -> tuple[int, str]:
    """Run `hypir restore`; return its exit code and the one line that it said."""
    code = main(["restore", *map(str, words), "--device", "cpu", "--scale", "1"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return code, lines[0]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(2):
        Image.new("RGB", (6, 5), (90 * i, 40, 90)).save(folder / f"{i}.png")
    return folder


def nothing_made(tmp_path: Path) -> bool:
    return not [path for path in tmp_path.rglob("*") if "out" in path.name]


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """The environment of someone who has no credentials, on a machine that answers for none."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "no-such-file"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.mark.parametrize("words", [("s3://photos/in", "-o", "x"), ("{}", "-o", "s3://photos/x")])
def test_missing_credentials_of_a_bucket(nobody, photos, tmp_path, capsys, monkeypatch, words):
    """By the package itself: it looks for credentials before it asks anybody."""
    pytest.importorskip("s3fs", reason="needs the extra cloud")
    monkeypatch.chdir(tmp_path)
    code, said = told_in_one_line(capsys, *(word.format(photos) for word in words))
    assert code == FAILED
    assert "s3://photos/" in said
    assert "credentials" in said.partition(": ")[2].lower()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_bucket_that_is_not_there(tmp_path, capsys):
    pytest.importorskip("fsspec", reason="needs the extra cloud")
    code, said = told_in_one_line(capsys, "memory://no-such-bucket/in", "-o", tmp_path / "out")
    assert (code, "no such bucket" in said) == (FAILED, True)
    assert nothing_made(tmp_path)


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "0/0", "x", "1"])
def test_a_shard_out_of_range(photos, tmp_path, capsys, shard):
    code, said = told_in_one_line(capsys, photos, "-o", tmp_path / "out", f"--shard={shard}")
    assert code == USAGE
    assert "--shard: expected I/N" in said
    assert nothing_made(tmp_path)


def test_a_ray_head_that_does_not_answer(photos, tmp_path, capsys, monkeypatch):
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = told_in_one_line(capsys, photos, "-o", tmp_path / "out", "--ray", address)
    assert code == USAGE
    assert f"--ray {address}: expected the head of a Ray cluster, got no answer" in said
    assert nothing_made(tmp_path)


def test_a_clip_without_pictures(tmp_path, capsys):
    clip_maker = pytest.importorskip("tests.core.clip_maker")
    av = clip_maker.av
    clip_maker.make_clip(tmp_path / "whole.mp4", [np.zeros((16, 16, 3), np.uint8)] * 3, sound="aac")
    with av.open(str(tmp_path / "whole.mp4")) as given, av.open(str(tmp_path / "sound.mp4"), "w") as made:
        stream = made.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(given.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    code, said = told_in_one_line(capsys, tmp_path / "sound.mp4", "-o", tmp_path / "out.mp4")
    assert code == FAILED
    assert "sound.mp4: expected a clip with pictures, got a file with audio only" in said
    assert nothing_made(tmp_path)


def test_a_truncated_clip_is_restored_as_far_as_it_goes_and_it_is_said(tmp_path, capsys):
    clip_maker = pytest.importorskip("tests.core.clip_maker")
    draw = np.random.default_rng(0)
    frames = [draw.integers(0, 255, (32, 32, 3), np.uint8) for _ in range(12)]
    times = [18000 * i for i in range(12)]  # 0.2 s each: what is missing at the end is far more than rounding
    clip_maker.make_clip(tmp_path / "whole.mkv", frames, times=times, g="3", bf="0")
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    code, said = told_in_one_line(capsys, tmp_path / "cut.mkv", "-o", tmp_path / "out.mkv")
    assert code == 0
    shown = clip_maker.times_of(tmp_path / "out.mkv")
    assert 3 <= len(shown) < 12
    assert f"stopped at 0:{float(shown[-1]):05.2f}: the rest of the file is missing" in said
