"""What is said once of all images that a pass has read: which have pages, and what deep samples use of their scale."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from extract.images.colour import Range
from extract.recipe import Recipe
from features.runtime.errors import listed
from features.runtime.log import log

DARK = 1 / 2  # of white: images of which none is brighter lose at least one of their 8 bits


class _Seen(NamedTuple):
    """The images on one scale: how many, and the range of all."""

    images: int
    low: float
    high: float


class Remarks:
    """Gathers what is said of images while they are read.

    Args:
        recipe: how they are read.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._page, self._white = recipe.page, recipe.white
        self._read = False
        self._paged: list[str] = []
        self._clipped: list[str] = []
        self._scales: dict[tuple[float, bool], _Seen] = {}

    def add(self, paged: Sequence[str], ranges: Mapping[str, Range]) -> None:
        """Take what was found in a block of images; see `Block`."""
        self._read = True
        self._paged += paged
        for path, (low, high, white, is_grey) in ranges.items():
            count, least, most = self._scales.get((white, is_grey), _Seen(0, low, high))
            self._scales[white, is_grey] = _Seen(count + 1, min(least, low), max(most, high))
            if is_grey and self._white and high > self._white:
                self._clipped.append(path)

    def tell(self) -> None:
        """Say it, a line for each kind."""
        if self._paged:
            which = f"page {self._page} was read" if self._page > 1 else "the first was read (--page N takes another)"
            log.info(f"{len(self._paged)} images have several pages or frames, and {which}: {listed(self._paged)}")
        for (white, is_grey), (count, low, high) in self._scales.items():
            used = f"values from {low:,.6g} to {high:,.6g} of {white:,.6g}"
            if is_grey and self._white:
                log.info(f"{count} images of deep greys have {used}")
            elif high <= DARK * white:
                levels = f"{round(255 * high / white) - round(255 * low / white) + 1} of 256 levels"
                if is_grey:
                    way = f"--white N spreads them, N the camera's largest value (4095 for 12 bits) or {high:,.6g}"
                else:
                    way = "save them as 8 bits, with their brightest value as 255"
                log.warning(f"{count} images of more than 8 bits use {used}, {levels}: {way}")
        if self._clipped:
            log.warning(
                f"{len(self._clipped)} images have values above --white {self._white:g}, which are white: "
                f"{listed(self._clipped)}"
            )
        if self._white and self._read and not any(is_grey for _, is_grey in self._scales):
            log.warning(f"--white {self._white:g} changes nothing: no image that was read has deep greys")
