"""Files that carry one thing besides pixels, made as other programs make them, for the round trips."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from tests.core.picture_samples import png_chunk, random_samples

SIZE_HW = (24, 40)
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:dc="http://purl.org/dc/" '
    b'dc:title="By the lake"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x78\x00\x05Lakes" + b"\x1c\x02\x50\x00\x06Nobody"
IMAGE_RESOURCE = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
COMMENT = "Grüße vom See"
DPI = 240
GEO = {33550: (0.5, 0.25, 0.0), 33922: (0.0, 0.0, 0.0, 100.0, 200.0, 0.0)}
GEO_KEYS = (1, 1, 0, 1, 1024, 0, 1, 1)
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
EXTENSION = {"jp2": ".jp2", "tiff": ".tif"}


@cache
def rgb_profile() -> bytes:
    """sRGB; made once, because the second in which it was made stands in it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile(gamma: float = 1.8) -> bytes:
    """An ICC v2 grey profile with one gamma."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    table = struct.pack(">I", 2)
    table += struct.pack(">4sII4sII", b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    head = struct.pack(
        ">I4sI4s4s4s", 156 + len(white) + len(curve), b"", 0x02400000, b"mntr", b"GRAY", b"XYZ "
    )
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + white[8:]
    return head.ljust(128, b"\0") + table + white + curve


def exif_block(orientation: int | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    if orientation is not None:
        exif[0x0112] = orientation
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def save(path: Path, name: str, image: Image.Image | None = None, **options: object) -> None:
    """Save a picture with Pillow; without one, random colours."""
    image = image or Image.fromarray(random_samples((*SIZE_HW, 3), "uint8"))
    kind = {"jpg": "JPEG", "jp2": "JPEG2000"}.get(name, name.upper())
    image.save(path, kind, **options)  # type: ignore[arg-type]


def with_chunks(path: Path, *chunks: tuple[bytes, bytes]) -> None:
    """Put chunks behind the IHDR of a PNG."""
    whole = path.read_bytes()
    path.write_bytes(whole[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + whole[33:])


def with_segment(path: Path, marker: int, data: bytes) -> None:
    """Put a segment behind the start of a JPEG."""
    whole = path.read_bytes()
    path.write_bytes(whole[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + whole[2:])


def box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + name + data


def with_jp2_header_box(path: Path, data: bytes, *, instead_of: bytes = b"") -> None:
    """Add a box to the header box of a JPEG 2000 file, or replace one."""
    whole = path.read_bytes()
    at = whole.index(b"jp2h") - 4
    (size,) = struct.unpack_from(">I", whole, at)
    inner = whole[at + 8 : at + size]
    if instead_of:
        place = inner.index(instead_of) - 4
        (length,) = struct.unpack_from(">I", inner, place)
        inner = inner[:place] + inner[place + length :]
    path.write_bytes(whole[:at] + box(b"jp2h", inner + data) + whole[at + size :])


def with_jp2_box(path: Path, data: bytes) -> None:
    """Put a box in front of the code stream of a JPEG 2000 file."""
    whole = path.read_bytes()
    at = whole.index(b"jp2c") - 4
    path.write_bytes(whole[:at] + data + whole[at:])


def raw_profile(name: str, data: bytes) -> PngImagePlugin.PngInfo:
    """ImageMagick's text chunk for bytes."""
    text = PngImagePlugin.PngInfo()
    digits = data.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    text.add_text(f"Raw profile type {name}", "\n".join(["", name, f"{len(data):8}", *lines, ""]), zip=True)
    return text


def _icc(path: Path, name: str) -> None:
    if name == "bmp":
        _bmp_with_profile(path, rgb_profile())
    elif name == "jp2":
        save(path, name)
        with_jp2_header_box(path, box(b"colr", b"\2\0\0" + rgb_profile()), instead_of=b"colr")
    else:
        save(path, name, icc_profile=rgb_profile())


def _bmp_with_profile(path: Path, profile: bytes) -> None:
    """A BMP of version 5: the profile lies behind the pixels."""
    height, width = SIZE_HW
    pixels = random_samples((height, width * 3), "uint8").tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 24, 0, len(pixels), 2835, 2835, 0, 0)
    head += b"\0" * 16 + b"DEBM" + b"\0" * 48 + struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    assert len(head) == 124
    total = 14 + len(head) + len(pixels) + len(profile)
    path.write_bytes(b"BM" + struct.pack("<IHHI", total, 0, 0, 14 + 124) + head + pixels + profile)


