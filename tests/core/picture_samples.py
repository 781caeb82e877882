"""Samples and hand-made files for the tests of picture files."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import torch

WHITE = {np.dtype("uint8"): 255, np.dtype("uint16"): 65535, np.dtype("float32"): 1}
EXTENSION = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tif", "npy": ".npy", "bmp": ".bmp"}


def random_samples(shape, dtype, seed=0):
    values = np.random.default_rng(seed).integers(0, WHITE[np.dtype(dtype)] + 1, shape)
    return values.astype(dtype)


def planes_of(samples_hwc):
    white = WHITE[samples_hwc.dtype]
    return torch.from_numpy(samples_hwc.astype(np.float64) / white).permute(2, 0, 1)[None].float()


def smooth_planes(channels, height=24, width=40):
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([0.2 + 0.6 * x, 0.1 + 0.8 * y, 0.5 + 0.3 * (x - y)][:channels])[None]


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def handmade_png(samples_hwc, *, extra=b""):
    """Write a PNG from the specification alone: every row with filter 0."""
    height, width, channels = samples_hwc.shape
    depth = samples_hwc.dtype.itemsize * 8
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    big_endian = samples_hwc.astype(samples_hwc.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + extra + body
