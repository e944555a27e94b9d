"""The bytes of an image file → pixels that a network takes."""

import contextlib
import importlib
import io
import logging
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from extract.images import old, tiff
from extract.images.colour import RANGE, Greys, Range, rescale_transparency, to_srgb
from features.schema import plain
from features.source import Unreadable

Image.init()
with contextlib.suppress(ImportError):  # where it cannot be had, iPhones' images are rejected
    importlib.import_module("pillow_heif").register_heif_opener()

warnings.filterwarnings("ignore", module=r"PIL\.")  # of large images, where the limit is our own, and of odd tags
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what Pillow logs of odd tags
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
RESIZES = ("squash", "crop", "pad")
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "nearest": Image.Resampling.NEAREST,
}  # all but the last antialiased where an image becomes smaller
SPARE = 2  # a JPEG is decoded at this multiple of the needed size or more


MOST_PIXELS = 160_000_000  # of one image: what the largest cameras take, and 640 MB while it is decoded
HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")  # brands, bytes 8–12 after `ftyp`
# What is decoded, whatever a file's name. Not all that Pillow knows: it hands PostScript to another program, and TGA,
# which has no mark of its own at the beginning, could be anything.
# fmt: off
FORMATS = (
    "JPEG", "MPO", "JPEG2000", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "PSD", "ICO", "DDS", "AVIF", "HEIF",
)
# fmt: on


HEIC = "a HEIC photo: pip install pillow-heif, or convert it to JPEG"
FLAT = "a PSD without a flat copy, which is all that is read: save it with Maximize Compatibility, or as PNG"
MERGED = 1057  # the resource of a PSD whose fifth byte says whether its flat copy is the image, and not a white page
TOO_MANY = f"more than the {MOST_PIXELS:,} that are decoded"


def decode(
    data: bytes, side: int | None = None, managed: bool = True, page: int = 1, white: float | None = None
) -> Image.Image:
    """Decode an image to 8-bit RGB.

    One page or frame of a file with several, turned as its EXIF orientation says, alpha composited on white, in sRGB.

    Large JPEGs may be decoded at a half, a quarter or an eighth by leaving out frequencies: images of 12 megapixels for
    224 pixels in a sixth of the time (19 ms instead of 119), the resized pixels 0.14 levels of 255 away on average.

    Args:
        data: the file's bytes.
        side: where a square of `side` pixels is all that is wanted, both sides keep `SPARE` times that, and an image
            that is not at least twice as large again is decoded in full; None decodes every image in full.
        managed: apply embedded colour profiles, and take the scale of deep greys from the file's header. False is for
            stacks that were begun before: their images are decoded as `extract.images.old` says.
        page: of files with several pages or frames, from 1; other files are taken as they are.
        white: see `to_srgb`.

    Returns:
        the image; of one with samples of more than 8 bits, `info` has their `Range`.

    Raises:
        Unreadable: not an image, damaged, too large, or without such a page.
    """
    if not data:
        raise Unreadable("the file is empty")
    try:
        with _opened(data) as image:
            if page > 1:
                _turn_to(image, data, page)
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"it has {image.width * image.height:,} pixels, {TOO_MANY}")
            if side and image.format in ("JPEG", "MPO"):
                image.draft(None, (SPARE * side, SPARE * side))
            if managed:
                deep = image.mode.startswith("RGB") and ";16" in str(vars(image).get("tile"))
                rgb = to_rgb(*_loaded(image, data), white=white)
                if deep:  # of which Pillow keeps the upper 8 bits
                    low, high = zip(*rgb.getextrema(), strict=True)
                    rgb.info[RANGE] = Range(257 * min(low), 257 * max(high), 65535, is_grey=False)
                return rgb
            image.load()
            return to_rgb(image, managed=False)
    except Image.DecompressionBombError:  # Pillow's own limit, met before ours
        raise Unreadable(f"its pixels are {TOO_MANY}") from None
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] in HEIF:
            raise Unreadable("a HEIC photo that cannot be decoded" if "HEIF" in Image.OPEN else HEIC) from None
        raise Unreadable(tiff.cause(data, error) or "not an image in any known format") from None
    except Exception as error:  # decoders raise whatever comes to hand: struct.error, KeyError, ZeroDivisionError …
        raise Unreadable(f"cannot be decoded: {tiff.cause(data, error) or error}") from None


def _loaded(image: Image.Image, data: bytes) -> tuple[Image.Image, Greys | None]:
    """An opened image with its pixels, and what its header says of greys."""
    if image.format == "TIFF":
        return tiff.load(image, data)
    if image.format == "PPM" and image.mode == "I" and isinstance(given := vars(image)["tile"][0][3], tuple):
        image.load()
        return image, Greys(65535, unit=65535 / given[1])  # Pillow scales by the file's largest value
    if image.format == "PNG":
        rescale_transparency(image)
    if image.format == "PSD" and any(
        key == MERGED and value[4:5] == b"\0" for key, _, value in vars(image)["resources"]
    ):
        raise Unreadable(FLAT)
    image.load()
    return image, None


