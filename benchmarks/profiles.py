"""ICC profiles of well-known colour spaces, written from their published numbers."""

import struct

# Red, green and blue at full, as XYZ adapted to D50; then the tone curve: a gamma, or None for that of sRGB.
Space = tuple[tuple[tuple[float, float, float], ...], float | None]
SRGB: Space = (((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)), None)
DISPLAY_P3: Space = (((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), None)
ADOBE_RGB: Space = (((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 563 / 256)
D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(space: Space) -> bytes:
    """A display's profile, as phones and cameras embed it."""
    primaries, gamma = space
    names = (b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC")
    tags = {name: _xyz(primary) for name, primary in zip(names[0], primaries, strict=True)}
    return icc(b"mntr", b"RGB ", b"XYZ ", tags | dict.fromkeys(names[1], tone_curve(gamma)))


def icc(kind: bytes, colours: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of this class, colour space and connection space."""
    tags = {b"wtpt": _xyz(D50), **tags}
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">IIBBBB", 128 + len(table) + len(data), 0, 4, 0x30, 0, 0) + kind + colours + connection
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3i", *(round(x * 65536) for x in D50))
    return head.ljust(128, b"\0") + table + data


def tone_curve(gamma: float | None) -> bytes:
    """The tag of a tone curve."""
    if gamma is None:
        numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para" + struct.pack(">IHH5i", 0, 3, 0, *(round(x * 65536) for x in numbers))
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + bytes(2)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *(round(x * 65536) for x in values))
