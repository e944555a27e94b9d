"""Inner products of rows, of which the distances and kernels of the classical models are made."""

from typing import Any

import numpy as np

from classify.rows import check_products, column_blocks, row_chunks, shape

ROWS = 256  # of a kernel that are computed together
ROUNDING = 8 * float(np.finfo(np.float32).eps)  # of squared distances of unit rows, from float32 products


def unit_products(X: Any, Y: Any = None) -> np.ndarray:
    """Cosines of all pairs of rows, streamed in column blocks, so that X and Y may be larger than memory.

    Each block's products have the rows' own precision, their sum over the blocks is float64. Scaling rows to unit
    length is what scikit-learn's `Normalizer` does; here it costs a division of the result.

    Args:
        X: (n, d) array, memmap or `Stack`.
        Y: (m, d), likewise; by default X.

    Returns:
        (n, m) float64; 0 in the rows and columns of all-zero rows.
    """
    products = np.zeros((shape(X)[0], shape(X if Y is None else Y)[0]))
    squares_x: Any = 0.0
    squares_y: Any = 0.0
    if Y is None:
        for block in column_blocks(X):
            products += block @ block.T  # numpy computes one triangle of A·Aᵀ
        squares_x = squares_y = np.diag(products).copy()
    else:
        for x, y in zip(column_blocks(X), column_blocks(Y), strict=True):
            products += x @ y.T
            squares_x += np.einsum("ij,ij->i", x, x, dtype=np.float64)
            squares_y += np.einsum("ij,ij->i", y, y, dtype=np.float64)
    check_products(X, squares_x)
    check_products(Y, squares_y)
    products /= _lengths(squares_x)[:, None]
    products /= _lengths(squares_y)
    return products


def spread(products: np.ndarray) -> float:
    """Mean squared distance of rows to their mean, from (n, n) inner products: the scale to read C and γ against.

    0 where it is no more than rounding.
    """
    found = float(np.mean(np.diag(products)) - np.mean(products))
    return found if found > ROUNDING else 0.0


def squared_distances(products: np.ndarray, squares_x: np.ndarray, squares_y: np.ndarray) -> np.ndarray:
    """|x − y|² of all pairs, (n, m) float64, from inner products (n, m) and squared lengths (n,) and (m,)."""
    return np.maximum(squares_x[:, None] + squares_y - 2 * products, 0)


def _lengths(squares: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(squares)
    return np.where(lengths == 0, 1, lengths)


def rbf(products: np.ndarray, squares_x: np.ndarray, squares_y: np.ndarray, gamma: float) -> np.ndarray:
    """exp(−γ·|x − y|²) of all pairs, (n, m) float64, from inner products (n, m) and squared lengths (n,) and (m,)."""
    kernel = np.empty_like(products)
    for start in range(0, len(products), ROWS):  # in pieces, so that no second matrix of this size is ever held
        rows = slice(start, start + ROWS)
        kernel[rows] = np.exp(-gamma * squared_distances(products[rows], squares_x[rows], squares_y))
    return kernel


def has_direction(X: Any) -> np.ndarray:
    """Squared lengths of unit rows, (n,) float64: 1, or 0 where a row is all zeros and has no direction."""
    return np.concatenate([piece.any(axis=1) for piece in row_chunks(X)]).astype(np.float64)