def _grey_icc(path: Path, name: str) -> None:
    save(path, name, Image.fromarray(random_samples(SIZE_HW, "uint8")), icc_profile=grey_profile())


def _cmyk(path: Path, name: str) -> None:
    save(path, name, Image.fromarray(random_samples((*SIZE_HW, 3), "uint8")).convert("CMYK"))


def _png_color(path: Path, name: str) -> None:
    save(path, name)
    corners = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)  # Display P3
    with_chunks(path, (b"cHRM", struct.pack(">8I", *corners)), (b"gAMA", struct.pack(">I", 55556)))


def _exif(path: Path, name: str) -> None:
    if name == "jp2":
        save(path, name)
        with_jp2_box(
            path, box(b"uuid", b"JpgTiffExif->JP2" + exif_block().tobytes().removeprefix(b"Exif\0\0"))
        )
    elif name == "tiff":
        _tiff_with_gps(path)
    else:
        save(path, name, exif=exif_block())


def _tiff_with_gps(path: Path) -> None:
    """Neither Pillow nor tifffile writes a GPS directory into a TIFF: a private tag becomes its pointer."""
    tags = [(271, "s", 0, "Maker", True), (65000, "I", 1, 0, True)]
    tifffile.imwrite(path, random_samples((*SIZE_HW, 3), "uint8"), photometric="rgb", extratags=tags)
    with tifffile.TiffFile(path) as opened:
        entry = opened.pages.first.tags[65000]
        at = entry.valueoffset
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, entry.offset, 34853)
    data += b"\0" * (len(data) % 2)
    struct.pack_into("<I", data, at, len(data))
    path.write_bytes(bytes(data) + struct.pack("<HHHI4sI", 1, 1, 2, 2, b"N\0\0\0", 0))


def _orientation(path: Path, name: str) -> None:
    marked = np.full((*SIZE_HW, 3), 20, np.uint8)
    marked[:12, :20] = 230
    save(path, name, Image.fromarray(marked), exif=exif_block(6))


def _thumbnail(path: Path, name: str) -> None:
    blob = bytearray(exif_block().tobytes())  # begins with Exif\0\0
    start = struct.unpack_from("<I" if blob[6:8] == b"II" else ">I", blob, 10)[0]
    order = "<" if blob[6:8] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", blob, 6 + start)
    offset = len(blob) - 6
    struct.pack_into(order + "I", blob, 6 + start + 2 + 12 * count, offset)
    blob += struct.pack(order + "H", 2)
    blob += struct.pack(order + "HHII", 0x0201, 4, 1, offset + 30) + struct.pack(
        order + "HHII", 0x0202, 4, 1, 9
    )
    blob += struct.pack(order + "I", 0) + b"THUMBNAIL"
    save(path, name, exif=bytes(blob))


def _xmp(path: Path, name: str) -> None:
    if name == "png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        save(path, name, pnginfo=text)
    elif name == "tiff":
        pixels = random_samples((*SIZE_HW, 3), "uint8")
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=[(700, "B", len(XMP), XMP, True)])
    elif name == "jp2":
        save(path, name)
        with_jp2_box(path, box(b"uuid", XMP_UUID + XMP))
    elif name == "gif":
        save(path, name)
        whole = path.read_bytes()
        at = 13 + 3 * 2 ** ((whole[10] & 7) + 1)  # behind the palette
        trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
        path.write_bytes(whole[:at] + b"\x21\xff\x0bXMP DataXMP" + XMP + trailer + whole[at:])
    else:
        save(path, name, xmp=XMP)


def _iptc(path: Path, name: str) -> None:
    if name == "jpg":
        save(path, name)
        with_segment(path, 0xED, b"Photoshop 3.0\0" + IMAGE_RESOURCE)
    elif name == "png":
        save(path, name, pnginfo=raw_profile("iptc", IMAGE_RESOURCE))
    else:
        pixels = random_samples((*SIZE_HW, 3), "uint8")
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=[(33723, "B", len(IPTC), IPTC, True)])


def _comments(path: Path, name: str) -> None:
    if name == "png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("Comment", COMMENT)
        save(path, name, pnginfo=text)
    else:
        save(path, name, comment=COMMENT.encode())


def _text(path: Path, name: str) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Nobody")
    text.add_text("Warning", "none", zip=True)
    text.add_itxt("Title", "漢字")
    save(path, name, pnginfo=text)


