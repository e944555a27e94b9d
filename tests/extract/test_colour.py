"""Colours and greys of every kind, against the numbers that they were made from."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms
from tiny import NOISE, PHOTO, encoded

from benchmarks.profiles import ADOBE_RGB, D50, DISPLAY_P3, SRGB, Space, icc, rgb_profile, tone_curve
from extract.backbones import backbone_named
from extract.compute.rebuild import NOWHERE
from extract.images.colour import RANGE
from extract.images.decode import decode
from extract.images.folders import is_image
from extract.recipe import Recipe
from features import Refused
from features.source import Unreadable

PROFILES = {space: rgb_profile(space) for space in (SRGB, DISPLAY_P3, ADOBE_RGB)}


def pixels(data: bytes, **how: int) -> np.ndarray:
    return np.asarray(decode(data, **how), "i2")


def linear(values: np.ndarray, gamma: float | None) -> np.ndarray:
    """Light of tones in 0–1."""
    curve = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return curve if gamma is None else values**gamma


def srgb_of(light: np.ndarray) -> np.ndarray:
    """(…, 3) XYZ of D50 → levels of 0–255."""
    values = np.clip(light @ np.linalg.inv(np.array(SRGB[0])), 0, 1)
    return 255 * np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def converted(levels: np.ndarray, space: Space) -> np.ndarray:
    """(…, 3) levels of a space → levels of sRGB."""
    return srgb_of(linear(levels / 255, space[1]) @ np.array(space[0]))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB], ids=["P3", "Adobe"])
def test_colours_are_those_that_the_profile_means(kind: str, space: Space) -> None:
    """Guards colours: converted as the profile's own numbers say, 40 levels from where they would be without."""
    how = {"lossless": True} if kind == "WEBP" else {}
    got = pixels(encoded(PHOTO, kind, icc_profile=PROFILES[space], **how))
    assert np.abs(got - converted(NOISE, space)).max() < 2
    assert np.abs(got - NOISE.astype("i2")).max() > 40


def test_a_phones_jpeg_with_scaled_decoding() -> None:
    """Guards JPEGs, turned and decoded at a part of their size: the profile comes along."""
    large = Image.fromarray(np.full((800, 1200, 3), (200, 60, 40), "u1"))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(large, "JPEG", quality=95, icc_profile=PROFILES[DISPLAY_P3], exif=exif)
    image = decode(data, 100)
    assert image.size == (200, 300)
    assert np.abs(np.asarray(image)[9, 9] - converted(np.array([200, 60, 40]), DISPLAY_P3)).max() < 3


def test_srgb_stays_bit_for_bit() -> None:
    """Guards ordinary photos: a profile that is sRGB, by whatever maker, changes nothing."""
    (red, *others), green, (blue, *rest) = SRGB[0]
    measured = ((red + 0.0003, *others), green, (blue - 0.0003, *rest))  # moves some colours by a level
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (PROFILES[SRGB], rgb_profile((measured, None)), own):
        assert np.array_equal(pixels(encoded(PHOTO, icc_profile=profile)), NOISE)


def test_alpha_and_palette_with_a_profile() -> None:
    """Guards the order: colours first, then alpha on white; a palette's colours as any others."""
    clear = np.dstack([NOISE, np.where(np.arange(90) < 45, 0, 255) * np.ones((60, 1))]).astype("u1")
    got = pixels(encoded(Image.fromarray(clear), icc_profile=PROFILES[ADOBE_RGB]))
    assert (got[:, :45] == 255).all()
    assert np.abs(got[:, 45:] - converted(NOISE[:, 45:], ADOBE_RGB)).max() < 2
    flat = PHOTO.quantize(16)
    got = pixels(encoded(flat, icc_profile=PROFILES[ADOBE_RGB]))
    assert np.abs(got - converted(np.asarray(flat.convert("RGB")), ADOBE_RGB)).max() < 2


