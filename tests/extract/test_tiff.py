"""TIFFs of every kind that scientists and scanners write, made by hand from the specification."""

import io
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import NOISE, REPO, encoded, environment

from extract.images.decode import decode, has_pages
from extract.images.tiff import pages as tiff_pages
from features.source import Unreadable

RAMP = np.linspace(0, 1, 35).reshape(5, 7)
LEVELS = np.round(255 * RAMP)
SIGNED, FLOAT = 2, 3  # sample formats


def tiff(strips: list[bytes], order: str = "<", shape: tuple[int, int] = (5, 7), **tags: object) -> bytes:
    """A TIFF, not compressed; strips are its rows, or its planes.

    Args:
        strips: their bytes.
        order: of bytes, `<` or `>`.
        shape: height, width.
        tags: bits, colours (the photometric interpretation), channels, planes and sample; `more`, tag → values.
    """
    channels, bits = tags.get("channels", 1), tags.get("bits", 16)
    entries = {256: shape[1], 257: shape[0], 258: [bits] * channels, 259: 1, 262: tags.get("colours", 1)}
    entries |= {277: channels, 278: shape[0], 284: tags.get("planes", 1), 339: [tags.get("sample", 1)] * channels}
    entries |= {273: [0] * len(strips), 279: [len(strip) for strip in strips]} | tags.get("more", {})
    wide = {tag: np.atleast_1d(values) for tag, values in sorted(entries.items())}
    at = 8 + 2 + 12 * len(wide) + 4
    outside, table = b"", struct.pack(f"{order}H", len(wide))
    start = at + sum(4 * len(values) for values in wide.values() if len(values) > 1)
    wide[273] = start + np.cumsum([0, *map(len, strips[:-1])])
    for tag, values in wide.items():
        packed = struct.pack(f"{order}{len(values)}I", *values)
        table += struct.pack(f"{order}HHI", tag, 4, len(values))
        table += packed if len(values) == 1 else struct.pack(f"{order}I", at + len(outside))
        outside += packed if len(values) > 1 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + table + bytes(4) + outside + b"".join(strips)


def grey(data: bytes) -> np.ndarray:
    return np.asarray(decode(data))[..., 0]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_white_is_zero(order: str, bits: int) -> None:
    """Guards scans where 0 is white: not inverted, in any depth and byte order."""
    top = 255 if bits == 8 else 65535
    data = np.round(top * RAMP).astype(f"{order}u{bits // 8}").tobytes()
    assert np.array_equal(grey(tiff([data], order, bits=bits, colours=0)), 255 - LEVELS)
    assert np.array_equal(grey(tiff([data], order, bits=bits)), LEVELS)


def test_zero_is_white_in_floats() -> None:
    """Guards the same in floats, whose scale is known only after they are read."""
    data = RAMP.astype("<f4").tobytes()
    got = grey(tiff([data], bits=32, sample=FLOAT, colours=0))
    assert np.abs(got - (255 - LEVELS)).max() <= 1, "halves are rounded before they are inverted"
    assert (got[0, 0], got[4, 6]) == (255, 0)


@pytest.mark.parametrize("colours", [0, 1])
def test_twelve_bits(colours: int) -> None:
    """Guards cameras and X-rays of 12 bits, two pixels in three bytes: white is 4095."""
    rows = [[*map(int, row), 0] for row in np.round(4095 * RAMP)]
    packed = [
        b"".join((a << 12 | b).to_bytes(3, "big") for a, b in zip(r[::2], r[1::2], strict=True))[:11] for r in rows
    ]
    got = grey(tiff([b"".join(packed)], bits=12, colours=colours)).astype("i2")
    assert np.abs(got - (LEVELS if colours else 255 - LEVELS)).max() <= 1
    assert (got.min(), got.max()) == (0, 255)


@pytest.mark.parametrize("order", "<>")
def test_planes_of_16_bits(order: str) -> None:
    """Guards RGB in three planes, as `tifffile` writes (3, h, w): each plane at its own depth."""
    planes = [np.round(65535 * part).astype(f"{order}u2") for part in (RAMP, 1 - RAMP, RAMP / 2)]
    data = tiff([plane.tobytes() for plane in planes], order, colours=2, channels=3, planes=2)
    assert np.array_equal(np.asarray(decode(data)), np.stack(planes, -1) >> 8)


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_integers(bits: int) -> None:
    """Guards measurements: negative values have no known scale; without any, white is the type's largest."""
    values = np.linspace(-64, 62, 35).astype(f"<i{bits // 8}")
    with pytest.raises(Unreadable, match="^grey values from -64 to 62 have no known scale$"):
        decode(tiff([values.tobytes()], bits=bits, sample=SIGNED))
    top = 2 ** (bits - 1) - 1
    whole = np.round(top * RAMP).astype(values.dtype)
    assert np.array_equal(grey(tiff([whole.tobytes()], bits=bits, sample=SIGNED)), np.round(whole * 255.0 / top))


