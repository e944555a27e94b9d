"""Pixels as stacks have them whose `decode` is `scaled`, or absent: their updates go on with these rules.

Profiles are not looked at, and the scale of deep greys is taken from their values. `extract.images.colour` is what new
stacks get.
"""

import numpy as np
from PIL import Image

from features.source import Unreadable


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image of any mode."""
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