@pytest.mark.parametrize("deep", [False, True])
def test_a_grey_profile(deep: bool) -> None:
    """Guards grey photos with a gamma of their own, of 8 and of 16 bits."""
    ramp = np.arange(256).reshape(16, 16)
    image = Image.fromarray((ramp * 257).astype("u2") if deep else ramp.astype("u1"))
    profile = icc(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": tone_curve(1.8)})
    want = srgb_of(linear(ramp[..., None] / 255, 1.8) * np.array(SRGB[0]).sum(0))
    assert np.abs(pixels(encoded(image, icc_profile=profile)) - want).max() < 2
    assert np.abs(want[..., 0] - ramp).max() > 10


LAB = {
    "white": (100, 0, 0),
    "cyan": (56, -36, -48),
    "magenta": (48, 74, -4),
    "yellow": (90, -4, 90),
    "black": (16, 0, 0),
}


def table(inside: int, outside: int, grid: bytes) -> bytes:
    """The tag of a table with two points along each of its inputs, in bytes."""
    same = bytes(range(256))
    unit = struct.pack(">9i", *(round(65536 * x) for x in np.eye(3).ravel()))
    return b"mft1" + struct.pack(">IBBBB", 0, inside, outside, 2, 0) + unit + inside * same + grid + outside * same


def cmyk_profile() -> bytes:
    """Of a press with these inks, and all else black."""
    inks = {(0, 0, 0, 0): "white", (1, 0, 0, 0): "cyan", (0, 1, 0, 0): "magenta", (0, 0, 1, 0): "yellow"}
    grid = b""
    for corner in np.ndindex(2, 2, 2, 2):
        light, a, b = LAB[inks.get(corner, "black")]
        grid += bytes([round(light * 2.55), a + 128, b + 128])
    back = table(3, 4, b"\xff" * 16 + bytes(16))  # dark: every ink; light: none
    there = table(4, 3, grid)
    return icc(b"prtr", b"CMYK", b"Lab ", {b"A2B0": there, b"A2B1": there, b"B2A0": back, b"B2A1": back})


def light_of(ink: str) -> np.ndarray:
    """XYZ of an ink, as shares of white's."""
    lightness, a, b = LAB[ink]
    y = (lightness + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    return np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))


def printed(ink: str) -> np.ndarray:
    """Levels of an ink on a screen whose black is the press's black."""
    black = light_of("black")
    return srgb_of((light_of(ink) - black) / (1 - black) * D50)


@pytest.mark.parametrize(
    ("ink", "levels"), [("cyan", (255, 0, 0, 0)), ("magenta", (0, 255, 0, 0)), ("yellow", (0, 0, 255, 0))]
)
def test_a_press_profile(ink: str, levels: tuple[int, ...]) -> None:
    """Guards CMYK JPEGs, inverted as Adobe writes them, and TIFFs: the inks of the profile, not ideal ones."""
    image = Image.new("CMYK", (16, 16), levels)
    for kind in ("JPEG", "TIFF"):
        got = pixels(encoded(image, kind, icc_profile=cmyk_profile()))[8, 8]
        assert np.abs(got - printed(ink)).max() < 4
        assert np.abs(got - pixels(encoded(image, kind))[8, 8]).max() > 25


def test_black_ink_is_black() -> None:
    """Guards black point compensation: the darkest that a press prints is no dark grey on a screen."""
    image = Image.new("CMYK", (16, 16), (255, 255, 255, 255))
    assert pixels(encoded(image, "TIFF", icc_profile=cmyk_profile())).max() <= 3
    assert srgb_of(light_of("black") * D50).min() > 35


@pytest.mark.parametrize(
    "profile", [b"no profile", PROFILES[DISPLAY_P3][:200], cmyk_profile()], ids=["junk", "cut", "CMYK"]
)
def test_a_profile_that_cannot_be_used(profile: bytes) -> None:
    """Guards photos with a broken profile, or one of another kind of image: their pixels as they are."""
    assert np.array_equal(pixels(encoded(PHOTO, icc_profile=profile)), NOISE)


def test_a_profile_in_many_threads() -> None:
    """Guards the shared transforms: the same pixels from eight threads at once."""
    files = [encoded(Image.fromarray(np.roll(NOISE, i)), icc_profile=PROFILES[DISPLAY_P3]) for i in range(8)]
    alone = [pixels(file) for file in files]
    with ThreadPoolExecutor(8) as threads:
        for got, want in zip(threads.map(pixels, files * 8), alone * 8, strict=True):
            assert np.array_equal(got, want)