@pytest.mark.parametrize("kind", ["f4", "i2", "i4"])
def test_compressed_in_the_other_byte_order(kind: str) -> None:
    """Guards compressed samples with the big end first: libtiff has turned their bytes already."""
    top = {"f4": 1, "i2": 32767, "i4": 65535}[kind]
    values = (np.round(top * RAMP) if kind != "f4" else RAMP).astype(f">{kind}")
    data = np.frombuffer(values.tobytes(), "i1")
    rows = b"".join(bytes([127]) + data[i : i + 128].tobytes() for i in range(0, len(data) - 128, 128))
    rest = data[len(rows) // 129 * 128 :].tobytes()
    packed = rows + bytes([len(rest) - 1]) + rest  # PackBits, all of it literal
    sample = FLOAT if kind == "f4" else SIGNED
    got = grey(tiff([packed], ">", bits=8 * values.itemsize, sample=sample, more={259: 32773}))
    assert np.abs(got.astype("i2") - LEVELS).max() <= 1


def waves() -> Image.Image:
    y, x = np.mgrid[:200, :300]
    return Image.fromarray((127 + 100 * np.sin(x / 17) * np.cos(y / 13)).astype("u1"))


SCANS = {
    "group3": encoded(waves().convert("1"), "TIFF", compression="group3"),
    "group4": encoded(waves().convert("1"), "TIFF", compression="group4"),
    "rle": encoded(waves().convert("1"), "TIFF", compression="tiff_ccitt"),
    "grey": encoded(waves(), "TIFF", compression="jpeg"),
    "colour": encoded(Image.merge("RGB", [waves()] * 3), "TIFF", compression="jpeg"),
}


def damaged(data: bytes, share: float = 0.5) -> bytes:
    """The data with 30 bytes of zeros."""
    at = int(share * len(data))
    return data[:at] + bytes(30) + data[at + 30 :]


@pytest.mark.parametrize("kind", SCANS)
def test_a_damaged_fax_or_photo(kind: str) -> None:
    """11: scans and photos in a TIFF with a hole are no images, although Pillow has pixels for them; whole ones are."""
    assert np.asarray(decode(SCANS[kind])).shape == (200, 300, 3)
    for share in (0.3, 0.5, 0.7):
        with pytest.raises(Unreadable, match=r"^damaged: (Fax|JPEGLib: Corrupt JPEG data)"):
            decode(damaged(SCANS[kind], share))
        if kind in ("group3", "group4"):
            assert decode(damaged(SCANS[kind], share), managed=False).size == (300, 200)


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_deflate"])
def test_a_wrong_checksum(compression: str) -> None:
    """Guards compressed pixels that libtiff unpacks and does not check, in strips, each with a checksum of its own."""
    image = Image.fromarray(np.tile(NOISE, (4, 4, 1)))
    data = encoded(image, "TIFF", compression=compression)
    assert np.array_equal(np.asarray(decode(data)), np.asarray(image))
    assert len(Image.open(io.BytesIO(data)).tag_v2[273]) > 1
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(Unreadable, match=r"^(damaged|cannot be decoded): .*(incorrect data check|Decoding error)"):
            decode(damaged(data, share))


def test_damage_in_many_threads() -> None:
    """Guards against one image's warning becoming another's: sound and damaged ones side by side."""

    def reason(data: bytes) -> str:
        try:
            decode(data)
        except Unreadable as error:
            return str(error)
        return ""

    files = [data for sound in SCANS.values() for data in (sound, damaged(sound))]
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(reason, files * 6))
    assert all((text == "") == (i % 2 == 0) for i, text in enumerate(said))
    assert said == [reason(data) for data in files] * 6


