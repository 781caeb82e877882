"""The page about what files keep is the table that the writer uses, and files do keep it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from hypir_core.files.metadata.kept import FIELDS, OUTPUTS, Fate, markdown_table
from hypir_core.files.picture import to_planes
from hypir_core.files.reading import read_picture
from hypir_core.files.writing import write_picture

ROOT = Path(__file__).parents[2]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'


def test_the_page_is_the_table():
    page = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    assert page.endswith(markdown_table()), (
        "docs/reference/files.md: paste what kept.markdown_table() returns"
    )
    assert {rule.fate for field in FIELDS.values() for rule in field.outputs.values()} <= set(Fate)


def photograph(path: Path) -> Path:
    """A picture with a profile, EXIF, XMP, a density and a text, as programs write them."""
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F], exif[0x0132] = "Maker", "2001:02:03 04:05:06"
    options: dict = {"icc_profile": profile, "exif": exif, "dpi": (300, 300)}
    if path.suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Title", "A boat")
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = text
    elif path.suffix in {".jpg", ".webp"}:
        options["xmp"] = XMP
        if path.suffix == ".webp":
            options.pop("dpi")
    image.save(path, **options)
    return path


def carried(path: Path) -> dict[str, object]:
    with Image.open(path) as image:
        image.load()
        dpi = image.info.get("dpi")
        return {
            "icc": bool(image.info.get("icc_profile")),
            "maker": image.getexif().get(0x010F),
            "dpi": None if dpi is None else round(float(dpi[0])),
            "xmp": b"xmpmeta" in path.read_bytes(),
        }


@pytest.mark.parametrize("output", [name for name in OUTPUTS if name != "npy"])
@pytest.mark.parametrize("source", ["png", "jpg", "webp", "tif"])
def test_round_trip(tmp_path, source, output):
    ending = {"tiff": "tif"}.get(output, output)
    picture = read_picture(photograph(tmp_path / f"in.{source}"))
    color, _ = to_planes(picture)
    write_picture(tmp_path / f"out.{ending}", color, like=picture)
    before, after = carried(tmp_path / f"in.{source}"), carried(tmp_path / f"out.{ending}")
    assert after["icc"] == before["icc"]
    assert after["maker"] == before["maker"]
    assert after["xmp"] == before["xmp"]
    if output != "webp" and before["dpi"] is not None:
        assert after["dpi"] == pytest.approx(before["dpi"], abs=1)


def test_what_a_format_cannot_hold_is_said(tmp_path):
    picture = read_picture(photograph(tmp_path / "in.png"))
    color, _ = to_planes(picture)
    notes = write_picture(tmp_path / "out.npy", color, like=picture)
    assert notes
    assert any("npy" in note for note in notes)


def test_bands_and_pages_that_cannot_be_kept_are_errors(tmp_path):
    import tifffile

    from hypir_core.errors import ImageFileError

    tifffile.imwrite(
        tmp_path / "bands.tif",
        np.zeros((8, 8, 13), np.uint16),
        photometric="minisblack",
        planarconfig="contig",
    )
    with pytest.raises(ImageFileError, match="13"):
        read_picture(tmp_path / "bands.tif")
    tifffile.imwrite(
        tmp_path / "five.tif", np.zeros((8, 8, 5), np.uint8), photometric="rgb", planarconfig="contig"
    )
    with pytest.raises(ImageFileError, match="5"):
        read_picture(tmp_path / "five.tif")
    assert read_picture(tmp_path / "bands.tif", bands="any").color_hwc.shape == (8, 8, 13)
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    (tmp_path / "grey.png").write_bytes(buffer.getvalue())
    assert read_picture(tmp_path / "grey.png").pages == 1


def rewritten(tmp_path: Path, source: Path, ending: str, **options: object) -> Path:
    picture = read_picture(source)
    color, alpha = to_planes(picture)
    out = tmp_path / f"again.{ending}"
    write_picture(out, color, alpha_01=alpha, like=picture, **options)  # type: ignore[arg-type]
    return out


def noise(path: Path, mode: str = "RGB", **options: object) -> Path:
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_comments(tmp_path, ending):
    source = noise(tmp_path / "in.jpg", comment=b"by the lake")
    assert b"by the lake" in rewritten(tmp_path, source, ending).read_bytes()


def test_text_chunks(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Nobody")
    text.add_itxt("Title", "Grüße 漢字")
    source = noise(tmp_path / "in.png", pnginfo=text)
    with Image.open(rewritten(tmp_path, source, "png")) as again:
        again.load()
        assert again.info["Author"] == "Nobody"
        assert again.info["Title"] == "Grüße 漢字"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(path: Path, kind: bytes, data: bytes) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[:33] + chunk(kind, data) + whole[33:])  # after the signature and IHDR
    return path


@pytest.mark.parametrize(
    ("kind", "data"),
    [(b"gAMA", struct.pack(">I", 45455)), (b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\x00")],
)
def test_png_colour_chunks(tmp_path, kind, data):
    source = with_chunk(noise(tmp_path / "in.png"), kind, data)
    assert kind + data in rewritten(tmp_path, source, "png").read_bytes()
    if data == struct.pack(">I", 100000):  # not the usual curve: elsewhere a profile says so
        with Image.open(rewritten(tmp_path, source, "jpg")) as again:
            assert again.info.get("icc_profile")


def test_exif_as_text_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    block = exif.tobytes()
    raw = f"\nexif\n{len(block):8}\n{block.hex()}\n"
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", raw, zip=True)
    picture = read_picture(noise(tmp_path / "in.png", pnginfo=text))
    assert picture.size_hw == (30, 20)
    again = read_picture(rewritten(tmp_path, tmp_path / "in.png", "jpg"))
    assert again.size_hw == (30, 20)
    assert carried(tmp_path / "again.jpg")["maker"] == "Maker"


def test_a_grey_profile_in_a_format_without_grey(tmp_path):
    """Pillow makes no grey profile; a gamma of 1.0 in a grey PNG asks for one."""
    source = with_chunk(noise(tmp_path / "in.png", "L"), b"gAMA", struct.pack(">I", 100000))
    with Image.open(rewritten(tmp_path, source, "webp")) as again:
        assert again.mode == "RGB"
        assert again.info.get("icc_profile", b"")[16:20] in {b"RGB ", b""}


def test_iptc(tmp_path):
    record = b"\x1c\x02\x78\x00\x04Lake"  # caption
    block = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(record)) + record + b"\x00" * (len(record) % 2)
    source = noise(tmp_path / "in.jpg")
    whole = source.read_bytes()
    segment = b"Photoshop 3.0\x00" + block
    source.write_bytes(whole[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + whole[2:])
    assert record in rewritten(tmp_path, source, "jpg").read_bytes()


def test_dates(tmp_path):
    source = noise(tmp_path / "in.png")
    os.utime(source, (1_000_000_000, 1_000_000_000))
    assert rewritten(tmp_path, source, "png", keep_dates=True).stat().st_mtime == 1_000_000_000
    (tmp_path / "again.png").unlink()
    assert rewritten(tmp_path, source, "png").stat().st_mtime > 1_500_000_000


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits(tmp_path, ending):
    samples = np.random.default_rng(0).integers(0, 65536, (9, 11), dtype=np.uint16)
    Image.fromarray(samples).save(tmp_path / "in.png")
    again = read_picture(rewritten(tmp_path, tmp_path / "in.png", ending))
    np.testing.assert_array_equal(again.color_hwc[..., 0], samples)
