"""The bytes of an image file → pixels that a network takes."""

import contextlib
import importlib
import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from features.source import Unreadable

Image.init()
with contextlib.suppress(ImportError):  # not needed; iPhones' images, where it is installed
    importlib.import_module("pillow_heif").register_heif_opener()

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit here is our own, MOST_PIXELS
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
}  # all antialiased where an image becomes smaller
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
TOO_MANY = f"more than the {MOST_PIXELS:,} that are decoded"


def decode(data: bytes, side: int | None = None) -> Image.Image:
    """Decode an image to 8-bit RGB.

    The first frame of an animation, turned as its EXIF orientation says, alpha composited on white.

    Large JPEGs may be decoded at a half, a quarter or an eighth by leaving out frequencies: images of 12 megapixels for
    224 pixels in a sixth of the time (19 ms instead of 119), the resized pixels 0.14 levels of 255 away on average.

    Args:
        data: the file's bytes.
        side: where a square of `side` pixels is all that is wanted, both sides keep `SPARE` times that, and an image
            that is not at least twice as large again is decoded in full; None decodes every image in full.

    Raises:
        Unreadable: not an image, damaged, or too large.
    """
    if not data:
        raise Unreadable("the file is empty")
    try:
        with _opened(data) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"it has {image.width * image.height:,} pixels, {TOO_MANY}")
            if side and image.format in ("JPEG", "MPO"):
                image.draft(None, (SPARE * side, SPARE * side))
            image.load()
            return to_rgb(turned(image))
    except UnidentifiedImageError:
        if data[4:8] == b"ftyp" and data[8:12] in HEIF:
            raise Unreadable(HEIC) from None
        raise Unreadable("not an image in any known format") from None
    except Image.DecompressionBombError:  # Pillow's own limit, met before ours
        raise Unreadable(f"its pixels are {TOO_MANY}") from None
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever comes to hand: struct.error, KeyError, ZeroDivisionError …
        raise Unreadable(f"cannot be decoded: {error}") from None


def is_animated(data: bytes) -> bool:
    """Whether a file holds several frames; `decode` takes the first."""
    if not (data.startswith(b"GIF8") or data[8:12] == b"WEBP" or b"acTL" in data[:256] or data[8:12] == b"avis"):
        return False
    try:
        with _opened(data) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame; the first has been decoded
        return True


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])


def framed(image: Image.Image, resize: str) -> Image.Image:
    """The part of an image that becomes the square: all of it (`squash`), its middle (`crop`), or all on black (`pad`).

    Raises:
        Unreadable: the black square would be too large.
    """
    if resize == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.crop((left, top, left + side, top + side))
    if resize == "pad":
        side = max(image.size)
        if side * side > MOST_PIXELS:
            raise Unreadable(f"padded to a square it has {side * side:,} pixels, {TOO_MANY}")
        square = Image.new("RGB", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return square
    return image


def squash(image: Image.Image, side: int, filter: str = "bilinear") -> np.ndarray:
    """The whole of an image as a square, (side, side, 3) uint8 RGB, by one of Pillow's filters in `FILTERS`."""
    return np.asarray(image.resize((side, side), FILTERS[filter]))


def turned(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says.

    Not `ImageOps.exif_transpose`: that writes the rest of the EXIF data anew, and fails where some odd tag of a camera
    cannot be written, although the pixels are fine.
    """
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image of any mode: deep greys are rescaled, not clipped, and alpha goes on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Grey values of 0–1 (float), 0–255 or 0–65535 → uint8, by the smallest of these ranges that the type allows."""
    top = values.max()
    if values.min() < 0 or not np.isfinite(top) or top > 65535:
        raise Unreadable(f"grey values from {values.min()} to {top} have no known scale")
    if values.dtype.kind == "f":
        scale = 255 if top <= 1 else 1 if top <= 255 else 255 / 65535
    else:
        scale = 255 / 65535 if values.dtype.itemsize == 2 or top > 255 else 1
    return np.round(values * scale).astype("u1")