def _density(path: Path, name: str) -> None:
    if name == "jp2":
        save(path, name)
        per_metre = round(DPI / 0.0254)
        inner = struct.pack(">HHHHbb", per_metre, 1, per_metre, 1, 0, 0)
        with_jp2_header_box(path, box(b"res ", box(b"resc", inner)))
    else:
        save(path, name, dpi=(DPI, DPI))


def _dates(path: Path, name: str) -> None:
    if name == "npy":
        np.save(path, random_samples(SIZE_HW, "uint8").astype(np.float32) / 255)
    else:
        save(path, name)


def _transparency(path: Path, name: str) -> None:
    alpha = np.full((*SIZE_HW, 1), 255, np.uint8)
    alpha[:, :20] = 0
    samples = np.concatenate([random_samples((*SIZE_HW, 3), "uint8"), alpha], axis=2)
    if name == "npy":
        np.save(path, samples.astype(np.float32) / 255)
    elif name == "webp":
        save(path, name, Image.fromarray(samples), lossless=True)
    elif name == "gif":
        save(path, name, Image.fromarray(samples).convert("RGBA"))
    else:
        save(path, name, Image.fromarray(samples))


def _deep(path: Path, name: str) -> None:
    samples = random_samples((*SIZE_HW, 3), "uint16")
    if name == "tiff":
        tifffile.imwrite(path, samples, photometric="rgb")
    elif name == "jp2":
        import imagecodecs

        path.write_bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True))
    elif name == "ppm":
        path.write_bytes(b"P6 40 24 65535\n" + samples.astype(">u2").tobytes())
    else:
        rows = b"".join(b"\0" + row.tobytes() for row in samples.astype(">u2"))
        head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 24, 16, 2, 0, 0, 0))
        body = head + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _float(path: Path, name: str) -> None:
    values = (random_samples(SIZE_HW, "uint16") / 65535).astype(np.float32)
    if name == "tiff":
        tifffile.imwrite(path, values)
    elif name == "npy":
        np.save(path, values)
    else:
        path.write_bytes(b"Pf\n40 24\n-1.0\n" + values[::-1].astype("<f4").tobytes())


def _bands(path: Path, name: str) -> None:
    values = random_samples((*SIZE_HW, 13), "uint16")
    if name == "npy":
        np.save(path, values.astype(np.float32) / 65535)
    else:
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig")


def _stack(path: Path, _name: str) -> None:
    tifffile.imwrite(path, random_samples((5, *SIZE_HW), "uint8"), imagej=True)


def _pages(path: Path, name: str) -> None:
    frames = [Image.fromarray(random_samples((*SIZE_HW, 3), "uint8", seed=seed)) for seed in range(3)]
    save(path, name, frames[0], save_all=True, append_images=frames[1:])


def _coordinates(path: Path, _name: str) -> None:
    tags = [(tag, "d", len(values), values, True) for tag, values in GEO.items()]
    tags.append((34735, "H", len(GEO_KEYS), GEO_KEYS, True))
    tifffile.imwrite(path, random_samples((*SIZE_HW, 3), "uint8"), photometric="rgb", extratags=tags)


def _credentials(path: Path, name: str) -> None:
    save(path, name)
    if name == "png":
        with_chunks(path, (b"caBX", b"jumb signed"))
    else:
        with_segment(path, 0xEB, b"JP\0\1\0\0\0\1jumb signed")


MAKERS = {
    "icc": _icc,
    "grey icc": _grey_icc,
    "cmyk": _cmyk,
    "png color": _png_color,
    "exif": _exif,
    "raw exif": lambda path, name: save(path, name, pnginfo=raw_profile("exif", exif_block(6).tobytes())),
    "orientation": _orientation,
    "thumbnail": _thumbnail,
    "xmp": _xmp,
    "iptc": _iptc,
    "comments": _comments,
    "text": _text,
    "density": _density,
    "dates": _dates,
    "transparency": _transparency,
    "16 bit": _deep,
    "float": _float,
    "bands": _bands,
    "stack": _stack,
    "pages": _pages,
    "coordinates": _coordinates,
    "credentials": _credentials,
}
"""Field of the table → function (path, format) that makes a file which carries it."""


def pillow_info(path: Path) -> dict[str, object]:
    """What Pillow finds in a file besides its pixels."""
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.load()
        found = {str(key): value for key, value in image.info.items()}
        found["exif tags"] = dict(image.getexif())
        found["gps"] = dict(image.getexif().get_ifd(0x8825))
        found["photo"] = dict(image.getexif().get_ifd(0x8769))
        return found
