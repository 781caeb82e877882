"""ICC profiles built from a few numbers: primaries, white point, tone curve.

Source: ICC.1:2022 (version 2 profiles, sections 7, 8, 10); Bradford adaptation as in its annex E; colour primaries
and transfer characteristics of ITU-T H.273 (2021) tables 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import numpy as np

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_XY = ((0.3127, 0.3290), (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
"""White, red, green, blue."""
_PRIMARIES: dict[int, tuple[tuple[float, float], ...]] = {
    1: _SRGB_XY,
    5: ((0.3127, 0.3290), (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: ((0.3127, 0.3290), (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: ((0.3127, 0.3290), (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: ((0.3127, 0.3290), (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: ((0.3127, 0.3290), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_BT709_LIKE = frozenset({1, 6, 14, 15})
_SRGB_TRANSFER = 13
_SRGB_GAMA, _GAMA_UNIT = 45455, 100000
_CHRM_TOLERANCE = 0.0011
_GAMMA_TOLERANCE = 0.01


def profile_of_chunks(chunks: Mapping[bytes, bytes]) -> tuple[bytes | None, str]:
    """Return an ICC profile that says what the PNG chunks cICP, sRGB, gAMA and cHRM say.

    Precedence: cICP, sRGB, gAMA with cHRM (PNG specification, third edition, section 4.3).

    Returns:
        The profile, or None where the chunks mean sRGB; and a reason where they cannot be said by a profile.
    """
    if len(code := chunks.get(b"cICP", b"")) == 4:
        primaries, transfer = code[0], code[1]
        if primaries == 1 and transfer == _SRGB_TRANSFER:
            return None, ""
        curve = _curve_of(transfer)
        if primaries not in _PRIMARIES or curve is None:
            return None, f"cICP {primaries}/{transfer} cannot be said by an ICC profile (PQ, HLG or unknown)"
        return rgb_profile(_PRIMARIES[primaries], curve), ""
    if b"sRGB" in chunks:
        return None, ""
    gamma = _SRGB_GAMA
    if len(chunks.get(b"gAMA", b"")) == 4:
        gamma = struct.unpack(">I", chunks[b"gAMA"])[0] or _SRGB_GAMA
    corners = _SRGB_XY
    if len(chunks.get(b"cHRM", b"")) == 32:
        values = [value / _GAMA_UNIT for value in struct.unpack(">8I", chunks[b"cHRM"])]
        corners = tuple(zip(values[::2], values[1::2], strict=True))
    is_near_srgb = abs(gamma / _SRGB_GAMA - 1) < _GAMMA_TOLERANCE
    if is_near_srgb and np.abs(np.array(corners) - np.array(_SRGB_XY)).max() < _CHRM_TOLERANCE:
        return None, ""
    curve = _srgb_curve() if is_near_srgb else _gamma_curve(_GAMA_UNIT / gamma)
    try:
        return rgb_profile(corners, curve), ""
    except (np.linalg.LinAlgError, ZeroDivisionError, OverflowError, struct.error):
        return None, "cHRM tells primaries that span no colours"


def rgb_of_grey(icc: bytes) -> bytes | None:
    """Return an RGB profile in which equal channels mean what `icc`, a grey profile, says of one channel.

    None where the profile has no tone curve (kTRC).
    """
    count = struct.unpack_from(">I", icc, 128)[0] if len(icc) >= 132 else 0
    for index in range(min(count, 100)):
        at = 132 + 12 * index
        if at + 12 > len(icc):
            return None
        name, offset, size = struct.unpack_from(">4sII", icc, at)
        if name == b"kTRC" and offset + size <= len(icc):
            return rgb_profile(_SRGB_XY, icc[offset : offset + size])
    return None


def rgb_profile(corners_xy: tuple[tuple[float, float], ...], curve: bytes) -> bytes:
    """Build a matrix profile.

    Args:
        corners_xy: chromaticities of white, red, green, blue.
        curve: a ``curv`` or ``para`` element; all three channels have it.
    """
    matrix = _to_d50(corners_xy)
    white = _D50
    text = b"Colours as told by the source file\0"
    elements = {
        b"desc": b"desc" + struct.pack(">II", 0, len(text)) + text + b"\0" * 78,
        b"cprt": b"text\0\0\0\0No copyright\0",
        b"wtpt": _xyz(white),
        b"rXYZ": _xyz(matrix[:, 0]),
        b"gXYZ": _xyz(matrix[:, 1]),
        b"bXYZ": _xyz(matrix[:, 2]),
        b"rTRC": curve,
    }
    table, body, at = b"", b"", 128 + 4 + 12 * (len(elements) + 2)
    for name, data in elements.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        if name == b"rTRC":
            for other in (b"gTRC", b"bTRC"):
                table += struct.pack(">4sII", other, at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    total = at + len(body)
    head = struct.pack(">I4sI4s4s4s", total, b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _xyz(white)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(elements) + 2) + table + body


def _to_d50(corners_xy: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return the matrix RGB → XYZ (columns are the primaries), adapted to D50."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in corners_xy], np.float64).T
    white, primaries = xyz[:, 0], xyz[:, 1:]
    matrix = primaries * np.linalg.solve(primaries, white)
    cones = _BRADFORD @ np.stack([white, _D50], axis=1)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cones[:, 1] / cones[:, 0]) @ _BRADFORD
    return adapt @ matrix


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _curve_of(transfer: int) -> bytes | None:
    if transfer == _SRGB_TRANSFER:
        return _srgb_curve()
    if transfer in _BT709_LIKE:
        return _table(lambda v: np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45)))
    return _gamma_curve(_GAMMAS[transfer]) if transfer in _GAMMAS else None


def _gamma_curve(gamma: float) -> bytes:
    if gamma >= 255:
        raise OverflowError(f"a gamma of {gamma}")
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))


def _srgb_curve() -> bytes:
    return _table(lambda v: np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4))


def _table(function: Callable[[np.ndarray], np.ndarray]) -> bytes:
    values = np.round(function(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    return b"curv" + struct.pack(">II", 0, len(values)) + values.tobytes()
