"""Which pictures may be trained on, how packages say so, and how photographs become tiles."""

from __future__ import annotations

import os
import struct
import zlib
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "scripts" / "fetch_training_photos"

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: The Authors
License: GPL-2+
 Some text.
 .
 More of it.

Files: art/*.jpg
       art/extra.png
Copyright: 2018, A. Painter
License: CC-BY-4.0
Comment: from
 https://example.org/File:One.jpg

Files: art/two.jpg
Copyright: none
License: CC-BY-SA-4.0
"""


def module_from_path(path: Path):
    """Import the script itself, whose name every program has."""
    spec = spec_from_file_location("fetch_training_photos_main", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scripts(monkeypatch):
    """Return a way to import the script's parts."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module


def test_the_last_paragraph_that_matches_a_file_tells_its_terms(scripts):
    terms = scripts("licences").terms_by_file
    one = terms(COPYRIGHT, "art/one.jpg")
    assert (one.licence, one.author) == ("CC-BY-4.0", "2018, A. Painter")
    assert one.link == "https://example.org/File:One.jpg"
    assert terms(COPYRIGHT, "art/extra.png").licence == "CC-BY-4.0"
    two = terms(COPYRIGHT, "art/two.jpg")
    assert (two.licence, two.author) == ("CC-BY-SA-4.0", "")
    assert terms(COPYRIGHT, "other/one.jpg").licence == "GPL-2+"
    assert terms(COPYRIGHT.replace("Files: *", "Files: src/*"), "other/one.jpg") is None
    repacked = terms(COPYRIGHT, "art/one.webp", "art/one.jpg")
    assert repacked.licence == "CC-BY-4.0"


@pytest.mark.parametrize("licence", ["public-domain", "PD", "CC0", "CC0-1.0", "CC-BY-2.0", "cc-by-4.0"])
def test_free_licences_are_taken(scripts, licence):
    module = scripts("licences")
    assert module.refusal(module.Terms(licence=licence, author="A")) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (None, "no terms"),
        ({"licence": "CC-BY-SA-4.0", "author": "A"}, "CC-BY-SA-4.0 is not on the list"),
        ({"licence": "CC-BY-NC-4.0", "author": "A"}, "not on the list"),
        ({"licence": "GPL-2+", "author": "A"}, "not on the list"),
        ({"licence": "CC-BY-4.0 or GPL-2+", "author": "A"}, "not on the list"),
        ({"licence": "", "author": "A"}, "none named"),
        ({"licence": "CC-BY-4.0", "author": ""}, "asks for an author"),
        (
            {"licence": "CC-BY-2.0", "author": "A", "link": "https://x.org/Rock_(by-sa).jpg"},
            "origin says otherwise",
        ),
    ],
)
def test_other_terms_are_refused_with_the_reason(scripts, fields, why):
    module = scripts("licences")
    terms = None if fields is None else module.Terms(**fields)
    assert why in module.refusal(terms)


def test_pictures_that_no_camera_took_are_refused_by_their_names(scripts):
    module = scripts("licences")
    terms = module.Terms(licence="CC0", author="A")
    assert "no camera" in module.refusal(terms, "budgie/ai_generated_wood.jpg")
    assert module.refusal(terms, "budgie/rain_generated_mist.jpg") is None
    assert module.refusal(terms, "budgie/wood.jpg") is None


def test_the_packages_of_several_releases_are_read_from_where_each_lays_its_pictures(scripts, tmp_path):
    sources = scripts("sources")
    first, second = sources.of_releases("walls", "focal jammy", "share/{}", "usr/{}/")
    assert (first.package, second.package) == ("walls-focal", "walls-jammy")
    stated = "Files: *\nLicense: GPL-3\n\nFiles: usr/jammy/free.jpg\nCopyright: A\nLicense: CC0\n"
    for path, content in (
        ("doc/walls-jammy/copyright", stated),
        ("jammy/free.jpg", "1"),
        ("jammy/other.jpg", "2"),
    ):
        place = tmp_path / ("usr/share" if path.startswith("doc") else "share") / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
    assert {found.path: found.terms.licence for found in second.pictures(tmp_path)} == {
        "usr/jammy/free.jpg": "CC0",
        "usr/jammy/other.jpg": "GPL-3",
    }


def test_a_sample_has_terms_only_while_its_package_still_says_so(scripts, tmp_path):
    sources = scripts("sources")
    (tmp_path / "a.png").write_bytes(b"picture")
    said = 'def a():\n    """No restrictions.  CC0 by\n    the photographer."""\ndef b():\n    """Copyright."""\n'
    (tmp_path / "text.py").write_text(said, encoding="utf-8")
    kept, lost = (
        sources.Sample(
            file="a.png",
            says=sources.stated_in(function, "CC0 by the photographer"),
            licence="CC0",
            author="A",
        )
        for function in ("a", "b")
    )
    found = sources.Samples(package="p", folder="", text="text.py", samples=(kept, lost)).pictures(tmp_path)
    assert [one.terms and one.terms.licence for one in found] == ["CC0", None]


def resource_file(files: dict[str, bytes], *, version: int) -> bytes:
    """Return a Qt resource file with one folder; contents of more than 4 bytes are packed with zlib."""
    names, data, nodes = b"", b"", []
    times = b"\0" * 8 if version > 1 else b""

    def name(text: str) -> int:
        nonlocal names
        at = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return at

    nodes.append(struct.pack(">IHII", 0, 2, 1, 1) + times)
    nodes.append(struct.pack(">IHII", name("folder"), 2, len(files), 2) + times)
    for text, content in files.items():
        packed = len(content) > 4
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if packed else content
        nodes.append(struct.pack(">IHHHI", name(text), int(packed), 0, 0, len(data)) + times)
        data += struct.pack(">I", len(stored)) + stored
    head = 20 if version < 3 else 24
    tree = b"".join(nodes)
    at = (head, head + len(tree), head + len(tree) + len(data))
    return struct.pack(">4sIIII", b"qres", version, *at) + b"\0" * (head - 20) + tree + data + names


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_come_out_of_qt_resources_packed_or_not(scripts, version):
    files = {"a.webp": b"abcd", "ü.jpg": b"longer than four"}
    members = dict(scripts("qt_resources").members(resource_file(files, version=version)))
    assert members == {f"/folder/{name}": content for name, content in files.items()}
    with pytest.raises(ValueError, match="qres"):
        list(scripts("qt_resources").members(b"something else, and long enough to have a head"))


def test_tiles_cover_a_shrunk_photograph_and_leave_most_of_what_is_flat(scripts, tmp_path):
    tiles = scripts("tiles")
    pixels = np.full((600, 1500, 3), 90, np.uint8)
    pixels[:, :700] = np.random.default_rng(0).integers(0, 256, (600, 700, 3))
    photo = tmp_path / "photo.png"
    Image.fromarray(pixels).save(photo)
    out = tmp_path / "tiles"
    out.mkdir()
    written, left = tiles.write_tiles(photo, out, 200)
    files = sorted(path.name for path in out.iterdir())
    plain = [name for name in files if name.count("--") == 2]
    assert len(plain) == written
    assert {name.split("--")[1] for name in plain} == {"1100", "700", "480", "330"}
    flat = [name for name in files if "--flat" in name]
    assert len(flat) == left // tiles.FLAT_KEPT_EVERY > 0
    assert tiles.starts(1100, 384) == [0, 358, 716]
    assert tiles.starts(200, 384) == [0]


def test_some_tiles_come_in_strong_colours_too_and_drawings_reach_pure_ones(scripts, tmp_path):
    tiles = scripts("tiles")
    calm = Image.fromarray(np.random.default_rng(0).integers(100, 156, (400, 400, 3)).astype(np.uint8))
    photo = tmp_path / "photo.png"
    calm.save(photo)
    out = tmp_path / "tiles"
    out.mkdir()
    written, _ = tiles.write_tiles(photo, out, 150)
    strong = [path for path in out.iterdir() if "recoloured" in path.name]
    assert (written, len(strong)) == (9, 1)

    def spread(picture: Image.Image) -> float:
        return float(np.ptp(np.asarray(picture, dtype=float), axis=-1).mean())

    with Image.open(strong[0]) as again:
        assert spread(again) > 1.5 * spread(calm)
    tiles.write_drawings(out, 2, 64)
    first, second = (np.asarray(Image.open(out / f"drawn--0{number}.png")) for number in (0, 1))
    assert first.shape == (64, 64, 3)
    assert not np.array_equal(first, second)
    colours = np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)])
    pure = np.isin(colours, (0, 255)).all(-1)
    assert pure.mean() > 0.1
    assert np.array_equal(np.asarray(tiles.drawn(64, 0)), first)


def test_some_tiles_come_out_of_focus_too_in_other_colours(scripts, tmp_path):
    tiles = scripts("tiles")
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)).save(photo)
    out = tmp_path / "tiles"
    out.mkdir()
    written, _ = tiles.write_tiles(photo, out, 150)
    (soft,) = [path for path in out.iterdir() if "out-of-focus" in path.name]
    assert written == 9
    with Image.open(soft) as blurred, Image.open(str(soft).replace("--out-of-focus", "")) as sharp:
        assert (
            np.diff(np.asarray(blurred, float), axis=0).std()
            < 0.1 * np.diff(np.asarray(sharp, float), axis=0).std()
        )
    red = Image.new("RGB", (64, 64), (200, 100, 50))
    made = [np.asarray(tiles.out_of_focus(red, seed), float)[32, 32] for seed in range(8)]
    assert len({int(pixel.argmax()) for pixel in made}) == 3
    assert max(np.ptp(pixel) / pixel.mean() for pixel in made) > 1.2 * 150 / (350 / 3)


def test_an_archive_laid_aside_is_used_and_an_unknown_package_is_none(scripts, monkeypatch, tmp_path):
    main = module_from_path(FOLDER / "__main__.py")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {"apt-cache": "exit 100", "dpkg-deb": 'mkdir -p "$3"; cp "$2" "$3/"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert main.unpacked("pictures", tmp_path) is None
    (tmp_path / "downloads" / "pictures_3.0_all.deb").write_bytes(b"archive")
    assert [path.name for path in main.unpacked("pictures", tmp_path).iterdir()] == ["pictures_3.0_all.deb"]
