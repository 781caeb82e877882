"""Every field of the table, from every format that carries it, into every format that is written."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, features

from hypir_core.errors import ImageFileError
from hypir_core.files.metadata.exif import text_in
from hypir_core.files.metadata.kept import FIELDS, OUTPUTS, Fate, fate
from hypir_core.files.picture import to_planes
from hypir_core.files.reading import read_picture, read_text
from hypir_core.files.writing import write_picture
from tests.field import carrying_files as made

CASES = [
    pytest.param(
        field.name,
        source,
        output,
        marks=[pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")]
        if source == "avif"
        else [],
        id=f"{field.name}-{source}-{output}",
    )
    for field in FIELDS.values()
    for source in field.carried_by
    for output in OUTPUTS
]
FACTOR = 2
UNSAID = frozenset({"thumbnail", "pages"})
"""Left out without a word of the writer: of no use in any new file; said by the reader."""


def test_every_field_has_a_file_that_carries_it():
    assert set(made.MAKERS) == set(FIELDS)


@pytest.mark.parametrize(("field", "source", "output"), CASES)
def test_round_trip(tmp_path, field, source, output):
    path = tmp_path / f"in.{source}"
    made.MAKERS[field](path, source)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    rule = fate(field, source, output)
    out = tmp_path / f"out.{output}"
    if rule.fate is Fate.refused:
        with pytest.raises(ImageFileError, match=r"expected .* got"):
            rewritten(path, out)
        assert not out.exists()
        return
    notes = rewritten(path, out)
    if rule.fate is Fate.left_out:
        assert absent(field, out)
        if field == "pages":
            assert "the first of 3" in " ".join(read_picture(path).notes)
        elif field not in UNSAID:
            assert any(rule.words in note for note in notes), notes
        return
    assert not any(FIELDS[field].meaning in note for note in notes), notes
    if output != "npy":
        assert notes == ()
    CHECKS[field](path, out, output)


@pytest.mark.parametrize(("field", "source", "output"), CASES)
def test_a_second_round_loses_nothing_more(tmp_path, field, source, output):
    """What the first written file carries, a second one of the same format carries too."""
    path, first, second = tmp_path / f"in.{source}", tmp_path / f"1.{output}", tmp_path / f"2.{output}"
    made.MAKERS[field](path, source)
    if fate(field, source, output).fate is Fate.refused:
        return
    rewritten(path, first, factor=1)
    rewritten(first, second, factor=1)
    one, other = read_picture(first), read_picture(second)
    assert other.icc == one.icc
    assert other.carried == one.carried
    assert (other.exif is None) == (one.exif is None)


def rewritten(path, out, *, factor=FACTOR):
    picture = read_picture(path)
    color, alpha = to_planes(picture)
    color = color.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    alpha = None if alpha is None else alpha.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return write_picture(out, color, alpha_01=alpha, like=picture, keep_dates=True)


def absent(field, out):
    data = out.read_bytes()
    marks = {
        "thumbnail": b"THUMBNAIL",
        "xmp": b"By the lake",
        "iptc": b"Lakes",
        "comments": made.COMMENT.encode(),
        "text": b"Nobody",
        "exif": b"Maker",
        "raw exif": b"Maker",
        "icc": b"acsp",
        "grey icc": b"acsp",
        "credentials": b"signed",
    }
    if field == "pages":
        return read_picture(out).pages == 1
    if field == "coordinates" and out.suffix == ".tiff":
        return False
    return marks[field] not in data if field in marks else True


def profile_of(out):
    found = made.pillow_info(out)["icc_profile"]
    ImageCms.ImageCmsProfile(io.BytesIO(found))
    return found


def curve_values(profile, samples):
    """Take grey or colour samples through a profile to the L* of Lab."""
    mode = "RGB" if profile[16:20] == b"RGB " else "L"
    image = Image.fromarray(samples if mode == "L" else np.stack([samples] * 3, 2))
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    to_lab = ImageCms.buildTransform(opened, ImageCms.createProfile("LAB"), mode, "LAB")
    return np.asarray(ImageCms.applyTransform(image, to_lab))[..., 0].astype(int)


def check_icc(_path, out, _output):
    assert profile_of(out) == made.rgb_profile()


def check_grey_icc(_path, out, output):
    profile = profile_of(out)
    if output != "webp":
        assert profile == made.grey_profile()
        return
    ramp = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_allclose(curve_values(profile, ramp), curve_values(made.grey_profile(), ramp), atol=1)


def check_cmyk(path, out, output):
    if output == "npy":
        assert np.load(out).shape == (48, 80, 3)
        return
    with Image.open(out) as written, Image.open(path) as source:
        assert written.mode == "RGB"
        assert written.info.get("icc_profile") is None
        expected = np.asarray(source.convert("RGB").resize((80, 48), Image.Resampling.NEAREST)).astype(int)
        loss = {"png": 0, "tiff": 0}.get(output, 30)
        assert np.abs(np.asarray(written).astype(int) - expected).mean() <= loss


def check_png_color(path, out, output):
    if output == "png":
        data = out.read_bytes()
        for name in (b"cHRM", b"gAMA"):
            at = path.read_bytes().index(name)
            length = {b"cHRM": 32, b"gAMA": 4}[name]
            assert path.read_bytes()[at : at + 4 + length] in data
        return
    profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_of(out))).profile
    # Display P3 adapted to D50 (Apple's own profile says 0.5151 0.2412 −0.0011 for red).
    np.testing.assert_allclose(profile.red_colorant[0], (0.5151, 0.2412, -0.0011), atol=2e-3)
    np.testing.assert_allclose(profile.green_colorant[0], (0.2919, 0.6922, 0.0419), atol=2e-3)
    np.testing.assert_allclose(profile.blue_colorant[0], (0.1572, 0.0666, 0.7841), atol=2e-3)


def check_exif(_path, out, _output):
    found = made.pillow_info(out)
    assert found["exif tags"][0x010F] == "Maker"
    assert found["gps"][1] == "N"


def check_raw_exif(_path, out, output):
    check_exif(_path, out, output)
    assert made.pillow_info(out)["exif tags"].get(0x0112, 1) == 1
    assert read_picture(out).size_hw == (80, 48)


def check_orientation(_path, out, output):
    picture = read_picture(out)
    assert picture.size_hw == (80, 48)
    assert picture.orientation == 1
    bright = to_planes(picture)[0].mean(1)[0]
    assert bright[:40, 24:].mean() > 0.7  # the marked corner is now the upper right
    assert bright[40:].mean() < 0.3
    if output != "npy":
        assert made.pillow_info(out)["exif tags"].get(0x0112, 1) == 1


def check_xmp(_path, out, output):
    if output == "png":
        assert made.pillow_info(out)["XML:com.adobe.xmp"].encode() == made.XMP
    else:
        assert made.pillow_info(out)["xmp"] == made.XMP


def check_iptc(_path, out, output):
    if output == "jpg":
        found = made.pillow_info(out)["photoshop"][0x0404]
    elif output == "tiff":
        with tifffile.TiffFile(out) as opened:
            found = bytes(opened.pages.first.tags[33723].value)
    else:
        words = made.pillow_info(out)["Raw profile type iptc"].split("\n")
        assert words[1] == "iptc"
        data = bytes.fromhex("".join(words[3:]))
        assert len(data) == int(words[2])
        assert data == made.IMAGE_RESOURCE
        return
    assert found == made.IPTC


def user_comment(out):
    raw = made.pillow_info(out)["photo"][0x9286]
    assert raw[:8] == b"ASCII\0\0\0"
    return json.loads(raw[8:])


def check_comments(_path, out, output):
    if output == "png":
        assert made.pillow_info(out)["Comment"] == made.COMMENT
    elif output == "jpg":
        assert made.pillow_info(out)["comment"] == made.COMMENT.encode()
    else:
        assert user_comment(out) == {"Comment": made.COMMENT}


def check_text(_path, out, output):
    expected = {"Author": "Nobody", "Warning": "none", "Title": "漢字"}
    if output == "png":
        found = made.pillow_info(out)
        assert {key: found[key] for key in expected} == expected
    else:
        assert user_comment(out) == expected


def check_density(_path, out, output):
    found = made.pillow_info(out)
    if output == "webp":
        assert float(found["exif tags"][282]) == pytest.approx(made.DPI, abs=0.5) or float(
            found["exif tags"][282]
        ) == pytest.approx(made.DPI / 2.54, abs=0.5)
        return
    assert [float(side) for side in found["dpi"]] == pytest.approx([made.DPI, made.DPI], abs=0.5)


def check_dates(_path, out, _output):
    assert out.stat().st_mtime == 1_000_000_000


def check_transparency(_path, out, _output):
    _, alpha = to_planes(read_picture(out))
    assert alpha is not None
    assert alpha[..., :40].max() < 0.05
    assert alpha[..., 40:].min() > 0.95


def check_depth(path, out, output):
    before, after = to_planes(read_picture(path))[0], to_planes(read_picture(out))[0]
    bits = {"png": 16, "tiff": read_picture(path).bits, "npy": 32}.get(output, 8)
    assert read_picture(out).bits == bits
    if output in ("jpg", "webp"):
        return
    worst = {8: 0.5 / 255, 16: 0.5 / 65535, 32: 0}[bits] if read_picture(path).bits == 32 else 1e-7
    assert (after[..., ::FACTOR, ::FACTOR] - before).abs().max() <= worst + 1e-7


def check_coordinates(_path, out, _output):
    with tifffile.TiffFile(out) as opened:
        tags = opened.pages.first.tags
        assert tuple(tags[34735].value) == made.GEO_KEYS
        assert tuple(tags[33550].value) == (0.25, 0.125, 0.0)  # the same ground, twice the pixels
        assert tuple(tags[33922].value) == made.GEO[33922]


CHECKS = {
    "icc": check_icc,
    "grey icc": check_grey_icc,
    "cmyk": check_cmyk,
    "png color": check_png_color,
    "exif": check_exif,
    "raw exif": check_raw_exif,
    "orientation": check_orientation,
    "xmp": check_xmp,
    "iptc": check_iptc,
    "comments": check_comments,
    "text": check_text,
    "density": check_density,
    "dates": check_dates,
    "transparency": check_transparency,
    "16 bit": check_depth,
    "float": check_depth,
    "coordinates": check_coordinates,
}


@pytest.mark.parametrize(
    ("code", "is_told"),
    [((1, 13), None), ((12, 13), True), ((9, 16), False), ((9, 18), False), ((9, 14), True)],
)
def test_cicp_becomes_a_profile_where_one_can_say_it(tmp_path, code, is_told):
    made.save(tmp_path / "in.png", "png")
    made.with_chunks(tmp_path / "in.png", (b"cICP", bytes([*code, 0, 1])))
    notes = rewritten(tmp_path / "in.png", tmp_path / "out.jpg")
    assert ("icc_profile" in made.pillow_info(tmp_path / "out.jpg")) == bool(is_told)
    assert any("cICP" in note for note in notes) == (is_told is False)
    rewritten(tmp_path / "in.png", tmp_path / "out.png")
    assert b"cICP" + bytes([*code, 0, 1]) in (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize("form", ["attribute", "element"])
@pytest.mark.parametrize("output", ["png", "jpg", "webp", "tiff"])
def test_xmp_tells_the_new_orientation_and_size(tmp_path, form, output):
    told = {
        "tiff:Orientation": 6,
        "tiff:ImageWidth": 40,
        "exif:PixelXDimension": 40,
        "exif:PixelYDimension": 24,
    }
    if form == "attribute":
        inner = " ".join(f'{key}="{value}"' for key, value in told.items()) + "/>"
    else:
        inner = ">" + "".join(f"<{key}>{value}</{key}>" for key, value in told.items()) + "</rdf:Description>"
    xmp = b"<x:xmpmeta><rdf:RDF><rdf:Description " + inner.encode() + b"</rdf:RDF></x:xmpmeta>"
    made.save(tmp_path / "in.jpg", "jpg", xmp=xmp, exif=made.exif_block(6))
    rewritten(tmp_path / "in.jpg", tmp_path / f"out.{output}")
    found = read_picture(tmp_path / f"out.{output}").carried.xmp
    expected = xmp.replace(b"6<", b"1<").replace(b'"6"', b'"1"')
    for key, value in (("tiff:ImageWidth", 48), ("exif:PixelXDimension", 48), ("exif:PixelYDimension", 80)):
        old = str(told[key]).encode()
        name = key.encode()
        expected = expected.replace(name + b'="' + old, name + f'="{value}'.encode())
        expected = expected.replace(name + b">" + old, name + f">{value}".encode())
    assert found == expected


def test_what_is_too_long_for_a_jpeg_is_said(tmp_path):
    text = made.XMP.replace(b"By the lake", b"x" * 70000)
    made.save(tmp_path / "in.webp", "webp", xmp=text)
    notes = rewritten(tmp_path / "in.webp", tmp_path / "out.jpg")
    assert any("XMP is left out" in note for note in notes)
    padded = made.XMP.replace(b"<?xpacket end", b" " * 70000 + b"<?xpacket end")
    made.save(tmp_path / "in2.webp", "webp", xmp=padded)
    assert rewritten(tmp_path / "in2.webp", tmp_path / "out2.jpg") == ()
    assert b"By the lake" in (tmp_path / "out2.jpg").read_bytes()


@pytest.mark.parametrize("output", ["png", "jpg", "webp", "tiff"])
def test_words_of_our_own_stand_beside_those_of_others(tmp_path, output):
    made.MAKERS["text"](tmp_path / "in.png", "png")
    picture = read_picture(tmp_path / "in.png")
    out = tmp_path / f"out.{output}"
    for report in ("first", "second"):
        write_picture(out, to_planes(picture)[0], like=picture, text={"hypir.report": report}, force=True)
        again = read_text(out)
        assert again["hypir.report"] == report
        assert again["Title"] == "漢字"
        out.rename(tmp_path / f"kept.{output}")
        picture = read_picture(tmp_path / f"kept.{output}")


@pytest.mark.parametrize("output", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("between", ["png", "jpg"])
def test_our_words_tell_of_one_picture_only(tmp_path, between, output):
    color = to_planes(read_picture_of_noise(tmp_path))[0]
    first = tmp_path / f"1.{between}"
    write_picture(first, color, text={"hypir.key": "k", "hypir.report": "r", "note": "n"})
    rewritten(first, tmp_path / f"2.{output}")
    assert all_words(tmp_path / f"2.{output}") == {"note": "n"}
    write_picture(tmp_path / f"3.{output}", color, like=read_picture(first), text={"hypir.report": "new"})
    assert all_words(tmp_path / f"3.{output}") == {"note": "n", "hypir.report": "new"}


def all_words(path):
    return {**text_in(read_picture(path).exif), **read_text(path)}


def read_picture_of_noise(tmp_path):
    made.save(tmp_path / "noise.png", "png")
    return read_picture(tmp_path / "noise.png")