@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ({"bits": 16, "sample": FLOAT}, "16-bit floats"),
        ({"bits": 64, "sample": FLOAT}, "64-bit floats"),
        ({"bits": 32, "sample": FLOAT, "colours": 2, "channels": 3}, "3 channels of 32-bit floats"),
        ({"channels": 2, "more": {338: 2}}, "2 channels of 16-bit integers"),
        ({"bits": 10}, "10-bit integers"),
        ({"bits": 14}, "14-bit integers"),
        ({"bits": 8, "more": {259: 34892}}, "8-bit integers, compression 34892"),
        ({"colours": 32803}, "16-bit integers, photometric interpretation 32803"),
    ],
)
def test_what_is_not_supported_is_named(tags: dict[str, object], what: str) -> None:
    """Guards the reason: what the file holds and what to do, not that it were no image."""
    with pytest.raises(Unreadable, match=f"TIFF of {what}: not supported; save it as grey or RGB of 8 or 16 bits$"):
        decode(tiff([bytes(35 * 8 * 3)], **tags))


LZW = damaged(encoded(Image.merge("RGB", [waves()] * 3), "TIFF", compression="tiff_lzw"))


def test_the_decoders_own_cause() -> None:
    """Guards the reason of a damaged TIFF: libtiff's words, for Pillow's "decoder error -2"."""
    with pytest.raises(Unreadable, match=r"^cannot be decoded: LZWDecode: (Not enough data|Corrupted LZW table) at"):
        decode(LZW)


READ = """
import sys
from extract.images.decode import decode, has_pages
from extract.images.tiff import pages as tiff_pages
from features.source import Unreadable
for path in sys.argv[1:]:
    try:
        print(decode(open(path, "rb").read()).size)
    except Unreadable as error:
        print(error)
"""


def test_odd_tags_say_nothing(tmp_path: Path) -> None:
    """Guards stderr: not a word from libtiff, nor from Pillow, on odd and damaged files."""
    grey = (255 * RAMP).astype("u1").tobytes()
    files = [
        LZW,  # printed by libtiff
        damaged(SCANS["rle"]),
        tiff([grey], bits=8, more={277: 14336}),  # logged by Pillow
        tiff([grey], bits=8, more={282: [72, 72], 257: [5, 5]}),  # warned of by Pillow
    ]
    for number, data in enumerate(files):
        (tmp_path / f"{number}.tif").write_bytes(data)
    words = [sys.executable, "-c", READ, *map(str, sorted(tmp_path.glob("*.tif")))]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=REPO)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 4


def pages_of(*kinds: int, **how: object) -> bytes:
    """A TIFF with a page of each kind (tag 254), darker and darker."""
    pages = [Image.fromarray(NOISE // (i + 1)) for i in range(len(kinds))]
    for page, kind in zip(pages, kinds, strict=True):
        page.encoderinfo = {"tiffinfo": {254: kind}}  # of Pillow: what a page is saved with
    return encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], **how)


def test_pages() -> None:
    """106: each page by its number; smaller copies and masks between them are none, and a ring of pages ends."""
    data = pages_of(0, 1, 4, 0)
    assert tiff_pages(data) == [0, 3] and has_pages(data)
    for page, darker in ((1, 1), (2, 4)):
        assert np.array_equal(np.asarray(decode(data, page=page)), NOISE // darker)
    with pytest.raises(Unreadable, match="^it has 2 pages, and page 3 is asked for$"):
        decode(data, page=3)
    assert tiff_pages(pages_of(1, 0)) == [0, 1], "an overview that comes first is what was read, so there is another"
    one = pages_of(0, 1)
    assert not has_pages(one) and np.array_equal(np.asarray(decode(one, page=2)), NOISE)
    ring = bytearray(pages_of(0, 0))
    at = [*struct.unpack_from("<I", ring, 4)]
    for _ in range(2):
        after = at[-1] + 2 + 12 * struct.unpack_from("<H", ring, at[-1])[0]
        at += struct.unpack_from("<I", ring, after)
    struct.pack_into("<I", ring, after, at[0])
    assert tiff_pages(bytes(ring)) == [0, 1]
    assert tiff_pages(bytes(ring[: at[1] + 20])) == [0], "damage ends the list"


def test_a_damaged_page_is_the_one_that_counts() -> None:
    """106: what libtiff passes over is looked for in the page that is read."""
    data = encoded(waves(), "TIFF", compression="jpeg", save_all=True, append_images=[waves()])
    data = damaged(data, 0.75)
    assert decode(data).size == (300, 200)
    with pytest.raises(Unreadable, match="^damaged: JPEGLib: Corrupt JPEG data"):
        decode(data, page=2)
