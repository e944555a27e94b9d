"""Deep greys and TIFFs of all kinds, made byte by byte: what the header says is what counts."""

import struct
import threading
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import encoded

from extract.images.decode import decode
from features.source import Unreadable

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def tiff(pixels: bytes, order: str = "<", **tags: Any) -> bytes:
    """A TIFF of 64 × 64 pixels in one strip, not compressed; `bits`, `photometric`, `samples`, `planar`, `kind`."""
    bits, samples = tags.get("bits", 8), tags.get("samples", 1)
    strips = [pixels] if tags.get("planar", 1) == 1 else [pixels[i::samples] for i in range(samples)]
    entries = {
        **{256: (4, [64]), 257: (4, [64]), 258: (3, [bits] * samples), 259: (3, [tags.get("compression", 1)])},
        **{262: (3, [tags.get("photometric", 2 if samples == 3 else 1)]), 277: (3, [samples]), 278: (4, [64])},
        **{284: (3, [tags.get("planar", 1)]), 339: (3, [tags.get("kind", 1)] * samples)},
    }
    if samples in (2, 4):
        entries[338] = (3, [2])
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    extra, placed = b"", {}
    for tag, (kind, values) in entries.items():
        data = struct.pack(order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(data) > 4:
            placed[tag], extra = struct.pack(order + "I", start + len(extra)), extra + data
        else:
            placed[tag] = data.ljust(4, b"\0")
    offset = start + len(extra)
    for tag, values in ((273, [offset]), (279, [len(pixels)])):
        entries[tag], placed[tag] = (4, values), struct.pack(order + "I", values[0])
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, len(entries))
    rows = (
        struct.pack(order + "HHI", tag, entries[tag][0], len(entries[tag][1])) + placed[tag] for tag in sorted(entries)
    )
    return head + b"".join(rows) + struct.pack(order + "I", 0) + extra + b"".join(strips)


def grey(data: bytes) -> np.ndarray:
    """(64, 64) of the decoded image, whose channels are alike."""
    pixels = np.asarray(decode(data))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


@pytest.mark.parametrize(("top", "over"), [(1.0, 1.01), (1.0, -0.001), (255.0, 255.4), (65535.0, 65600.0)])
def test_a_float_a_little_outside_of_its_scale(top: float, over: float) -> None:
    """Guards a ramp with one pixel that rounding put beside the scale: 1.01 made the image black."""
    ramp = (RAMP * top).astype("f4")
    ramp[0, 0 if over < 0 else 1] = over
    got = grey(tiff(ramp.astype("<f4").tobytes(), bits=32, kind=3))
    expected = np.round(np.clip(ramp.astype("f4") / np.float32(top), 0, 1) * 255)
    assert np.array_equal(got, expected) and got.max() == 255 and np.unique(got).size == 256


@pytest.mark.parametrize("values", [(0.5, 2e5), (-30.0, 200.0), (float("nan"), 1.0)])
def test_floats_without_a_scale(values: tuple[float, float]) -> None:
    """Guards measurements: nobody knows what is black and white in them."""
    pixels = np.tile(np.array(values, "<f4"), 32 * 64)
    with pytest.raises(Unreadable, match="have no known scale"):
        decode(tiff(pixels.tobytes(), bits=32, kind=3))


def test_the_scale_is_the_headers() -> None:
    """Guards dark deep images: a PGM, a PNG and TIFFs whose values end at 255 of 65,535 are nearly black, all alike."""
    deep = np.round(RAMP * 255).astype("u2")
    expected = np.round(deep / 257).astype("u1")
    assert np.array_equal(grey(b"P5 64 64 65535\n" + deep.astype(">u2").tobytes()), expected)
    assert np.array_equal(grey(encoded(Image.fromarray(deep))), expected)
    assert np.array_equal(grey(tiff(deep.astype("<u2").tobytes(), bits=16)), expected)
    assert np.array_equal(grey(tiff(deep.astype("<u4").tobytes(), bits=32)), expected)
    assert expected.max() == 1


