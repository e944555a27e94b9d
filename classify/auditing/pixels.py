"""Photos that show little: nearly black, nearly white, or blurred."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from extract.images.decode import decode
from features.runtime.machine import cores
from features.runtime.progress import progress
from features.source import Source, Unreadable

SIDE = 256  # pixels of the longer side at which sharpness is measured: about what a backbone sees
BLACK, WHITE = 40, 215  # of 255: a photo is nearly black if 99 % of its pixels are darker, nearly white likewise
SHARP = 3.0  # robust standard deviations below the middle, on a logarithmic scale, from which a photo is blurred


class Pixels(NamedTuple):
    """What was measured of each photo.

    Attributes:
        dark: (n,) float, the 99th percentile of luminance, 0 to 255; NaN where the photo could not be read.
        bright: (n,) the first percentile.
        sharpness: (n,) how much neighbouring pixels differ, as a share of how much all pixels do.
        unread: index → why a photo could not be read, or that it is another one now.
    """

    dark: np.ndarray
    bright: np.ndarray
    sharpness: np.ndarray
    unread: dict[int, str]

    def findings(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of photos that are nearly black or white, and of those that are blurred, the worst first."""
        with np.errstate(invalid="ignore"):
            empty = np.flatnonzero((self.dark < BLACK) | (self.bright > WHITE))
        known = np.flatnonzero(np.isfinite(self.sharpness) & (self.sharpness > 0))
        known = np.setdiff1d(known, empty)
        if len(known) < 10:
            return empty, known[:0]
        logs = np.log(self.sharpness[known])
        low, middle, high = np.quantile(logs, [0.1587, 0.5, 0.8413])
        blurred = known[logs < middle - SHARP * max(high - middle, middle - low)]
        return empty[np.argsort(self.dark[empty])], blurred[np.argsort(self.sharpness[blurred])]


def measure(source: Source, paths: Sequence[str], sha256: np.ndarray, how: Mapping[str, Any]) -> Pixels:
    """Read photos, decoded small, on all cores.

    Args:
        source: where they are.
        paths: the photos there.
        sha256: (n, 32) uint8 of the files that are meant.
        how: they are decoded; see `reading`.
    """
    values = np.full((len(paths), 3), np.nan)
    unread: dict[int, str] = {}

    def one(i: int) -> None:
        try:
            photo = source.read(paths[i])
            if not np.array_equal(photo.sha256, sha256[i]):
                raise Unreadable("another file by now")
            values[i] = measured(decode(photo.data, SIDE // 2, **how))
        except Unreadable as error:
            unread[i] = str(error)

    with ThreadPoolExecutor(cores()) as threads, progress(total=len(paths), unit="photos") as bar:
        for _ in threads.map(one, range(len(paths))):
            bar.update()
    dark, bright, sharpness = values.T
    return Pixels(dark, bright, sharpness, unread)


def measured(photo: Image.Image) -> tuple[float, float, float]:
    """99th and first percentile of luminance, and sharpness; see `Pixels`."""
    grey = photo.convert("L")
    grey.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    light = np.asarray(grey, np.float32)
    first, last = np.percentile(light, [1, 99])
    if min(light.shape) < 3:
        return float(last), float(first), np.nan
    middle = light[1:-1, 1:-1]
    around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    spread = float(light.std())
    return float(last), float(first), float((around - 4 * middle).std() / spread) if spread > 1 else 0.0
