"""Changed copies of a training image, as a seeded generator of random numbers decides."""

import math

import numpy as np
from PIL import Image

ROTATION = 90.0  # degrees to either side
BRIGHTNESS = (0.1, 0.7)  # factor: every training image becomes darker, which is what the sources did


def rotate_and_darken(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotation by up to 90° and brightness times 0.1–0.7, as in the sources.

    What the rotation uncovers repeats the nearest edge (`fill_mode="nearest"` of Keras's ImageDataGenerator).

    Args:
        image: (side, side, 3) uint8 RGB.
        rng: gives the angle, then the factor.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    angle, factor = rng.uniform(-ROTATION, ROTATION), rng.uniform(*BRIGHTNESS)
    side = len(image)
    margin = math.ceil(side * (math.sqrt(2) - 1) / 2)
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    turned = np.asarray(Image.fromarray(padded).rotate(angle, Image.Resampling.BILINEAR))
    return (turned[margin : margin + side, margin : margin + side] * factor).astype("u1")