def has_pages(data: bytes) -> bool:
    """Whether a file holds several pages or frames, of which `decode` takes one."""
    if data[:4] in tiff.PREFIXES:
        return len(tiff.pages(data)) > 1
    if not (data.startswith(b"GIF8") or data[8:12] == b"WEBP" or b"acTL" in data[:256] or data[8:12] == b"avis"):
        return False
    try:
        with _opened(data) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame; the first has been decoded
        return True


def reading(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """`page` and `white` of `decode`, as a stack with these root attributes was made."""
    return {"page": int(attrs.get("page", 1)), "white": plain(attrs["white"]) if "white" in attrs else None}


def _turn_to(image: Image.Image, data: bytes, page: int) -> None:
    """Go to a page of a file that has several.

    Raises:
        Unreadable: it has fewer.
    """
    if has_pages(data):
        frames = tiff.pages(data) if image.format == "TIFF" else range(image.n_frames)  # type: ignore[attr-defined]
        if page > len(frames):
            raise Unreadable(f"it has {len(frames)} pages, and page {page} is asked for")
        image.seek(frames[page - 1])


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])


def framed(image: Image.Image, resize: str) -> Image.Image:
    """The part of an image that becomes the square: all of it (`squash`), its middle (`crop`), or all on black (`pad`).

    `crop0.875`: a middle with 0.875 of the shortest edge, rounded down.

    Raises:
        Unreadable: the square would be too large.
    """
    share = _cropped_share(resize)
    if share is None and resize != "pad":
        return image
    side = max(image.size) if share is None else max(1, int(share * min(image.size)))
    if side * side > MOST_PIXELS:
        raise Unreadable(f"padded to a square it has {side * side:,} pixels, {TOO_MANY}")
    if resize == "pad":
        square = Image.new("RGB", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        square.info = image.info
        return square
    return middle(image, side)


def middle(image: Image.Image, side: int) -> Image.Image:
    """The square in the middle of an image; what it lacks is black."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def resized_edge(resize: str) -> int | None:
    """The number of `edge256` and `squash256`: pixels of the shortest edge before a middle is cropped; else None."""
    found = re.fullmatch(r"(?:edge|squash)(\d+)", resize)
    return int(found[1]) if found else None


def resized_first(size: tuple[int, int], resize: str) -> tuple[int, int] | None:
    """(width, height) that an image of a size is resized to, before a square in its middle is cropped.

    `edge256`: the shortest edge becomes 256 pixels, the other in proportion, rounded down; `squash256`: both do. None
    for what `framed` knows.

    Raises:
        Unreadable: it would be too large.
    """
    edge = resized_edge(resize)
    if edge is None:
        return None
    if resize.startswith("squash"):
        return edge, edge
    width, height = (edge * length // min(size) for length in size)
    if width * height > MOST_PIXELS:
        raise Unreadable(f"with a shortest edge of {edge} it has {width * height:,} pixels, {TOO_MANY}")
    return width, height


def needed_edge(side: int, resize: str) -> int:
    """Pixels that the shortest edge needs for a square of `side` pixels."""
    return resized_edge(resize) or math.ceil(side / (_cropped_share(resize) or 1))


def _cropped_share(resize: str) -> float | None:
    """The number of `crop0.875`, which is 1 for `crop`; else None."""
    return float(resize.removeprefix("crop") or 1) if resize.startswith("crop") else None


def squash(image: Image.Image, side: int, filter: str = "bilinear", first: tuple[int, int] | None = None) -> np.ndarray:
    """The whole of an image as a square, (side, side, 3) uint8 RGB, by one of Pillow's filters in `FILTERS`.

    With `first` it is resized to that, and the square is its middle; what that lacks is black.
    """
    return np.asarray(middle(image.resize(first or (side, side), FILTERS[filter]), side))


def turned(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says.

    Not `ImageOps.exif_transpose`: that writes the rest of the EXIF data anew, and fails where some odd tag of a camera
    cannot be written, although the pixels are fine.
    """
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def to_rgb(
    image: Image.Image, greys: Greys | None = None, managed: bool = True, white: float | None = None
) -> Image.Image:
    """8-bit RGB of a loaded image of any mode, upright, alpha on white.

    Args:
        image: as Pillow opened it.
        greys: what its header says of greys deeper than 8 bits; None where integers have 65535 for white.
        managed, white: see `decode`.

    Raises:
        Unreadable: grey values that have no known scale.
    """
    return to_srgb(turned(image), greys, white) if managed else old.to_rgb(turned(image))
