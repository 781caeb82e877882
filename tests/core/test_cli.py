"""The command line as a person meets it."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hypir_core.batch.manifest import MANIFEST
from hypir_core.cli import main
from hypir_core.files.reading import read_text

EXAMPLES = Path(__file__).parents[2] / "hypir_core" / "examples"


def pixels_of(path: Path) -> Image.Image:
    """Open a picture, read it whole, close the file."""
    with Image.open(path) as picture:
        picture.load()
        return picture.copy()


def cat() -> Image.Image:
    return pixels_of(EXAMPLES / "cat.jpg")


@pytest.fixture
def photo(tmp_path) -> Path:
    """A small real photograph."""
    path = tmp_path / "photo.png"
    cat().crop((100, 60, 148, 96)).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two good pictures in a tree and a broken one."""
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    picture = cat()
    picture.crop((100, 60, 130, 90)).save(root / "a.png")
    picture.crop((150, 60, 180, 90)).save(root / "deep" / "b.jpg")
    (root / "broken.png").write_text("I am no picture")
    return root


def hypir(*words: object) -> int:
    return main([str(word) for word in words])


def test_restore_writes_picture_report_and_comparison(photo, tmp_path):
    out, report, compare = tmp_path / "out.png", tmp_path / "r.json", tmp_path / "c.png"
    assert hypir("restore", photo, "-o", out, "--report", report, "--compare", compare) == 0
    assert pixels_of(out).size == (192, 144)
    entry = json.loads(report.read_text())["results"][0]
    assert entry["status"] == "done"
    assert entry["report"]["stages"][0]["redundancy"] == 1.0
    written = read_text(out)
    assert json.loads(written["hypir.report"])["engine"] == "built-in"
    assert json.loads(written["hypir.report"])["output_px"] == [144, 192]
    assert min(pixels_of(compare).size) > 144


@pytest.mark.parametrize(
    ("flag", "value", "size"),
    [
        ("--scale", 1.5, (72, 54)),
        ("--longest-side", 100, (100, 75)),
        ("--shortest-side", 90, (120, 90)),
    ],
)
def test_sizes(photo, tmp_path, flag, value, size):
    out = tmp_path / "out.webp"
    assert hypir("restore", photo, "-o", out, flag, value) == 0
    assert pixels_of(out).size == size


def test_npy_is_float32_hwc_in_0_1(photo, tmp_path):
    out = tmp_path / "out.npy"
    assert hypir("restore", photo, "-o", out, "--format", "npy", "--dtype", "float32") == 0
    pixels = np.load(out)
    assert pixels.shape == (144, 192, 3)
    assert pixels.dtype == np.float32
    assert 0 <= pixels.min() < pixels.max() <= 1


def test_strength_zero_is_the_resized_input(photo, tmp_path):
    out = tmp_path / "out.npy"
    assert hypir("restore", photo, "-o", out, "--format", "npy", "--strength", 0, "--scale", 2) == 0
    source = np.asarray(pixels_of(photo).convert("RGB"), dtype=np.float32) / 255
    planes = [Image.fromarray(source[..., c]).resize((96, 72), Image.Resampling.BICUBIC) for c in range(3)]
    expected = np.clip(np.stack([np.asarray(plane) for plane in planes], -1), 0, 1)
    np.testing.assert_allclose(np.load(out), expected, atol=2e-5)


