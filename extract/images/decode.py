"""The bytes of an image file → pixels that a network takes."""

import contextlib
import importlib
import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from extract.images.colour import DEEPEST, deep_to_bytes, to_srgb
from extract.images.tiff import black_is_zero, libtiff_errors, read_header
from features.source import Unreadable

Image.init()
with contextlib.suppress(ImportError):  # not needed; iPhones' images, where it is installed
    importlib.import_module("pillow_heif").register_heif_opener()

warnings.filterwarnings("ignore", module=r"PIL\.")  # of large images, where the limit is our own, and of odd tags
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


def decode(data: bytes, side: int | None = None, managed: bool = True) -> Image.Image:
    """Decode an image to 8-bit RGB.

    The first frame of an animation, turned as its EXIF orientation says, alpha composited on white, in sRGB.

    Large JPEGs may be decoded at a half, a quarter or an eighth by leaving out frequencies: images of 12 megapixels for
    224 pixels in a sixth of the time (19 ms instead of 119), the resized pixels 0.14 levels of 255 away on average.

    Args:
        data: the file's bytes.
        side: where a square of `side` pixels is all that is wanted, both sides keep `SPARE` times that, and an image
            that is not at least twice as large again is decoded in full; None decodes every image in full.
        managed: apply embedded colour profiles, and take the scale of deep greys from the file's header. False is for
            stacks that were begun before: profiles are ignored, and the scale is guessed from the values.

    Raises:
        Unreadable: not an image, damaged, or too large.
    """
    if not data:
        raise Unreadable("the file is empty")
    header = read_header(data)
    if header and header.is_misread():
        raise Unreadable(f"{header}: not supported")
    inverted = managed and header is not None and header.is_deep() and header.white_is_zero
    with libtiff_errors() as errors:
        try:
            with _opened(black_is_zero(data, header) if header and inverted else data) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Unreadable(f"it has {image.width * image.height:,} pixels, {TOO_MANY}")
                if side and image.format in ("JPEG", "MPO"):
                    image.draft(None, (SPARE * side, SPARE * side))
                image.load()
                if fax := [error for error in errors if error.startswith("Fax")]:
                    raise Unreadable(f"cannot be decoded: {fax[0]}")
                most = header.most if header and header.is_deep() else DEEPEST
                return to_rgb(image, managed, most, inverted)
        except UnidentifiedImageError:
            if data[4:8] == b"ftyp" and data[8:12] in HEIF:
                raise Unreadable(HEIC) from None
            raise Unreadable(f"{header}: not supported" if header else "not an image in any known format") from None
        except Image.DecompressionBombError:  # Pillow's own limit, met before ours
            raise Unreadable(f"its pixels are {TOO_MANY}") from None
        except (Unreadable, MemoryError):
            raise
        except Exception as error:  # decoders raise whatever comes to hand: struct.error, KeyError, ZeroDivisionError …
            raise Unreadable(f"cannot be decoded: {errors[0] if errors else error}") from None


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


def to_rgb(image: Image.Image, managed: bool = True, most: int = DEEPEST, inverted: bool = False) -> Image.Image:
    """8-bit RGB of a loaded image of any mode, upright, alpha on white.

    Args:
        image: as Pillow opened it.
        managed: see `decode`.
        most: the largest value of a grey pixel, if it is deeper than 8 bits.
        inverted: whether 0 is white there.

    Raises:
        Unreadable: grey values that have no known scale.
    """
    image = turned(image)
    if _is_deep(image):
        return Image.fromarray(_grey(image, most, inverted) if managed else _guessed(image)).convert("RGB")
    if managed:
        image = to_srgb(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _grey(image: Image.Image, most: int, inverted: bool) -> np.ndarray:
    """(height, width) uint8 of a deep grey image; the one value that may stand for transparent is white."""
    values = np.asarray(image)
    grey = deep_to_bytes(values, most)
    if inverted:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return grey


def _guessed(image: Image.Image) -> np.ndarray:
    """As `_grey`, for old stacks: the smallest of 0–1 (float), 0–255 and 0–65535 that holds the values is the scale."""
    values = np.asarray(image)
    top = values.max()
    if values.min() < 0 or not np.isfinite(top) or top > DEEPEST:
        raise Unreadable(f"grey values from {values.min()} to {top} have no known scale")
    if values.dtype.kind == "f":
        scale = 255 if top <= 1 else 1 if top <= 255 else 255 / DEEPEST
    else:
        scale = 255 / DEEPEST if values.dtype.itemsize == 2 or top > 255 else 1
    return np.round(values * scale).astype("u1")
