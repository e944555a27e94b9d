"""Maps drawn over the photo that they belong to, as the backbone saw it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from classify.comparison.photos import data_uri
from extract.images.decode import framed, resized_edge

FOR, AGAINST = (217, 72, 1), (8, 81, 156)  # colours of evidence for and against a class
STRONGEST = 0.75  # opacity of the strongest evidence on a page
SIDE = 224  # pixels of the longer side of a photo


def as_seen(photo: Image.Image, made: Mapping[str, Any], side: int = SIDE) -> Image.Image:
    """The part of a photo that the backbone saw, in its own proportions, the longer side of `side` pixels.

    Args:
        photo: decoded.
        made: `resize` and `input_size` of the stack, see FORMAT.md.
        side: pixels.
    """
    resize = str(made["resize"])
    if edge := resized_edge(resize):  # resized to that first, then the middle
        part = made["input_size"] / edge
        width, height = (photo.width, photo.height)
        if resize.startswith("edge"):
            width = height = round(part * min(photo.size))
        else:
            width, height = round(part * width), round(part * height)
        left, top = (photo.width - width) // 2, (photo.height - height) // 2
        photo = photo.crop((left, top, left + width, top + height))
    else:
        photo = framed(photo, resize)
    scale = side / max(photo.size)
    return photo.resize((max(1, round(scale * photo.width)), max(1, round(scale * photo.height))))


def drawn(map: np.ndarray, strongest: float) -> str:
    """A map (h, w) as a picture of h × w pixels to lay over the photo, a data URI: a browser smooths it.

    Args:
        map: evidence, positive for the class.
        strongest: the largest magnitude on the page, which is drawn strongest.
    """
    level = np.abs(map) / (strongest or 1.0)
    pixels = np.zeros((*map.shape, 4), np.uint8)
    pixels[..., :3] = np.where(map[..., None] > 0, FOR, AGAINST)
    pixels[..., 3] = np.rint(255 * STRONGEST * np.minimum(level, 1))
    return data_uri(Image.fromarray(pixels), "PNG")
