"""Augmented views: copies of a training image, changed by seeded random numbers."""

import hashlib
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from extract.images.decode import FILTERS, squash

ROTATION = 90.0  # the sources' degrees to either side
BRIGHTNESS = (0.1, 0.7)  # factor: every training image becomes darker, which is what the sources did

AREA = (0.5, 1.0)  # share of the image that a crop keeps
ASPECT = (3 / 4, 4 / 3)  # of a crop, by which the image's own is multiplied
TILT = 10.0  # degrees to either side
COLOUR = (0.8, 1.2)  # factors of brightness, contrast and saturation


def photograph(image: Image.Image, side: int, rng: np.random.Generator, filter: str = "bilinear") -> np.ndarray:
    """Another image of the same thing: a crop, flipped one time in two, slightly tilted, slightly other colours.

    Args:
        image: RGB of any size; the crop is taken at full size.
        side: of the result, pixels.
        rng: gives the crop's area, aspect and place, flip, tilt, brightness, contrast and saturation.
        filter: a name in `FILTERS`, for the crop.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    area, aspect = rng.uniform(*AREA), math.exp(rng.uniform(*np.log(ASPECT)))
    width, height = (min(1.0, math.sqrt(area * ratio)) for ratio in (aspect, 1 / aspect))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    box = (left * image.width, top * image.height, (left + width) * image.width, (top + height) * image.height)
    view = image.resize((side, side), FILTERS[filter], box)
    if rng.uniform() < 0.5:
        view = ImageOps.mirror(view)
    view = Image.fromarray(_rotated(np.asarray(view), rng.uniform(-TILT, TILT)))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhance(view).enhance(rng.uniform(*COLOUR))
    return np.asarray(view)


def rotate_and_darken(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotation by up to 90° and brightness times 0.1–0.7, as in the sources.

    Args:
        image: (side, side, 3) uint8 RGB.
        rng: gives the angle, then the factor.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    angle, factor = rng.uniform(-ROTATION, ROTATION), rng.uniform(*BRIGHTNESS)
    return (_rotated(image, angle) * factor).astype("u1")


AUGMENTS: dict[str, Callable[[Image.Image, int, np.random.Generator, str], np.ndarray]] = {
    "photo": photograph,
    "sources": lambda image, side, rng, filter: rotate_and_darken(squash(image, side, filter), rng),
}
LEAST_SIDE = {"photo": math.sqrt(AREA[0] * ASPECT[0]), "sources": 1.0}  # share of an image's side that a view shows


def view_of(
    image: Image.Image,
    side: int,
    augment: str,
    seed: int,
    sha256: np.ndarray,
    view: int,
    filter: str = "bilinear",
    first: tuple[int, int] | None = None,
) -> np.ndarray:
    """One view of an image; the same arguments always give the same pixels.

    Args:
        image: RGB of any size.
        side: of the result, pixels.
        augment: a name in `AUGMENTS`.
        seed: any integer.
        sha256: (32,) uint8 of the image file.
        view: 0 for the image itself; another number, another random change.
        filter: a name in `FILTERS`.
        first: see `squash`; of a changed view, the middle of the image is taken in this proportion.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    if view == 0:
        return squash(image, side, filter, first)
    if first:
        width, height = (round(length * side / whole) for length, whole in zip(image.size, first, strict=True))
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    digest = hashlib.sha256(f"{seed}:{view}:".encode() + sha256.tobytes()).digest()
    return AUGMENTS[augment](image, side, np.random.default_rng(int.from_bytes(digest)), filter)


def _rotated(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn an image about its middle; uncovered pixels repeat the nearest edge (Keras's `fill_mode="nearest"`)."""
    side = len(image)
    margin = math.ceil(side * (math.sqrt(2) - 1) / 2)
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    turned = np.asarray(Image.fromarray(padded).rotate(degrees, Image.Resampling.BILINEAR))
    return turned[margin : margin + side, margin : margin + side]
