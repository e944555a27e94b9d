"""Passes over rows larger than memory: blocks of them in order, and the sums that linear models need."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np

from classify.classical.losses import Loss
from classify.rows import check_finite, shape
from features import Stack
from features.runtime.machine import free_memory

HELD_BYTES = 2 << 30  # of rows, at most
BLOCK_BYTES = 64 << 20  # of float32 rows: enough for BLAS to be fast, and little beside what else is held


class Sums(NamedTuple):
    """What one pass found.

    Attributes:
        value: of the loss.
        coef: (d, f·k) float64, its gradient in the coefficients.
        intercept: (f·k,) float64, in the intercepts.
    """

    value: float
    coef: np.ndarray
    intercept: np.ndarray


class Passes(Protocol):
    """Train rows scaled to unit length, wherever they are, and what can be asked of them.

    Several models are asked about at a time, such as those of f folds: their columns stand side by side, and each has
    its own weights of the rows.

    Attributes:
        shape: (rows, width).
        codes: (n,) int64 classes 0…k−1.
    """

    shape: tuple[int, int]
    codes: np.ndarray

    def sums(self, loss: Loss, coef: np.ndarray, intercept: np.ndarray, weights: np.ndarray) -> Sums:
        """One pass for the loss and its gradient.

        Args:
            loss: of each model.
            coef: (d, f·k) float32.
            intercept: (f·k,).
            weights: (n, f) float32, how much each row counts in each model.
        """

    def curvature(self, loss: Loss, coef: np.ndarray, intercept: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """One pass for the sums of the loss's second derivatives by the scores, (f, k, k) float64."""

    def scores(self, coef: np.ndarray, intercept: np.ndarray, which: np.ndarray) -> np.ndarray:
        """One pass for the scores of some rows, by index in rising order: (m, f·k) float32."""

    def sample(self, which: np.ndarray) -> np.ndarray:
        """Some rows by index, in rising order: (m, d) float32."""

    def coordinates(self, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
        """One pass for the rows less a mean (d,) along the columns of a basis (d, r): (n, r) float32."""


class Rows:
    """`Passes` over an array or a stack on this machine.

    Args:
        X: (n, d) array or `Stack`.
        codes: (n,) int64 classes 0…k−1.
        are_unit: whether the rows are taken as they are, as coordinates of unit rows are.
    """

    def __init__(self, X: Any, codes: np.ndarray, are_unit: bool = False) -> None:
        self._source, self.codes = X, codes
        self.shape = shape(X)
        self._X = _held(X) if isinstance(X, Stack) else X
        self._step = max(1, BLOCK_BYTES // (4 * self.shape[1]))
        self._scale = np.ones(self.shape[0], np.float32) if are_unit else self._inverse_lengths()

    def sums(self, loss: Loss, coef: np.ndarray, intercept: np.ndarray, weights: np.ndarray) -> Sums:
        """See `Passes`."""
        value, by_coef, by_intercept = 0.0, np.zeros(coef.shape), np.zeros(len(intercept))
        for at, rows in self._blocks():
            scores = self._scores(rows, at, coef, intercept)
            for model, own in enumerate(np.split(scores, weights.shape[1], axis=1)):
                slopes = np.ascontiguousarray(own)
                value += loss.slope(slopes, self.codes[at], weights[at, model])
                own[:] = slopes
            by_intercept += scores.sum(axis=0, dtype=np.float64)
            scores *= self._scale[at, None]
            by_coef += rows.T @ scores
        return Sums(value, by_coef, by_intercept)

    def curvature(self, loss: Loss, coef: np.ndarray, intercept: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        models = weights.shape[1]
        total = np.zeros((models, coef.shape[1] // models, coef.shape[1] // models))
        for at, rows in self._blocks():
            scores = self._scores(rows, at, coef, intercept)
            for model, own in enumerate(np.split(scores, models, axis=1)):
                total[model] += loss.curvature(np.ascontiguousarray(own), self.codes[at], weights[at, model])
        return total

    def scores(self, coef: np.ndarray, intercept: np.ndarray, which: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        found = []
        for at, rows in self._blocks():
            here = which[np.searchsorted(which, at.start) : np.searchsorted(which, at.stop)]
            if len(here):
                found.append(self._scores(rows, at, coef, intercept)[here - at.start])
        return np.concatenate(found)

    def sample(self, which: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        X = self._X.take(which).X if isinstance(self._X, Stack) else self._X[which]
        return np.asarray(X, np.float32) * self._scale[which, None]

    def coordinates(self, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        out = np.empty((self.shape[0], basis.shape[1]), np.float32)
        shift = (mean @ basis).astype(np.float32)
        for at, rows in self._blocks():
            np.matmul(rows, basis, out=out[at])
            out[at] *= self._scale[at, None]
            out[at] -= shift
        return out

    def _scores(self, rows: np.ndarray, at: slice, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        scores: np.ndarray = rows @ coef
        scores *= self._scale[at, None]
        scores += intercept.astype(np.float32)
        return scores

    def _inverse_lengths(self) -> np.ndarray:
        """(n,) float32; 0 for a row of zeros, which stays one.

        Raises:
            Failed: a stack's row is not finite; see `check_finite`.
        """
        inverse = np.empty(self.shape[0], np.float32)
        for at, rows in self._blocks():
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
            if isinstance(self._source, Stack) and not np.isfinite(lengths).all():
                check_finite(self._source, at.start, rows)
            inverse[at] = 1 / np.where(lengths == 0, np.inf, lengths)
        return inverse

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Places and (m, d) float32 rows; what must be copied is read while the block before it is worked on."""
        n = self.shape[0]
        places = [slice(start, min(start + self._step, n)) for start in range(0, n, self._step)]
        if isinstance(self._X, np.ndarray) and self._X.dtype == np.float32:
            yield from ((at, self._X[at]) for at in places)
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, places[0])
            for at, after in zip(places, [*places[1:], None], strict=True):
                rows = coming.result()
                if after:
                    coming = reader.submit(self._read, after)
                yield at, rows

    def _read(self, at: slice) -> np.ndarray:
        X = self._X.take(np.arange(at.start, at.stop)).X if isinstance(self._X, Stack) else self._X[at]
        return np.asarray(X[:]).astype(np.float32, copy=False)


def _held(stack: Stack) -> Any:
    """A stack's rows in memory, where every pass would copy them from the file and they are few enough."""
    first = stack.take(np.arange(1)).X
    if isinstance(first, np.memmap) and (np.diff(stack.rows) == 1).all():
        return stack.X
    size = int(np.prod(shape(stack))) * first.dtype.itemsize
    return stack.X[:] if size <= min(HELD_BYTES, free_memory() // 3) else stack