def test_transparency_of_a_deep_png() -> None:
    """Guards alpha on white where one 16-bit value stands for transparent."""
    deep = np.round(RAMP * 65535).astype(">u2")
    deep[:32] = 7

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in deep))
    header = struct.pack(">IIBBBBB", 64, 64, 16, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">H", 7)), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    got = grey(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert (got[:32] == 255).all() and np.array_equal(got[32:], np.round(deep[32:].astype(int) / 257))


@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero(order: str) -> None:
    """Guards scans and X-rays: inverted at 16 bits as at 8, whichever end comes first."""
    deep = np.round(RAMP * 65535)
    got = grey(tiff(deep.astype(order + "u2").tobytes(), order, bits=16, photometric=0))
    assert np.array_equal(got, 255 - np.round(deep / 257))
    eight = np.round(RAMP * 255)
    assert np.array_equal(grey(tiff(eight.astype("u1").tobytes(), order, photometric=0)), 255 - eight)


def test_twelve_bits() -> None:
    """Guards microscopes: 4,095 is white."""
    deep = np.round(RAMP * 4095).astype(int).reshape(-1, 2)
    packed = np.stack([deep[:, 0] >> 4, (deep[:, 0] & 15) << 4 | deep[:, 1] >> 8, deep[:, 1] & 255], axis=1)
    got = grey(tiff(packed.astype("u1").tobytes(), bits=12))
    assert np.array_equal(got.ravel(), np.round(deep.ravel() / 4095 * 255))


@pytest.mark.parametrize(
    ("tags", "dtype", "reason"),
    [
        ({"bits": 8, "kind": 2}, "i1", "8-bit signed numbers, 1 a pixel"),
        ({"bits": 16, "samples": 3, "planar": 2}, "<u2", "16-bit unsigned numbers, 3 a pixel, channels apart"),
        ({"bits": 16, "kind": 3}, "<f2", "16-bit floating-point numbers, 1 a pixel"),
        ({"bits": 64, "kind": 3}, "<f8", "64-bit floating-point numbers, 1 a pixel"),
        ({"bits": 32, "kind": 3, "samples": 3}, "<f4", "32-bit floating-point numbers, 3 a pixel"),
        ({"bits": 16, "samples": 2}, "<u2", "16-bit unsigned numbers, 2 a pixel"),
        ({"bits": 10}, "<u2", "10-bit unsigned numbers, 1 a pixel"),
        ({"bits": 14}, "<u2", "14-bit unsigned numbers, 1 a pixel"),
    ],
)
def test_what_is_not_supported_is_named(tags: dict[str, Any], dtype: str, reason: str) -> None:
    """Guards the reason: it names the kind of TIFF, and no wrong pixels come out."""
    pixels = np.repeat(RAMP.reshape(-1, 1) * 60, tags.get("samples", 1), axis=1).astype(dtype)
    with pytest.raises(Unreadable, match=f"^TIFF of {reason}: not supported$"):
        decode(tiff(pixels.tobytes(), **tags))


def fax(damaged: bool) -> bytes:
    """A drawing in CCITT group 4, with 30 bytes in the middle overwritten."""
    y, x = np.mgrid[:400, :600]
    drawing = Image.fromarray(np.sin(x / 9) + np.cos(y / 13 + x / 50) > 0)
    data = bytearray(encoded(drawing, "TIFF", compression="group4"))
    if damaged:
        data[1208:1238] = np.random.default_rng(2).integers(0, 256, 30, "u1").tobytes()
    return bytes(data)


def test_a_damaged_fax(capfd: pytest.CaptureFixture[str]) -> None:
    """Guards scans: libtiff decodes what it can and only complains; that is the reason, on no other thread's image."""
    fine = threading.Thread(target=decode, args=(fax(damaged=False),))
    fine.start()
    with pytest.raises(Unreadable, match=r"^cannot be decoded: Fax4Decode: (Bad code word|Uncompressed data)"):
        decode(fax(damaged=True))
    fine.join()
    assert decode(fax(damaged=False)).size == (600, 400)
    assert capfd.readouterr().err == ""


def test_odd_tags_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Guards stderr: a tag of a wrong type is not told, and costs nothing."""
    levels = np.round(RAMP * 255).astype("u1")
    data = encoded(Image.fromarray(levels), "TIFF", compression="tiff_lzw", software="twelve chars")
    odd = data.replace(struct.pack("<HH", 305, 2), struct.pack("<HH", 270, 12))
    assert odd != data and np.array_equal(grey(odd), levels)
    assert capfd.readouterr().err == ""
