"""Colours and greys of any kind → 8-bit sRGB."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from features.source import Unreadable

DEEPEST = 65535
TOLERANCE = 0.02  # of the scale: floats a little outside of it are rounded into it
ALIKE = 2  # levels: a profile that changes no colour by more is sRGB
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's colour space → Pillow's mode


def to_srgb(image: Image.Image) -> Image.Image:
    """An image with its embedded profile applied; as it is if there is none, or it cannot be read or does not fit.

    Relative colorimetric with black point compensation, as photo editors do: colours that sRGB has stay what they are.
    """
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    if image.mode in ("P", "PA") or "transparency" in image.info:  # one colour may stand for it, and would change
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    colours = image.convert(image.mode[:-1]) if alpha else image
    transform = _transform(profile, colours.mode)
    if transform is None:
        return image
    converted = transform.apply(colours)
    if alpha:
        converted.putalpha(alpha)
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> Any:
    """From a profile to sRGB for images of a mode; None where nothing changes, or it cannot be made."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if SPACES.get(source.profile.xcolor_space.strip()) != mode:
            return None
        srgb = ImageCms.createProfile("sRGB")
        # Threads share a transform, which would remember the last pixel.
        flags = ImageCms.Flags.NOCACHE | ImageCms.Flags.BLACKPOINTCOMPENSATION
        transform = ImageCms.buildTransform(source, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):  # a profile may hold anything
        return None
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: Any, mode: str) -> bool:
    """Whether a transform leaves all colours of a grid where they are, or nearly: its profile is sRGB's own."""
    levels = np.arange(0, 256, 51, dtype="u1")
    grid = np.stack(np.meshgrid(*[levels] * len(mode)), axis=-1)  # mode is RGB or L
    probe = Image.fromarray(grid.reshape(1, -1, 3) if mode == "RGB" else grid.reshape(1, -1))
    now = np.asarray(transform.apply(probe), int)
    return bool(np.abs(now - np.asarray(probe.convert("RGB"), int)).max() <= ALIKE)


def deep_to_bytes(values: np.ndarray, most: int = DEEPEST) -> np.ndarray:
    """Grey values deeper than 8 bits → uint8.

    Args:
        values: integers of 0–`most`; floats of 0–1, 0–255 or 0–65535, by the smallest of these that holds them.
        most: the largest value that the file's depth allows.

    Raises:
        Unreadable: negative numbers, numbers above the scale, or none that are finite.
    """
    top, bottom = values.max(), values.min()
    if values.dtype.kind == "f":
        scale = next((s for s in (1.0, 255.0, float(DEEPEST)) if top <= s * (1 + TOLERANCE)), None)
        fits = scale is not None and bottom >= -scale * TOLERANCE  # NaN is neither
    else:
        scale, fits = float(most), bottom >= 0 and top <= most
    if not fits or scale is None:
        raise Unreadable(f"grey values from {bottom} to {top} have no known scale")
    return np.round(np.clip(values / scale, 0, 1) * 255).astype("u1")
