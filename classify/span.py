"""Wide rows rotated, exactly, into as many dimensions as there are rows."""

from typing import Any

import numpy as np

from classify.rows import row_chunks, unit_rows


class Span:
    """Coordinates of n rows in an orthonormal basis of their span, found from their inner products alone.

    With K = X·Xᵀ and its pivoted Cholesky factor P·K·Pᵀ = L·Lᵀ, the rows Z = Pᵀ·L have all the inner products of X's
    rows: Z = X·Q with Q orthonormal. An L2-penalised linear model sees w only through X·w and |w|, and the best w lies
    in the span of the rows, so its minimum v on Z is its minimum w = Q·v on X. Pivoting stops at the rank: duplicate
    rows, which make K singular, need no jitter.

    Attributes:
        Z: (n, r) float64, r the rank.
    """

    def __init__(self, products: np.ndarray) -> None:
        from scipy.linalg.lapack import dpstrf

        factor, pivots, rank, _ = dpstrf(products, lower=1)
        self._basis = pivots[:rank] - 1  # rows whose combinations the others are
        self._factor = np.tril(factor)[:, :rank]
        self.Z = np.empty_like(self._factor)
        self.Z[pivots - 1] = self._factor

    def to_width(self, X: Any, v: np.ndarray) -> np.ndarray:
        """A linear model on Z as the same model on X's rows scaled to unit length.

        Z[basis] = L[:r] and Z = X·Q give Q = X[basis]ᵀ·L[:r]⁻ᵀ; one pass over X's rows.

        Args:
            X: (n, d) array, memmap or `Stack`, the rows whose products this was made from.
            v: (k, r) coefficients.

        Returns:
            (k, d) float64 coefficients.
        """
        from scipy.linalg import solve_triangular

        dual = np.zeros((len(self.Z), len(v)))
        dual[self._basis] = solve_triangular(self._factor[: len(self._basis)], v.T, lower=True, trans="T")
        total: Any = 0.0
        row = 0
        for piece in row_chunks(X):
            total += dual[row : row + len(piece)].astype(piece.dtype).T @ unit_rows(piece)
            row += len(piece)
        return np.asarray(total, np.float64)
