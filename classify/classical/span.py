"""Wide rows rotated, exactly, into as many dimensions as there are rows.

Inner products of rows scaled to unit length are all that a linear or kernel model here ever sees of them.
"""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from classify.classical.products import unit_products
from classify.rows import row_chunks, shape, unit_rows
from features import Stack


class SpanRotation(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Coordinates of rows, scaled to unit length, in an orthonormal basis of the span of n training rows.

    The Gram matrix K = X·Xᵀ, (n, n), is summed over blocks of X's columns, so X may be larger than memory. Its pivoted
    Cholesky factor (LAPACK's `dpstrf`), P·K·Pᵀ = L·Lᵀ, gives rows Z = Pᵀ·L with all the inner products of X's rows:
    Z = X·Q with QᵀQ = 1. An L2-penalised linear model sees its coefficients w only through X·w and |w|, and the best w
    lies in the span of the rows, so its minimum v on Z is its minimum w = Q·v on X.

    Rank: in each step the row with the longest part outside the span of those before joins the basis, until the
    longest squared part is no more than rounding: 8 units in the last place of the rows' own precision (n of float64's,
    if that is more). Rows that depend on others, such as copies, so get coordinates and no dimension of their own;
    nothing is added to K's diagonal.

    Other rows x: with B the r basis rows of X and L₁₁ = L[:r], Q = Bᵀ·L₁₁⁻ᵀ, so that x·Q = (L₁₁⁻¹·B·xᵀ)ᵀ, a
    triangular solve. What of x lies outside the span is lost: linear models on Z never see it, distances would.

    Attributes:
        Z_: (n, r) float64, the training rows' coordinates, r the rank.
        basis_: (r,) indices of the basis rows among the training rows.
        basis_rows_: (r, d) those rows, unscaled: a `Stack` if it was fitted on one.

    Example:
        rotation = SpanRotation()
        model = LinearSVC().fit(rotation.fit_transform(train.X), train.y)
        model.score(rotation.transform(test.X), test.y)
    """

    def fit(self, X: Any, y: None = None, products: np.ndarray | None = None) -> Self:
        """Find the basis.

        Args:
            X: (n, d) array, memmap or `Stack`.
            y: not used.
            products: (n, n) `unit_products` of X, if known.
        """
        from scipy.linalg.lapack import dpstrf

        if not isinstance(X, Stack):
            X = validate_data(self, X, dtype=[np.float64, np.float32])
        rows, self.n_features_in_ = shape(X)
        products = unit_products(X) if products is None else products
        precision = np.finfo(np.float32 if isinstance(X, Stack) else X.dtype).eps
        tolerance = max(8 * precision, rows * np.finfo(np.float64).eps) * float(products.diagonal().max())
        # The transpose of a symmetric matrix is itself, in LAPACK's order: copied once, and overwritten.
        factor, pivots, rank, _ = dpstrf(np.array(products.T, order="F"), tolerance, lower=1, overwrite_a=1)
        rank = max(rank, 1)  # rows of zeros get one coordinate, 0, as scikit-learn takes no rows without numbers
        self.Z_ = np.zeros((rows, rank))
        for place, row in enumerate(pivots - 1):  # what stands above the diagonal is none of the factor
            self.Z_[row, : place + 1] = factor[place, : min(place + 1, rank)]
        self.basis_ = pivots[:rank] - 1
        corner = self.Z_[self.basis_]
        self._corner = corner if corner.any() else np.ones((1, 1))
        self.basis_rows_ = X.take(self.basis_) if isinstance(X, Stack) else X[self.basis_]
        return self

    def fit_transform(self, X: Any, y: None = None, products: np.ndarray | None = None) -> np.ndarray:
        """(n, r) float64 coordinates of the training rows; arguments: see `fit`."""
        return self.fit(X, y, products).Z_

    def transform(self, X: Any) -> np.ndarray:
        """(m, r) float64 coordinates of rows (m, d)."""
        from scipy.linalg import solve_triangular

        check_is_fitted(self)
        if not isinstance(X, Stack):
            X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        products = unit_products(self.basis_rows_, X)
        return np.asarray(solve_triangular(self._corner, products, lower=True).T)

    def to_width(self, X: Any, v: np.ndarray) -> np.ndarray:
        """A linear model on Z as the same model on X's rows scaled to unit length: v·Qᵀ, in one pass over the rows.

        Args:
            X: (n, d) the training rows.
            v: (k, r) coefficients.

        Returns:
            (k, d) float64 coefficients.
        """
        from scipy.linalg import solve_triangular

        dual = np.zeros((len(self.Z_), len(v)))
        dual[self.basis_] = solve_triangular(self._corner, v.T, lower=True, trans="T")
        total: Any = 0.0
        row = 0
        for piece in row_chunks(X):
            total += dual[row : row + len(piece)].astype(piece.dtype).T @ unit_rows(piece)
            row += len(piece)
        return np.asarray(total, np.float64)

    @property
    def _n_features_out(self) -> int:
        return self.Z_.shape[1]
