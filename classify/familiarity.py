"""How like the train images an image is: a model answers any image, also one of a kind that it has never seen."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from classify.folds import folds
from classify.fusion import parts
from classify.rows import shape
from features import Stack
from features.halves import widened
from features.layout import CHUNK_BYTES
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
        inside = np.ones((len(train), len(splits) + 1), bool)  # of each fold, and all rows
        for fold, (rows, _) in enumerate(splits):
            inside[:, fold] = np.isin(np.arange(len(train)), rows)
        sums = np.zeros((inside.shape[1], codes.max() + 1, sum(part.feature_shape[-1] for part in parts(train))))
        for at, rows in _pooled_pieces(train):
            for fold, here in enumerate(inside[at].T):
                own = (codes[at, None] == np.arange(sums.shape[1])) & here[:, None]
                sums[fold] += own.T.astype("f4") @ rows
        means = _unit(sums)
        held = np.full(len(train), np.nan)
        for at, rows in _pooled_pieces(train):
            for fold, (_, out) in enumerate(splits):
                here = out[(out >= at.start) & (out < at.stop)]
                held[here] = _nearest(rows[here - at.start], means[fold])
        levels = np.nanquantile(held, np.arange(1, LEVELS) / LEVELS)
        return cls(means[-1], levels.astype("f4"))

    def __call__(self, rows: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
        """The share of held-out train images that an image is more familiar than, (m,) float64 in hundredths.

        Args:
            rows: (m, width) float32 of each stack.
            shapes: of a row of each, before flattening.
        """
        pooled = _pooled([pool_rows(x, shape, "avg") for x, shape in zip(rows, shapes, strict=True)])
        return np.searchsorted(self.levels, _nearest(pooled, self.means)) / LEVELS

    def save(self, folder: Path) -> None:
        """Write it beside a model."""
        np.savez(folder / FAMILIAR_FILE, means=self.means, levels=self.levels)

    @classmethod
    def load(cls, folder: Path) -> "Familiarity":
        """Read what `save` wrote."""
        with np.load(folder / FAMILIAR_FILE, allow_pickle=False) as file:
            return cls(file["means"], file["levels"])


def _pooled_pieces(stack: Stack) -> Iterator[tuple[slice, np.ndarray]]:
    """Places of a stack's rows, or of stacks' side by side, and `_pooled` of them."""
    stacks = parts(stack)
    step = max(1, CHUNK_BYTES // (4 * sum(shape(part)[1] for part in stacks)))
    for start in range(0, len(stack), step):
        at = slice(start, min(start + step, len(stack)))
        some = [widened(part.take(np.arange(at.start, at.stop)).X[:]) for part in stacks]
        yield at, _pooled([pool_rows(x, p.feature_shape, "avg") for x, p in zip(some, stacks, strict=True)])


def _pooled(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pooled rows of several stacks side by side, each of unit length, (m, channels of all) float32."""
    return _unit(np.hstack([_unit(part) for part in parts]))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), np.finfo("f4").tiny), "f4")


def _nearest(rows: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(m,) cosine with the nearest of the means."""
    nearest: np.ndarray = (rows @ means.T).max(axis=1)
    return nearest
