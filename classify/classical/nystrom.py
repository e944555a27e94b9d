"""The Nyström approximation: kernels with some of the rows, the landmarks, in place of kernels of all pairs."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from classify.classical.products import rbf
from classify.rows import in_memory, row_chunks, shape, unit_rows

LANDMARKS, FEATURE_BYTES = 2048, 2 << 30  # at most, and bytes of all rows' features


class Nystrom(NamedTuple):
    """Features of rows, whose inner products are nearly their RBF kernels: scikit-learn's `Nystroem` on unit rows.

    Attributes:
        rows: (m, d) float32 landmarks.
        gamma: γ of the kernel of unit rows.
        root: (m, r) float32, a root of the pseudo-inverse of the landmarks' own kernel.
    """

    rows: np.ndarray
    gamma: float
    root: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, gamma: float) -> Self:
        """The features by these landmarks."""
        own = np.concatenate(list(kernels(rows, rows, gamma))).astype(np.float64)
        squares, vectors = np.linalg.eigh(own)
        kept = squares > np.finfo(np.float32).eps * squares[-1]
        return cls(rows, gamma, (vectors[:, kept] / np.sqrt(squares[kept])).astype(np.float32))

    def features(self, X: Any) -> np.ndarray:
        """(n, r) float32 features of rows (n, d)."""
        out, start = np.empty((shape(X)[0], self.root.shape[1]), np.float32), 0
        for piece in kernels(X, self.rows, self.gamma):
            np.matmul(piece, self.root, out=out[start : start + len(piece)])
            start += len(piece)
        return out


def kernels(X: Any, rows: np.ndarray, gamma: float) -> Iterator[np.ndarray]:
    """(k, m) float32 RBF kernels of pieces of rows (n, d) and of rows (m, d), all scaled to unit length."""
    units = unit_rows(rows)
    there = _has_direction(rows)
    for piece in row_chunks(X):
        yield rbf(unit_rows(piece) @ units.T, _has_direction(piece), there, gamma)


def _has_direction(rows: np.ndarray) -> np.ndarray:
    """Squared lengths of unit rows: 1, or 0 for a row of zeros."""
    return np.asarray(rows.any(axis=1), np.float32)


def landmarks(X: Any, codes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Some rows of every class, in proportion, drawn by a seed: (m, d) float32, as many as their features have room."""
    n = len(codes)
    count = min(n, LANDMARKS, max(1, FEATURE_BYTES // (4 * n)))
    order = np.random.default_rng(seed).permutation(n)
    order = order[np.argsort(codes[order], kind="stable")]  # class by class, in random order inside each
    return in_memory(X, np.sort(order[np.linspace(0, n - 1, count).astype(np.int64)]))
