import hashlib
import io
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tiny import NOISE, PHOTO, encoded

from extract.backbones import backbone_named
from extract.compute.rebuild import NOWHERE, StageOne
from extract.images.decode import FILTERS, RESIZES, decode, framed, resized_first, squash
from extract.recipe import Recipe
from features.source import MOST_BYTES, Unreadable, read_file

BILINEAR = Image.Resampling.BILINEAR


def decoded(data: bytes, side: int) -> np.ndarray:
    return squash(decode(data), side)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM"])
def test_squash_is_plain_pillow(kind: str) -> None:
    """Guards the pixels: the whole image, bilinear with Pillow's antialiasing, whatever the file format."""
    data = encoded(PHOTO, kind)
    for side in (32, 75, 224):
        plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((side, side), BILINEAR))
        assert np.array_equal(decoded(data, side), plain)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """Guards phone photos: stored turned or mirrored, decoded upright, for each of the eight orientations."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # EXIF 6: the camera was turned, undone by 270 degrees, so stored by 90
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = PHOTO.transpose(turns[orientation]) if orientation > 1 else PHOTO
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "PNG", exif=exif)
    assert np.array_equal(decoded(data, 32), np.asarray(PHOTO.resize((32, 32), BILINEAR)))


@pytest.mark.skipif("HEIF" not in Image.OPEN, reason="pillow-heif is not installed")
@pytest.mark.parametrize("orientation", [1, 6])
def test_heic(orientation: int) -> None:
    """Guards iPhones' photos: the pixels of Pillow's own JPEG path but for the codec's loss, and upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    PHOTO.save(file, "HEIF", quality=-1, chroma=444, exif=exif.tobytes())
    upright = np.asarray(PHOTO if orientation == 1 else PHOTO.transpose(Image.Transpose.ROTATE_270), int)
    found = np.asarray(decode(file.getvalue()), int)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() <= 3
    with pytest.raises(Unreadable, match="cannot be decoded"):
        decode(file.getvalue()[:-500])


def test_alpha_goes_on_white() -> None:
    """Guards transparent images: white behind them, not the black that `convert` leaves."""
    half = np.dstack([NOISE, np.full((60, 90), 128, "u1")])
    expected = NOISE * (128 / 255) + 255 * (127 / 255)
    got = decoded(encoded(Image.fromarray(half, "RGBA").resize((90, 60))), 60)
    wanted = np.asarray(Image.fromarray(np.round(expected).astype("u1")).resize((60, 60), BILINEAR), "i2")
    assert np.abs(got - wanted).max() <= 2
    clear = Image.fromarray(np.zeros((9, 9, 4), "u1"), "RGBA")
    assert (decoded(encoded(clear), 8) == 255).all()
    grey = Image.fromarray(np.zeros((9, 9, 2), "u1"), "LA")
    assert (decoded(encoded(grey), 8) == 255).all()


