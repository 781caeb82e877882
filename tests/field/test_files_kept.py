"""The page about what files keep is the table that the writer uses, and files do keep it."""

from __future__ import annotations

import io
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
