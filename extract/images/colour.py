"""Pixels of any mode → 8-bit sRGB, through the profile that an image brings."""

import io
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

from features.source import Unreadable

SLACK = 0.02  # share of white by which floats may lie below black or above white: a filter's ringing, a rounding
FAINTEST = 1 / 16  # floats of 0–255 or 0–65535 whose largest is a smaller share of white are of some other scale
# A profile's colour space → the mode that it reads, and the modes of the same colours.
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
KINDS = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"} | dict.fromkeys(
    ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA"), "RGB"
)
SAME = 2  # levels of 255: a profile that moves no colour further than this is sRGB itself, of which there are hundreds
# Relative colorimetric with black point compensation, as photo editors have it by default: every colour that sRGB has
# stays exact, and black ink becomes black (perceptual would move them too, as each profile's maker saw fit). RGB
# profiles of cameras and phones are matrices, for which all intents are one. Without its one-pixel cache, a transform
# may be used by several threads at once (Little CMS's manual), and decoding threads share these.
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
# A PNG's transparent colour is given at the file's depth, and Pillow compares it with pixels that it has rescaled.
TRANSPARENT = {"L;2": lambda value: 85 * value, "L;4": lambda value: 17 * value, "RGB;16B": lambda value: value >> 8}


class Greys(NamedTuple):
    """What a file's header says of deep greys.

    Attributes:
        white: its value; None for floats, whose scale is the first of 0–1, 0–255, 0–65535 that they fit.
        inverted: 0 is white, and that value black.
        unit: of the loaded image's values, in the file's.
    """

    white: int | None = None
    inverted: bool = False
    unit: float = 1.0


class Range(NamedTuple):
    """What an image's samples of more than 8 bits use of their scale: an entry of `info` of what `to_srgb` returns."""

    low: float
    high: float
    white: float
    is_grey: bool = True


RANGE = "range"  # the key of that entry


def to_srgb(image: Image.Image, greys: Greys | None = None, white: float | None = None) -> Image.Image:
    """8-bit sRGB of an image of any mode.

    Deep greys are rescaled, not clipped. Colours are converted through the embedded profile, unless it is unreadable or
    not of the image's kind. Alpha goes on white.

    Args:
        image: any image that Pillow has loaded.
        greys: what its header says; None where integers have 65535 for white.
        white: of deep greys, whatever the header says, in the file's values; what is brighter is white too.

    Raises:
        Unreadable: its greys have no known scale.
    """
    profile, used = image.info.get("icc_profile"), None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image, used = _shallow(image, greys or Greys(None if image.mode == "F" else 65535), white)
    rgb = _in_srgb(image, profile)
    if used:
        rgb.info[RANGE] = used
    return rgb


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """8-bit sRGB of an image of 8 bits, alpha on white."""
    mode, transform = _transform(profile) if profile else ("", None)
    if mode != KINDS.get(image.mode):
        transform = None
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if transform:
            colours = transform.apply(layer.convert(mode))
            colours.putalpha(layer.getchannel("A"))
            layer = colours
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if transform:
        return transform.apply(image if image.mode == mode else image.convert(mode))
    return image.convert("RGB")


def rescale_transparency(image: Image.Image) -> None:
    """Put the transparent colour of a PNG that is not loaded yet on the scale of the pixels that it will have."""
    scale, value = TRANSPARENT.get(str(image.tile[0][3])), image.info.get("transparency")  # type: ignore[attr-defined]
    if scale and value is not None:
        image.info["transparency"] = tuple(map(scale, value)) if isinstance(value, tuple) else scale(value)


def _shallow(image: Image.Image, greys: Greys, stated: float | None) -> tuple[Image.Image, Range]:
    """Deep greys → 8 bits, and their range; a transparent grey becomes an alpha channel.

    Args:
        image: of deep greys.
        greys: see `to_srgb`.
        stated: the value that is white, if it was said; in the file's values.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    used = Range(float(low / greys.unit), float(high / greys.unit), 0)
    is_float, slack = values.dtype.kind == "f", 0.0
    white: float
    if stated:
        white = stated * greys.unit if is_float else max(1, round(stated * greys.unit))
        high = min(high, white)
        values = np.minimum(values, high)
    elif greys.white is not None:
        white = greys.white
    else:
        white, slack = next((top for top in (1, 255) if high <= top * (1 + SLACK)), 65535), SLACK
        if white > 1 and high < white * FAINTEST:
            white = -1
    if not (-slack * white <= low and high <= white * (1 + slack)):  # NaN is neither
        raise Unreadable(f"grey values from {low} to {high} have no known scale")
    if is_float or high > 65535:
        scaled = values * np.float32(255 / white)
        levels = np.round(np.clip(scaled, 0, 255, out=scaled), out=scaled).astype("u1")
    else:
        levels = np.round(np.arange(int(high) + 1) * (255 / white)).astype("u1")[values]
    shallow = Image.fromarray(255 - levels if greys.inverted else levels)
    if isinstance(key := image.info.get("transparency"), int):
        shallow.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype("u1")))
    return shallow, used._replace(white=white / greys.unit)


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, Any]:
    """The mode that a profile is for, and its transform to sRGB: None if it is sRGB itself, or cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = MODES[source.profile.xcolor_space.strip()]
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, srgb, mode, "RGB", INTENT, flags=FLAGS)
    except (KeyError, OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return "", None
    if mode != "CMYK":
        ramp = np.linspace(0, 255, 9 if mode == "RGB" else 256).astype("u1")
        grid = np.stack(np.meshgrid(ramp, ramp, ramp), -1).reshape(27, 27, 3) if mode == "RGB" else ramp[None]
        every = Image.fromarray(grid)
        moved = np.asarray(transform.apply(every), "i2") - np.asarray(every.convert("RGB"))
        if np.abs(moved).max() <= SAME:
            return mode, None
    return mode, transform