def test_old_stacks_keep_their_rules() -> None:
    """Guards rows of one stack against two kinds of pixels: without `decode` and with `scaled`, all as it was."""
    recipe = Recipe(NOWHERE, backbone_named("scattering"), "formula", "", 32, 0)
    assert recipe.attrs()["decode"] == "scaled-srgb"
    phone = encoded(PHOTO, icc_profile=PROFILES[DISPLAY_P3])
    dark = b"P5 16 16 65535\n" + np.arange(256).astype(">u2").tobytes()
    large = encoded(Image.fromarray(np.tile(NOISE, (10, 10, 1))), "JPEG")
    for attrs, size in (({}, (900, 600)), ({"decode": "scaled"}, (113, 75)), ({"decode": "scaled-srgb"}, (113, 75))):
        begun = recipe.as_begun(attrs)
        is_new = attrs.get("decode") == "scaled-srgb"
        assert np.array_equal(np.asarray(begun.open(phone)), NOISE) != is_new
        assert np.asarray(begun.open(dark)).max() == (1 if is_new else 255)
        assert begun.open(large).size == size
    with pytest.raises(
        Refused,
        match="decoded by the rules 'linear', and this version knows full, scaled, full-srgb, scaled-srgb: go on",
    ):
        recipe.as_begun({"decode": "linear"})


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_a_float_a_little_outside_of_its_scale(white: int) -> None:
    """Guards floats whose filter rang: one pixel 1 % too bright or dark is clipped, and does not choose the scale."""
    ramp = np.linspace(0, white, 256, dtype="f4").reshape(16, 16)
    want = np.arange(256).reshape(16, 16)
    for value, level in ((white * 1.01, 255), (-0.001 * white, 0)):
        odd = ramp.copy()
        odd[3, 3] = value
        got = pixels(encoded(Image.fromarray(odd), "TIFF"))[..., 0]
        assert got[3, 3] == level
        odd[3, 3], got[3, 3] = ramp[3, 3], want[3, 3]
        assert np.array_equal(got, want)


@pytest.mark.parametrize(("low", "high"), [(0, 1.5), (0, 12), (0, 300), (0, 4000), (0, 70000), (-0.1, 1), (0, np.inf)])
def test_floats_of_no_known_scale(low: float, high: float) -> None:
    """Guards against a black image: values that lie between two scales are rejected, not darkened."""
    ramp = np.linspace(0, 1, 64, dtype="f4").reshape(8, 8)
    ramp[0, 0], ramp[7, 7] = low, high
    with pytest.raises(Unreadable, match="^grey values from .* have no known scale$"):
        decode(encoded(Image.fromarray(ramp), "TIFF"))


@pytest.mark.parametrize("top", [255, 65535])
def test_the_scale_is_the_headers(top: int) -> None:
    """Guards dark images of 16 and 32 bits: the same array is the same image in every format, however dark."""
    values = np.round(np.linspace(0, top, 256)).reshape(16, 16)
    want = np.round(values * (255 / 65535))
    deep = Image.fromarray(values.astype("u2"))
    plain = b"P2 16 16 65535\n" + " ".join(str(int(value)) for value in values.ravel()).encode()
    for data in (encoded(deep, "PPM"), plain, encoded(deep, "PNG"), encoded(deep, "TIFF"), encoded(deep, "JPEG2000")):
        assert np.array_equal(pixels(data)[..., 0], want)
    assert np.array_equal(pixels(encoded(Image.fromarray(values.astype("i4")), "TIFF"))[..., 0], want)
    tenth = b"P5 16 16 1023\n" + np.minimum(values, 1023).astype(">u2").tobytes()
    assert np.abs(pixels(tenth)[..., 0] - np.minimum(values, 1023) * 255 / 1023).max() <= 0.51


def png(depth: int, colour: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of eight pixels in one row."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 8, 1, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"tRNS", transparent), chunk(b"IDAT", zlib.compress(b"\0" + row)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "clear", "rest"), [(1, 0, 1), (2, 1, 2), (4, 5, 9), (8, 77, 140), (16, 20000, 30000)]
)
def test_a_transparent_grey_of_any_depth(depth: int, clear: int, rest: int) -> None:
    """Guards PNGs with one transparent grey: white there, whatever the depth."""
    row = int("".join(f"{value:0{depth}b}" for value in [clear] * 4 + [rest] * 4), 2).to_bytes(depth, "big")
    got = pixels(png(depth, 0, row, struct.pack(">H", clear)))[0, :, 0]
    assert got.tolist() == [255] * 4 + [round(rest * 255 / (2**depth - 1))] * 4


def test_a_transparent_colour_of_16_bits() -> None:
    """Guards the same in RGB."""
    clear, rest = (1000, 2000, 30000), (20000, 60000, 1000)
    got = pixels(png(16, 2, struct.pack(">24H", *clear * 4, *rest * 4), struct.pack(">3H", *clear)))[0]
    assert got[:4].min() == 255
    assert np.abs(got[4:] - np.array(rest) / 257).max() <= 1


SQUARE = PHOTO.resize((64, 64))
# Suffix → how Pillow writes such a file.
WRITTEN = {
    ".jp2": ("JPEG2000", {}), ".j2k": ("JPEG2000", {"no_jp2": True}), ".mpo": ("MPO", {}), ".dib": ("DIB", {}),
    ".pnm": ("PPM", {}), ".apng": ("PNG", {"save_all": True, "append_images": [SQUARE]}), ".dds": ("DDS", {}),
    ".ico": ("ICO", {"sizes": [(64, 64)]}), ".avif": ("AVIF", {"quality": 100}),
}  # fmt: skip