def test_folder_keeps_its_structure_and_one_bad_file_does_not_stop_the_rest(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert hypir("restore", folder, "-o", out, "--scale", 1) == 1
    assert pixels_of(out / "a.png").size == (30, 30)
    assert pixels_of(out / "deep" / "b.jpg").size == (30, 30)
    said = capsys.readouterr().err
    assert "broken.png" in said
    assert "I am no picture" in said
    assert "1 of 3 pictures failed" in said
    assert "Traceback" not in said
    lines = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
    assert sorted(line["status"] for line in lines) == ["done", "done", "failed"]


def test_a_second_run_skips_what_is_finished_and_another_request_does_not(folder, tmp_path, capsys):
    (folder / "broken.png").unlink()
    out, report = tmp_path / "out", tmp_path / "r.json"
    assert hypir("restore", folder, "-o", out, "--scale", 1) == 0
    before = (out / "a.png").stat().st_mtime_ns
    assert hypir("restore", folder, "-o", out, "--scale", 1, "--report", report) == 0
    assert (out / "a.png").stat().st_mtime_ns == before
    assert {entry["status"] for entry in json.loads(report.read_text())["results"]} == {"skipped"}
    assert hypir("restore", folder, "-o", out, "--scale", 2) == 1
    assert "--force" in capsys.readouterr().err
    assert hypir("restore", folder, "-o", out, "--scale", 2, "--force") == 0
    assert pixels_of(out / "a.png").size == (60, 60)


def test_a_manifest_line_cut_off_by_a_stop_is_passed_over(folder, tmp_path):
    (folder / "broken.png").unlink()
    out = tmp_path / "out"
    assert hypir("restore", folder, "-o", out, "--scale", 1) == 0
    manifest = out / MANIFEST
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text(lines[0] + lines[1][:20])
    done = json.loads(lines[0])["output"]
    redone = next(out / name for name in ("a.png", "deep/b.jpg") if name != done)
    redone.unlink()
    assert hypir("restore", folder, "-o", out, "--scale", 1) == 0
    assert redone.exists()


def test_two_inputs_of_one_name_get_two_outputs(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    picture = cat().crop((0, 0, 12, 12))
    picture.save(source / "a.jpg")
    picture.save(source / "a.png")
    assert hypir("restore", source, "-o", tmp_path / "out", "--format", "png", "--scale", 1) == 0
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"a_jpg.png", "a_png.png"}


def test_globs(folder, tmp_path):
    assert hypir("restore", folder / "**" / "*.jpg", "-o", tmp_path / "out", "--scale", 1) == 0
    assert (tmp_path / "out" / "b.jpg").exists()


def test_alpha_is_restored_and_kept(tmp_path):
    rgba = cat().crop((100, 60, 124, 84)).convert("RGBA")
    alpha = Image.new("L", (24, 24), 0)
    alpha.paste(255, (0, 0, 12, 24))
    rgba.putalpha(alpha)
    rgba.save(tmp_path / "a.png")
    assert hypir("restore", tmp_path / "a.png", "-o", tmp_path / "out.png") == 0
    out = np.asarray(pixels_of(tmp_path / "out.png"))
    assert out.shape == (96, 96, 4)
    assert out[:, :40, 3].min() > 230  # a hard step rings a little
    assert out[:, 56:, 3].max() < 15
    assert hypir("restore", tmp_path / "a.png", "-o", tmp_path / "out.jpg") == 1
    assert not (tmp_path / "out.jpg").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "0"], "scale must be from 1 to 8, got 0"),
        (["--scale", "9"], "scale must be from 1 to 8, got 9"),
        (["--scale", "nan"], "scale must be from 1 to 8, got nan"),
        (["--scale", "two"], "valid number"),
        (["--tile", "2"], "tile must be at least 4 px"),
        (["--tile", "64", "--overlap", "64"], "overlap must be smaller than the tile"),
        (["--engine", "bulit-in"], "did you mean 'built-in'"),
        (["--option", "stpes=4"], "unknown key 'stpes'"),
        (["--option", "stpes"], "expected KEY=VALUE"),
        (["--color-fix", "wavlet"], "wavelet"),
        (["--dtype", "float8"], "dtype must be auto"),
        (["--device", "tpu"], "device must be auto"),
        (["--batch-tiles", "0"], "--batch-tiles must be auto"),
        (["--strength", "2"], "strength must be from 0 to 1"),
        (["--compare", "folder"], "--compare must be a file"),
        (["--format", "gif"], "webp"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(photo, tmp_path, capsys, words, message):
    assert hypir("restore", photo, "-o", tmp_path / "out.png", *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("hypir: ")
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out.png").exists()


def bomb(path: Path) -> Path:
    """A PNG whose header claims 100 000 × 100 000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (100_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def bad_files(root: Path) -> dict[str, Path]:
    whole = (EXAMPLES / "cat.jpg").read_bytes()
    (root / "empty.png").touch()
    (root / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "text.png").write_text("hello")
    np.save(root / "nan.npy", np.full((4, 4, 3), np.nan, dtype=np.float32))
    np.save(root / "none.npy", np.zeros((0, 4, 3), dtype=np.float32))
    bomb(root / "bomb.png")
    names = ["missing.png", "empty.png", "truncated.jpg", "text.png", "nan.npy", "none.npy", "bomb.png"]
    return {name: root / name for name in names}


@pytest.mark.parametrize("name", ["missing.png", "empty.png", "text.png", "nan.npy", "none.npy", "bomb.png"])
def test_bad_files_are_one_line_and_code_1(tmp_path, capsys, name):
    source = bad_files(tmp_path)[name]
    assert hypir("restore", source, "-o", tmp_path / "out" / "x.png") == 1
    said = capsys.readouterr().err
    assert name in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))


def test_outputs_are_never_overwritten_unasked_and_inputs_never(photo, tmp_path, capsys):
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    assert hypir("restore", photo, "-o", out) == 1
    assert out.read_bytes() == b"precious"
    before = photo.read_bytes()
    assert hypir("restore", photo, "-o", photo, "--force") == 1
    assert photo.read_bytes() == before
    assert "input" in capsys.readouterr().err


def test_an_output_below_a_file_is_refused(photo, capsys):
    assert hypir("restore", photo, "-o", photo / "x.png") == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(photo, tmp_path, capsys):
    small = tmp_path / "disk"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small disk: not root")
    try:
        assert hypir("restore", photo, "-o", small / "out.png") == 1
        said = capsys.readouterr().err
        assert "room on the disk" in said
        assert len(said.strip().splitlines()) == 1
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match="scale must be"):
        hypir("restore", "x.png", "-o", tmp_path / "y.png", "--scale", 0, "--debug")


def test_degrade_says_what_was_done_and_repeats(photo, tmp_path, capsys):
    for name in ("one.png", "two.png"):
        assert (
            hypir("degrade", photo, "-o", tmp_path / name, "--preset", "jpeg-web", "--scale", 2, "--seed", 5)
            == 0
        )
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert pixels_of(tmp_path / "one.png").size == (24, 18)
    assert "jpeg" in capsys.readouterr().out.lower()
    assert hypir("degrade", photo, "-o", tmp_path / "x.png", "--preset", "jpg-web") == 2
    assert "did you mean 'jpeg-web'" in capsys.readouterr().err


def test_eval_measures_and_names_what_is_missing(tmp_path, capsys):
    for name in ("ref", "out"):
        (tmp_path / name).mkdir()
    cat().save(tmp_path / "ref" / "cat.png")
    cat().save(tmp_path / "out" / "cat.jpg", quality=60)
    assert hypir("eval", tmp_path / "ref", tmp_path / "out", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert 25 < found["mean"]["psnr_y_db"] < 50
    assert 0.8 < found["mean"]["ssim"] < 1


def test_eval_measures_sixteen_bits(tmp_path, capsys):
    """Two results that differ by less than a level of 8 bits are not equal; rings say how fine they agree."""
    for name in ("ref", "near", "far"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    true = rng.integers(20_000, 40_000, (32, 40)).astype(np.uint16)
    coarse = np.repeat(np.repeat(true[::4, ::4], 4, 0), 4, 1)
    for name, values in (("ref", true), ("near", true + 50), ("far", coarse)):
        Image.fromarray(values).save(tmp_path / name / "plane.png")
    said = {}
    for name in ("near", "far"):
        assert hypir("eval", tmp_path / "ref", tmp_path / name, "--metrics", "psnr,ssim,frc", "--json") == 0
        said[name] = json.loads(capsys.readouterr().out)
    near, far = (said[name]["mean"] for name in ("near", "far"))
    assert near["psnr_db"] == pytest.approx(20 * math.log10(65535 / 50), abs=1e-3)
    assert near["frc_px"] == 2 < far["frc_px"]
    assert near["lpips"] is near["psnr_y_db"] is said["near"]["why_no_lpips"] is None
    assert hypir("eval", tmp_path / "ref", tmp_path / "far", "--metrics", "frc,psnr") == 0
    heading = next(line for line in capsys.readouterr().out.splitlines() if "FRC px" in line)
    assert "PSNR dB" in heading
    assert "SSIM" not in heading
    assert hypir("eval", tmp_path / "ref", tmp_path / "far", "--metrics", "fcr") == 2
    assert "did you mean 'frc'" in capsys.readouterr().err


def test_doctor_and_engines_speak_json(capsys):
    assert hypir("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["engines"]["built-in"]["usable"] is True
    assert hypir("engines", "--json") == 0
    assert "built-in" in {row["name"] for row in json.loads(capsys.readouterr().out)["engines"]}
    assert hypir("doctor") == 0
    assert hypir("--version") == 0


def test_demo_makes_pictures_to_look_at(tmp_path, capsys):
    earlier = tmp_path / "demo" / "beads-compare.png"
    earlier.parent.mkdir()
    earlier.touch()
    assert hypir("demo", "-o", tmp_path / "demo") == 0
    assert len(list((tmp_path / "demo").glob("*-compare.png"))) == 4
    said = capsys.readouterr().out
    assert "restored" in said
    assert "cat-compare.png" in said
    assert earlier.name not in said  # another demo's


def test_ctrl_c_leaves_finished_files_and_a_usable_manifest(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for index in range(12):
        shutil.copy(EXAMPLES / "cat.jpg", source / f"{index:02}.jpg")
    out = tmp_path / "out"
    # A shell that runs the tests in the background has Ctrl-C ignored, and children inherit that.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from hypir_core.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.Popen(
        [*command, "restore", str(source), "-o", str(out), "--dtype", "float32"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not (out / MANIFEST).exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in said
    finished = [json.loads(line)["output"] for line in (out / MANIFEST).read_text().splitlines()]
    assert 1 <= len(finished) < 12
    assert sorted(p.name for p in out.glob("*.jpg")) == sorted(finished)
    assert not list(out.glob(".*.tmp"))
    for path in finished:
        pixels_of(out / path)
