"""Which rows are nearest by cosine, and what they vote for."""

from typing import Any, NamedTuple, Self

import numpy as np

from classify.rows import row_chunks, shape, unit_rows

MOST = 20  # neighbours; chosen by cross-validation inside the train rows of food101-10, 375 a class


def usual(codes: np.ndarray) -> int:
    """How many neighbours are asked of rows of these classes (n,): an odd number, half as many as a usual class has.

    More would outvote the class that is near: of ten classes of five photos of food101-10, one neighbour knew 45 % of
    other photos and 20 knew 38 %; of four classes of three, 59 and 25 %.
    """
    half = int(np.median(np.bincount(codes))) // 2
    return min(MOST, max(1, half - 1 + half % 2))


class Ballots(NamedTuple):
    """What each train row votes for, and how much that counts.

    Attributes:
        codes: (n,) int64 classes 0…k−1.
        weights: (n,) float64.
    """

    codes: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, balance: bool) -> Self:
        """One vote a row, or together as many for every class."""
        return cls(codes, 1 / np.bincount(codes)[codes] if balance else np.ones(len(codes)))

    def shares(self, which: np.ndarray) -> np.ndarray:
        """(m, classes) float64 shares of the votes of some rows (m, k), each sums to one."""
        classes = int(self.codes.max()) + 1
        places = np.arange(len(which))[:, None] * classes + self.codes[which]
        # Counted, as a table of all rows' votes for all classes would be gigabytes of zeros.
        counts = np.bincount(places.ravel(), self.weights[which].ravel(), len(which) * classes)
        found = counts.reshape(len(which), classes)
        return np.asarray(found / found.sum(axis=1, keepdims=True))


def most_alike(cosines: np.ndarray, k: int) -> np.ndarray:
    """(m, k) indices of the columns of (m, n) cosines with the greatest, in no order; all if n < k."""
    k = min(k, cosines.shape[1])
    return np.argpartition(-cosines, k - 1, axis=1)[:, :k]


def nearest(X: Any, rows: Any, k: int) -> np.ndarray:
    """(m, k) indices of the rows (n, d) that are nearest to each of X's (m, d) by cosine, in no order; all if n < k."""
    near = np.empty((shape(X)[0], 0), np.float32)
    which = np.empty(near.shape, np.int64)
    start = 0
    asked = np.concatenate([unit_rows(piece) for piece in row_chunks(X)])
    for piece in row_chunks(rows):
        lengths = np.sqrt(np.einsum("ij,ij->i", piece, piece, dtype=np.float64))
        cosines = np.hstack([near, (asked @ piece.T) / np.where(lengths == 0, 1, lengths).astype(np.float32)])
        indices = np.hstack([which, np.broadcast_to(np.arange(start, start + len(piece)), (len(which), len(piece)))])
        start += len(piece)
        if cosines.shape[1] > k:
            best = most_alike(cosines, k)
            cosines, indices = np.take_along_axis(cosines, best, axis=1), np.take_along_axis(indices, best, axis=1)
        near, which = cosines, indices
    return which
