"""How like the train images an image is: a model answers any image, also one of a kind that it has never seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from classify.folds import folds
from classify.fusion import parts
from features import Stack
from features.reader import pool_rows

FAMILIAR_FILE = "familiar.npz"
LEAST = 0.01  # an image below this is unlike the train images: of those, one in a hundred is
LEVELS = 100


class Familiarity(NamedTuple):
    """The cosine of an image's average-pooled row with the nearest class mean, among those of held-out train images.

    `python -m benchmarks.familiar` shows what images that are nothing like the train photos get.

    Attributes:
        means: (classes, channels) float32 of unit length.
        levels: (LEVELS − 1,) float32, increasing: percentiles of the cosines of train images that were held out of the
            means.
    """

    means: np.ndarray
    levels: np.ndarray

    @classmethod
    def of(cls, train: Stack, codes: np.ndarray) -> "Familiarity | None":
        """Measured inside the train rows; None where a class is too small for folds.

        Args:
            train: the train rows, of one stack or of several side by side.
            codes: (n,) int64 classes 0…k−1.
        """
        splits = folds(train, codes)
        if not splits:
            return None
        rows = _pooled(
            [np.concatenate([pool_rows(x, p.feature_shape[-1], "avg") for x in p.chunks()]) for p in parts(train)]
        )
        held = np.concatenate([_nearest(rows[out], _means(rows[inside], codes[inside])) for inside, out in splits])
        levels = np.quantile(held, np.arange(1, LEVELS) / LEVELS)
        return cls(_means(rows, codes), levels.astype("f4"))

    def __call__(self, rows: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
        """The share of held-out train images that an image is more familiar than, (m,) float64 in hundredths.

        Args:
            rows: (m, width) float32 of each stack.
            shapes: of a row of each, before flattening.
        """
        pooled = _pooled([pool_rows(x, shape[-1], "avg") for x, shape in zip(rows, shapes, strict=True)])
        return np.searchsorted(self.levels, _nearest(pooled, self.means)) / LEVELS

    def save(self, folder: Path) -> None:
        """Write it beside a model."""
        np.savez(folder / FAMILIAR_FILE, means=self.means, levels=self.levels)

    @classmethod
    def load(cls, folder: Path) -> "Familiarity":
        """Read what `save` wrote."""
        with np.load(folder / FAMILIAR_FILE, allow_pickle=False) as file:
            return cls(file["means"], file["levels"])


def _pooled(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pooled rows of several stacks side by side, each of unit length, (m, channels of all) float32."""
    return _unit(np.hstack([_unit(part) for part in parts]))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo("f4").tiny), "f4")


def _means(rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return _unit(np.stack([rows[codes == code].mean(axis=0) for code in np.unique(codes)]))


def _nearest(rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(m,) cosine with the nearest of the means."""
    nearest: np.ndarray = (rows @ means.T).max(axis=1)
    return nearest