@pytest.mark.parametrize("suffix", WRITTEN)
def test_every_format_that_is_listed(suffix: str) -> None:
    """Guards the decoder against the list of suffixes: each is read, with the pixels that were written."""
    kind, how = WRITTEN[suffix]
    grey = np.add.outer(np.arange(64), 2 * np.arange(64)).astype("u1")
    smooth = np.dstack([grey, grey.T, 255 - grey])
    got = pixels(encoded(Image.fromarray(smooth), kind, **how))
    assert is_image("a" + suffix)
    assert np.abs(got - smooth).mean() < (3 if kind in ("MPO", "AVIF") else 0.01)


def test_a_portable_float_map() -> None:
    """Guards `.pfm`: floats of 0–1, bottom row first."""
    ramp = np.linspace(0, 1, 256, dtype="f4").reshape(16, 16)
    data = b"Pf\n16 16\n-1.0\n" + ramp[::-1].astype("<f4").tobytes()
    assert is_image("a.pfm")
    assert np.array_equal(pixels(data)[..., 0], np.arange(256).reshape(16, 16))


def test_a_psd_without_a_flat_copy() -> None:
    """Guards drawings with layers: a white page in place of the picture is none."""

    def psd(has_copy: bool) -> bytes:
        resource = b"8BIM" + struct.pack(">HHI", 1057, 0, 6) + struct.pack(">I?x", 1, has_copy)
        head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 60, 90, 8, 3) + struct.pack(">II", 0, len(resource))
        return head + resource + struct.pack(">IH", 0, 0) + NOISE.transpose(2, 0, 1).tobytes()

    assert is_image("a.psd")
    assert np.array_equal(pixels(psd(has_copy=True)), NOISE)
    with pytest.raises(Unreadable, match="^a PSD without a flat copy, which is all that is read: save it with"):
        decode(psd(has_copy=False))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM", "float"])
def test_a_white_that_is_stated(kind: str) -> None:
    """107: it is in the file's own values, whatever the header says; what is brighter is white."""
    values = np.array([[100, 750, 1500, 2000]], "u2")
    if kind == "PGM":
        data, white = b"P5\n4 1\n4095\n" + values.astype(">u2").tobytes(), 4095.0
    else:
        image = Image.fromarray(values.astype("f4") if kind == "float" else values)
        data, white = encoded(image, "TIFF" if kind == "float" else kind), 65535.0
    seen = decode(data, white=1500)
    assert np.abs(pixels(data, white=1500)[0, :, 0] - [17, 128, 255, 255]).max() <= 1
    assert (round(seen.info[RANGE].low), round(seen.info[RANGE].high)) == (100, 2000)
    assert seen.info[RANGE].white == pytest.approx(1500, abs=0.1)
    if kind == "float":
        assert pixels(encoded(Image.fromarray(values / np.float32(1e6)), "TIFF"), white=0.0015)[0, 2, 0] == 255
        with pytest.raises(Unreadable, match="have no known scale"):
            decode(data)
    else:
        plain = decode(data).info[RANGE]
        assert plain._replace(low=round(plain.low), high=round(plain.high)) == (100, 2000, white, True)


@pytest.mark.parametrize("white", [70_000, 2_000_000_000])
def test_a_white_above_all_that_a_file_can_hold(white: int) -> None:
    """107: no table of all values is made; of 32 bits too."""
    deep = encoded(Image.fromarray(np.array([[0, 65535]], "u2")), "TIFF")
    assert pixels(deep, white=white)[0, :, 0].tolist() == [0, round(65535 * 255 / white)]
    wide = encoded(Image.fromarray(np.array([[0, 1_000_000_000]], "i4")), "TIFF")
    assert pixels(wide, white=white)[0, :, 0].tolist() == [0, min(255, round(1e9 * 255 / white))]


def test_ranges_of_other_images() -> None:
    """107: an image of 8 bits has none and no white changes it; of colours of 16 bits Pillow keeps 8."""
    assert RANGE not in decode(encoded(PHOTO)).info
    assert np.array_equal(pixels(encoded(PHOTO), white=100), np.asarray(PHOTO))
    deep = decode(png(16, 2, struct.pack(">24H", *(100, 1500, 700) * 8), struct.pack(">3H", 9, 9, 9))).info[RANGE]
    assert (deep.low, deep.high, deep.white, deep.is_grey) == (0, 5 * 257, 65535, False)
