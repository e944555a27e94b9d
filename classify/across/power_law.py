"""Extrapolate a learning curve: the error of n photos a class falls as a·n^(−b), to what is left at the end."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 200  # of the repeats, for the band
SLOPES = np.linspace(0.02, 1.5, 75)  # of b
FLOORS = np.linspace(0, 0.95, 20)  # of c, as shares of the least error
FEWEST = 3  # sizes, to fit a curve to


class Expected(NamedTuple):
    """The accuracy that a curve promises at another number of photos, and its 95 % band.

    Attributes:
        size: photos of a class.
    """

    size: int
    accuracy: float
    low: float
    high: float


def expected(
    sizes: Sequence[int], accuracies: np.ndarray, size: int, seed: int = 0, images: int | None = None
) -> Expected | None:
    """Accuracy at another number of photos, from a power law (Hestness et al., 2017; Rosenfeld et al., ICLR 2020).

    error(n) = c + a·n^(−b), with a, b > 0 and 0 ≤ c. The figures at hand hardly tell how much error is left at the end,
    c, from how fast the rest falls, b; the band says so. Each of its curves is fitted to other repeats, drawn with
    replacement, and to sizes without one of them; half of the curves have no c. All sizes are scored on the same test
    images, which may be easier than others: each curve is moved by an error of the size that so many images have.

    Args:
        sizes: photos of a class, rising.
        accuracies: (repeats, sizes).
        size: the other number of photos.
        seed: of the draws.
        images: how many different ones the accuracies are of; None for the accuracy on these very images.

    Returns:
        None with fewer than `FEWEST` sizes.
    """
    if len(sizes) < FEWEST:
        return None
    errors = 1 - np.asarray(accuracies, float)
    spread = np.maximum(errors.std(axis=0, ddof=1), 0.003) if len(errors) > 1 else np.full(len(sizes), 0.01)
    x = np.asarray(sizes, float)
    random = np.random.default_rng(seed)
    means = errors.mean(axis=0)
    by_images = np.sqrt(means * (1 - means) / images) if images else np.zeros(len(means))
    at = []
    for draw in range(DRAWS):
        some = errors[random.integers(0, len(errors), len(errors))].mean(axis=0)
        some = some + random.normal(0, spread / np.sqrt(len(errors))) + random.normal() * by_images
        some = np.clip(some, 1e-6, 1)
        kept = np.ones(len(x), bool)
        if len(x) > FEWEST:
            kept[random.integers(0, len(x))] = False
        at.append(_at(x[kept], some[kept], spread[kept], size, FLOORS if draw % 2 else FLOORS[:1]))
    centre = 1 - _at(x, means, spread, size, FLOORS)
    low, high = np.quantile(1 - np.array(at), [0.025, 0.975])
    return Expected(size, centre, float(min(low, centre)), float(max(high, centre)))


def _at(x: np.ndarray, errors: np.ndarray, spread: np.ndarray, size: int, floors: np.ndarray) -> float:
    """The error at `size` of the curve that fits best: b and c on a grid, and the best a for each of them."""
    slopes, least = SLOPES[:, None, None], (floors * errors.min())[None, :, None]
    shape = x**-slopes  # (b, 1, sizes)
    weights = 1 / spread**2
    scale = (weights * shape * (errors - least)).sum(-1) / (weights * shape**2).sum(-1)  # (b, c)
    scale = np.maximum(scale, 0)
    misfit = (weights * (errors - least - scale[..., None] * shape) ** 2).sum(-1)
    b, c = np.unravel_index(misfit.argmin(), misfit.shape)
    return float(np.clip(least[0, c, 0] + scale[b, c] * size ** -SLOPES[b], 0, 1))