def test_palette() -> None:
    """Guards palette images: colours and not indices; their transparent entry is white."""
    image = Image.fromarray(np.repeat([[0, 1]], 8, 0).repeat(4, 1).astype("u1"), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert decoded(encoded(image), 8)[0, 0].tolist() == [255, 0, 0]
    assert decoded(encoded(image), 8)[7, 7].tolist() == [0, 0, 255]
    assert decoded(encoded(image, transparency=1), 8)[7, 7].tolist() == [255, 255, 255]
    assert decoded(encoded(image, "GIF"), 8)[7, 7].tolist() == [0, 0, 255]


def test_cmyk_and_grey() -> None:
    """Guards print JPEGs and greyscale ones: three channels, the right colours."""
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = decoded(encoded(cyan, "JPEG"), 8)[4, 4].tolist()
    assert red < 20 < 200 < min(green, blue)
    grey = decoded(encoded(PHOTO.convert("L"), "JPEG", quality=95), 16)
    assert grey.shape == (16, 16, 3)
    assert (grey[..., 0] == grey[..., 2]).all()
    bilevel = Image.new("1", (8, 8), 1)
    assert (decoded(encoded(bilevel), 8) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_rescaled(kind: str) -> None:
    """Guards deep greys: 0–65535 → 0–255, where Pillow's `convert` would clip everything above 255 to white."""
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype("u2")
    got = decoded(encoded(Image.fromarray(deep), kind), 64)
    assert np.array_equal(got[..., 0], np.round(deep / 257).astype("u1"))


def test_float_and_big_endian_greys() -> None:
    """Guards TIFFs of science: floats of 0–1, of 0–255, and 16 bits with the big end first."""
    unit = np.linspace(0, 1, 64 * 64, dtype="f4").reshape(64, 64)
    for image in (unit, unit * 255):
        assert np.array_equal(decoded(encoded(Image.fromarray(image), "TIFF"), 64)[..., 0], np.round(unit * 255))
    big = Image.frombytes("I;16B", (64, 64), np.round(unit * 65535).astype(">u2").tobytes())
    assert np.array_equal(decoded(encoded(big, "TIFF"), 64)[..., 0], np.round(np.round(unit * 65535) / 257))
    bad = unit.copy()
    bad[3, 3] = np.nan
    with pytest.raises(Unreadable, match="grey values"):
        decoded(encoded(Image.fromarray(bad), "TIFF"), 64)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_jpeg(share: float) -> None:
    """Guards against half a photo passing as a whole one with a grey bottom."""
    data = encoded(PHOTO, "JPEG")
    with pytest.raises(Unreadable, match=r"truncated|known format"):
        decoded(data[: int(share * len(data))], 32)


def test_reasons() -> None:
    """Guards the reasons that the rejects table gives."""
    with pytest.raises(Unreadable, match="^the file is empty$"):
        decoded(b"", 32)
    with pytest.raises(Unreadable, match="^not an image in any known format$"):
        decoded(b"a text file named .jpg", 32)
    bomb = b"P4\n20000 20000\n" + bytes(1000)
    with pytest.raises(Unreadable, match="more than the 160,000,000 that are decoded"):
        decoded(bomb, 32)


def test_odd_exif_does_not_cost_the_image() -> None:
    """Guards photos whose EXIF holds what Pillow cannot write again (here a text for the width): still turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    data = encoded(PHOTO, "JPEG", exif=exif).replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02")
    stored = Image.open(io.BytesIO(data))
    with pytest.raises(struct.error):
        ImageOps.exif_transpose(stored)
    assert np.array_equal(
        decoded(data, 32), np.asarray(stored.transpose(Image.Transpose.ROTATE_270).resize((32, 32), BILINEAR))
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM"])
def test_damage_is_unreadable_and_nothing_else(kind: str) -> None:
    """Guards the run against its images: damaged bytes give pixels or Unreadable, never another exception."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    whole = encoded(PHOTO, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
    source = random.Random(0)
    seen = {True: 0, False: 0}
    for _ in range(400):
        data = bytearray(whole[: source.choice([len(whole), source.randrange(1, len(whole))])])
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(min(len(data), source.choice([60, 400, len(data)])))] = source.randrange(256)
        try:
            pixels = decoded(bytes(data), 8)
        except Unreadable as error:
            assert str(error)
            seen[False] += 1
        else:
            assert (pixels.shape, pixels.dtype) == ((8, 8, 3), np.uint8)
            seen[True] += 1
    assert seen[False] > 0


def test_file_identity(tmp_path: Path) -> None:
    """Guards that hash, size and time are those of the very bytes decoded."""
    path = tmp_path / "a.png"
    path.write_bytes(encoded(PHOTO))
    file = read_file(path)
    assert file.data == path.read_bytes()
    assert file.sha256.tobytes() == hashlib.sha256(path.read_bytes()).digest()
    assert (file.size, file.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    with pytest.raises(Unreadable, match="^No such file or directory$"):
        read_file(tmp_path / "b.png")
    with pytest.raises(Unreadable, match="^Is a directory$"):
        read_file(tmp_path)


@pytest.mark.usefixtures("impatient")
def test_what_is_no_file_or_too_large(tmp_path: Path) -> None:
    """Guards against a wait without end on a pipe, and against a file that fills the memory."""
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(Unreadable, match="^a pipe, device or socket, and no file$"):
        read_file(tmp_path / "pipe.jpg")
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(Unreadable, match="^it has 1,280,000,001 bytes, more than the 1,280,000,000 that are read$"):
        read_file(tmp_path / "large.jpg")


def big(width: int = 2000, height: int = 1500, orientation: int = 1) -> bytes:
    """A large JPEG with a little of everything: waves, edges and some noise."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / 37 + c) * np.cos(y / (23 + 9 * c)) for c in range(3)]
    image = np.stack(waves, -1) + np.random.default_rng(0).normal(0, 8, (height, width, 3))
    image[400:700, 300:900] = (250, 20, 20)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(image.clip(0, 255).astype("u1")), "JPEG", quality=92, exif=exif)


def test_large_jpegs_are_decoded_no_larger_than_needed() -> None:
    """Guards scaled decoding: at least twice the side, pixels within a level or two of the full decoding's."""
    data = big()
    assert decode(data, 100).size == (500, 375)
    assert decode(data, 188).size == (1000, 750)
    for side in (100, 188):
        drift = np.abs(squash(decode(data, side), side).astype("f4") - squash(decode(data), side))
        assert 0 < drift.mean() < 0.5
        assert drift.max() < 25
    turned = decode(big(orientation=6), 100)
    assert turned.size == (375, 500)
    assert np.array_equal(np.rot90(np.asarray(decode(data, 100)), -1), np.asarray(turned))
    with pytest.raises(Unreadable, match="truncated"):
        decode(data[: len(data) // 2], 100)


def test_smaller_photos_are_decoded_in_full() -> None:
    """Guards exactness: below four times the side, and in formats without scales, not a bit changes."""
    data = big()
    assert np.array_equal(np.asarray(decode(data, 376)), np.asarray(decode(data)))
    png = encoded(Image.fromarray(np.tile(NOISE, (10, 10, 1))))
    assert np.array_equal(np.asarray(decode(png, 8)), np.asarray(decode(png)))


def test_scaled_decoding_of_real_photos(shared: Path) -> None:
    """Guards its harmlessness: photos at 12 megapixels give the same pixels to a fifth of a level on average."""
    for path in sorted((shared / "data" / "food101-10" / "images").rglob("*.jpg"))[::1000]:
        data = encoded(Image.open(path).convert("RGB").resize((4000, 3000)), "JPEG", quality=92)
        drift = np.abs(squash(decode(data, 224), 224).astype("f4") - squash(decode(data), 224))
        assert drift.mean() < 0.4
        assert drift.max() <= 6


def test_crop_and_pad() -> None:
    """Guards the two other ways to a square, against plain Pillow; none changes a square image."""
    tall = PHOTO.rotate(90, expand=True)
    for image in (PHOTO, tall):
        width, height = image.size
        box = (15, 0, 75, 60) if image is PHOTO else (0, 15, 60, 75)
        plain = image.crop(box).resize((32, 32), BILINEAR)
        assert np.array_equal(squash(framed(image, "crop"), 32), np.asarray(plain))
        padded = np.asarray(framed(image, "pad"))
        assert padded.shape == (90, 90, 3)
        inside = padded[(90 - height) // 2 :, (90 - width) // 2 :][:height, :width]
        assert np.array_equal(inside, np.asarray(image))
        assert padded.sum() == inside.sum()
        assert framed(image, "squash") is image
    square = PHOTO.crop((0, 0, 60, 60))
    for resize in RESIZES:
        assert np.array_equal(np.asarray(framed(square, resize)), np.asarray(square))


def test_pad_makes_no_square_without_bound() -> None:
    """Guards the memory: a strip of 50 million pixels would be a square of 2,500 million."""
    strip = Image.new("L", (50_000, 1000))
    for resize in ("pad", "crop50.0"):
        message = "padded to a square it has 2,500,000,000 pixels, more than the 160,000,000"
        with pytest.raises(Unreadable, match=message):
            framed(strip, resize)
    with pytest.raises(Unreadable, match="with a shortest edge of 256 it has 655,360,000 pixels, more than the 160,"):
        resized_first((10_000, 1), "edge256")
    recipe = Recipe(NOWHERE, backbone_named("scattering"), "", "", 32, 0, resize="pad")
    strip, small = np.zeros((2, 12_650, 3), "u1"), np.full((40, 40, 3), 9, "u1")
    pixels, reasons, _ = StageOne(recipe, lambda images: images, batch=4).pixels([small, strip])
    assert (pixels[0] == 9).all() and list(reasons) == [1] and "padded to a square it has 160,022,500" in reasons[1]


@pytest.mark.parametrize(
    ("filter", "resize", "opened"),
    [
        *(("nearest", "squash", 800), ("bilinear", "squash", 200)),
        *(("bilinear", "crop0.5", 200), ("bilinear", "edge50", 100)),  # the middle of 400 pixels; twice the edge
    ],
)
def test_a_large_jpeg_is_decoded_as_large_as_its_square_needs(filter: str, resize: str, opened: int) -> None:
    """Guards single pixels, which are those of the whole image alone, and a middle that is less than the image."""
    file = io.BytesIO()
    PHOTO.resize((800, 800)).save(file, "JPEG")
    recipe = Recipe(NOWHERE, backbone_named("scattering"), "", "", 100, 0, resize=resize, filter=filter)
    assert recipe.open(file.getvalue()).size == (opened, opened)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_pillows(name: str) -> None:
    """Guards the filter's name."""
    plain = PHOTO.resize((32, 32), getattr(Image.Resampling, name.upper()))
    assert np.array_equal(squash(PHOTO, 32, name), np.asarray(plain))
