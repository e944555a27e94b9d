"""Principal axes of rows, and the variables along them in which a linear model's loss is nearly round."""

from typing import NamedTuple, Self

import numpy as np

from classify.classical.passes import Passes

SAMPLE, SAMPLE_BYTES = 4096, 1 << 29  # rows whose axes are found, at most
AXES = 1536  # at most
FLAT = 1e-3  # of the mean curvature: the least that an intercept is scaled by


class Axes(NamedTuple):
    """Principal axes of rows.

    Attributes:
        mean: (d,) float64 of the rows.
        basis: (d, r) float32, orthonormal columns; empty where the rows are the coordinates along them, r = d.
        variances: (r,) float64, the largest first.
    """

    mean: np.ndarray
    basis: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, passes: Passes) -> Self:
        """The first axes of a sample of the rows."""
        from scipy.linalg import eigh

        n, width = passes.shape
        count = min(n, SAMPLE, max(1, SAMPLE_BYTES // (4 * width)))
        rows = passes.sample(np.linspace(0, n - 1, count).astype(np.int64))
        mean = rows.mean(axis=0, dtype=np.float64)
        rows -= mean.astype(np.float32)
        tall = count >= width
        products = rows.T @ rows if tall else rows @ rows.T
        squares, vectors = eigh(products, overwrite_a=True, check_finite=False, driver="evd")
        eps = np.finfo(np.float32).eps  # the rows' own rounding makes axes too, where all rows are one
        kept = np.flatnonzero(squares > max(len(products) * eps * squares[-1], count * eps**2))[::-1][:AXES]
        basis = vectors[:, kept] if tall else rows.T @ (vectors[:, kept] / np.sqrt(squares[kept]))
        return cls(mean, np.ascontiguousarray(basis), squares[kept].astype(np.float64) / count)

    @classmethod
    def along(cls, rows: np.ndarray) -> Self:
        """The axes of rows (n, r) that are coordinates along their principal axes through the origin already."""
        mean, variances = rows.mean(axis=0, dtype=np.float64), rows.var(axis=0, dtype=np.float64)
        return cls(mean, np.empty((0, 0), np.float32), variances)

    def first(self, count: int) -> "Axes":
        """The first few of them."""
        return Axes(self.mean, np.ascontiguousarray(self.basis[:, :count]), self.variances[:count])

    def of_coordinates(self) -> "Axes":
        """The axes of the rows' coordinates along these."""
        return Axes(np.zeros(len(self.variances)), np.empty((0, 0)), self.variances)


class Variables:
    """Coefficients (d, f·k) and intercepts (f·k,) as numbers in which a loss is nearly round.

    Along axis i and class direction j they are scaled by √(1 + λᵢ·μⱼ). Intercepts are those at the mean row, scaled by
    √(p + μⱼ), where p is 1 if they are penalised, else 0.

    Args:
        axes: with variances λ.
        curvature: (f, k, k) of each model's loss, by the scores; its eigenvalues are μ.
        penalises_intercept: see `Loss`.
    """

    def __init__(self, axes: Axes, curvature: np.ndarray, penalises_intercept: bool) -> None:
        bends, turns = np.linalg.eigh(curvature)  # (f, k), (f, k, k)
        bends = np.maximum(bends, 0)
        self._axes, self._turns = axes, turns.astype(np.float32)
        self._scale = np.sqrt(1 + np.outer(axes.variances, bends)).astype(np.float32)
        # A softmax does not change if all scores move together: along that direction the curvature is 0.
        bends = np.maximum(bends, FLAT * bends.mean(axis=1, keepdims=True))
        self._shift = 1 / np.sqrt(penalises_intercept + bends.ravel())
        self._shape = (len(axes.mean), bends.size)

    def pack(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """The numbers, (d·f·k + f·k,) float64."""
        scaled = self._scaled(self._turned(coef, self._turns), self._scale)
        means = self._turned(self.means(coef, intercept)[None], self._turns)[0]
        return np.concatenate([scaled.ravel(), means / self._shift]).astype(np.float64)

    def unpack(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (d, f·k) float32 and intercepts (f·k,) float64."""
        size = self._shape[0] * self._shape[1]
        scaled = numbers[:size].reshape(self._shape).astype(np.float32)
        coef = self._turned(self._scaled(scaled, 1 / self._scale), self._turns.transpose(0, 2, 1))
        means = self._turned((numbers[size:] * self._shift)[None], self._turns.transpose(0, 2, 1))[0]
        return coef, means - self._axes.mean @ coef

    def gradient(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """A gradient in coefficients and intercepts as one in these numbers."""
        centred = (coef - np.outer(self._axes.mean, intercept)).astype(np.float32)
        scaled = self._scaled(self._turned(centred, self._turns), 1 / self._scale)
        means = self._turned(intercept[None], self._turns)[0]
        return np.concatenate([scaled.ravel(), means * self._shift]).astype(np.float64)

    def means(self, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """(f·k,) float64 scores of the mean row."""
        return np.asarray(intercept + self._axes.mean @ coef)

    def spread(self, coef: np.ndarray, means: np.ndarray | float = 0.0) -> np.ndarray:
        """(f,) root mean square of each model's scores about the rows, their squares summed over its columns.

        Args:
            coef: (d, f·k) of scores whose mean is 0.
            means: (f·k,) what they are shifted by.
        """
        axes = self._axes
        along = axes.basis.T @ coef if axes.basis.size else coef
        squares = axes.variances @ np.square(along[: len(axes.variances)], dtype=np.float64) + np.square(means)
        if axes.basis.size:  # off the axes rows vary less than along the last of them
            beyond = np.einsum("ij,ij->j", coef, coef) - np.einsum("ij,ij->j", along, along)
            squares += axes.variances[-1] * np.maximum(beyond, 0)
        return np.sqrt(squares.reshape(len(self._turns), -1).sum(axis=1))

    def change(self, slope: np.ndarray) -> np.ndarray:
        """(f,) `spread` of what Newton's step would change in each model's scores, if the loss were quite round.

        Args:
            slope: see `gradient`.
        """
        return self.spread(self.unpack(slope)[0], slope[-self._shift.size :] * self._shift)

    def _scaled(self, values: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """Values (d, f·k) times factors (r, f·k) along the axes; off them they stay."""
        basis = self._axes.basis
        if not len(basis):
            return values * factors
        return np.asarray(values + basis @ ((factors - 1) * (basis.T @ values)))

    @staticmethod
    def _turned(values: np.ndarray, turns: np.ndarray) -> np.ndarray:
        own = np.split(values, len(turns), axis=1)
        return np.hstack([each @ turn for each, turn in zip(own, turns, strict=True)])
