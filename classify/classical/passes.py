"""Passes over rows larger than memory: blocks of them, side by side, and the sums that linear models need."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple, Protocol

import numpy as np

from classify.classical.losses import Loss
from classify.rows import check_finite, shape
from features import Stack
from features.halves import widened
from features.runtime.machine import cores, free_memory

HELD_BYTES = 2 << 30  # of rows, at most
BLOCK_BYTES = 16 << 20  # of float32 rows: enough for BLAS to be fast, and little beside what else is held
Blocks = Sequence[slice]
LANES = 8  # columns that BLAS takes at a time: 104 of them are done in 0.8 of the time of 101


class Sums(NamedTuple):
    """What one pass found.

    Attributes:
        value: (f,) float64, of each model's loss.
        coef: (d, f·k) float64, its gradient in the coefficients.
        intercept: (f·k,) float64, in the intercepts.
    """

    value: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray

    def plus(self, other: "Sums") -> "Sums":
        """These and those of other rows."""
        return Sums(self.value + other.value, self.coef + other.coef, self.intercept + other.intercept)


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

    Each thread reads some of the blocks and does all that is to be done with them, BLAS's products too.

    Args:
        X: (n, d) array or `Stack`.
        codes: (n,) int64 classes 0…k−1.
        are_unit: whether the rows are taken as they are, as coordinates of unit rows are.
        threads: by default one a core.
    """

    def __init__(self, X: Any, codes: np.ndarray, are_unit: bool = False, threads: int | None = None) -> None:
        self._source, self.codes = X, codes
        self.shape = shape(X)
        self._X = _held(X) if isinstance(X, Stack) else X
        n, width = self.shape
        self._shares = _divided(n, max(1, BLOCK_BYTES // (4 * width)), threads or cores())
        self._scale = np.ones(self.shape[0], np.float32) if are_unit else self._inverse_lengths()

    def sums(self, loss: Loss, coef: np.ndarray, intercept: np.ndarray, weights: np.ndarray) -> Sums:
        """See `Passes`."""
        wide, count = _padded(coef), coef.shape[1]

        def of(share: Blocks) -> Sums:
            value, by_coef, by_intercept = np.zeros(weights.shape[1]), np.zeros(wide.shape), np.zeros(count)
            for at, rows in self._read(share):
                slopes = rows @ wide
                for model, own in enumerate(np.split(slopes[:, :count], weights.shape[1], axis=1)):
                    scores = self._scores(own, at, intercept[model * own.shape[1] : (model + 1) * own.shape[1]])
                    value[model] += loss.slope(scores, self.codes[at], weights[at, model])
                    own[:] = scores
                by_intercept += slopes[:, :count].sum(axis=0, dtype=np.float64)
                slopes *= self._scale[at, None]
                by_coef += rows.T @ slopes
            return Sums(value, by_coef, by_intercept)

        total = reduce(Sums.plus, self._shared(of))
        return total._replace(coef=total.coef[:, :count])

    def curvature(self, loss: Loss, coef: np.ndarray, intercept: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        models = weights.shape[1]

        def of(share: Blocks) -> np.ndarray:
            total = np.zeros((models, coef.shape[1] // models, coef.shape[1] // models))
            for at, rows in self._read(share):
                scores = self._scores(rows @ coef, at, intercept)
                for model, own in enumerate(np.split(scores, models, axis=1)):
                    total[model] += loss.curvature(np.ascontiguousarray(own), self.codes[at], weights[at, model])
            return total

        return np.asarray(sum(self._shared(of)))

    def scores(self, coef: np.ndarray, intercept: np.ndarray, which: np.ndarray) -> np.ndarray:
        """See `Passes`."""

        def of(share: Blocks) -> np.ndarray:
            found = [np.empty((0, coef.shape[1]), np.float32)]
            for at, rows in self._read(share):
                here = which[np.searchsorted(which, at.start) : np.searchsorted(which, at.stop)]
                if len(here):
                    found.append(self._scores(rows @ coef, at, intercept)[here - at.start].astype(np.float32))
            return np.concatenate(found)

        return np.concatenate(self._shared(of))

    def sample(self, which: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        X = self._X.take(which).X if isinstance(self._X, Stack) else self._X[which]
        return widened(X) * self._scale[which, None]

    def coordinates(self, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
        """See `Passes`."""
        out = np.empty((self.shape[0], basis.shape[1]), np.float32)
        shift = (mean @ basis).astype(np.float32)

        def of(share: Blocks) -> None:
            for at, rows in self._read(share):
                np.matmul(rows, basis, out=out[at])
                out[at] *= self._scale[at, None]
                out[at] -= shift

        self._shared(of)
        return out

    def _scores(self, products: np.ndarray, at: slice, intercept: np.ndarray) -> np.ndarray:
        """Scores (m, k) float64 of the rows at some places, from the products of the rows as they are stored.

        Near the minimum of a small C, losses differ by less than float32 can tell.
        """
        scores: np.ndarray = np.multiply(products, self._scale[at, None], dtype=np.float64)
        scores += intercept
        return scores

    def _inverse_lengths(self) -> np.ndarray:
        """(n,) float32; 0 for a row of zeros, which stays one.

        Raises:
            Failed: a stack's row is not finite; see `check_finite`.
        """
        inverse = np.empty(self.shape[0], np.float32)

        def of(share: Blocks) -> None:
            for at, rows in self._read(share):
                lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
                if isinstance(self._source, Stack) and not np.isfinite(lengths).all():
                    check_finite(self._source, at.start, rows)
                inverse[at] = 1 / np.where(lengths == 0, np.inf, lengths)

        self._shared(of)
        return inverse

    def _shared(self, work: Callable[[Blocks], Any]) -> list[Any]:
        """What each thread's work on its share of the blocks gives, in the rows' order."""
        with blas_on_one_thread(), ThreadPoolExecutor(len(self._shares)) as pool:
            return list(pool.map(work, self._shares))

    def _read(self, share: Blocks) -> Iterator[tuple[slice, np.ndarray]]:
        """Places and (m, d) float32 rows."""
        for at in share:
            X = self._X.take(np.arange(at.start, at.stop)).X if isinstance(self._X, Stack) else self._X[at]
            yield at, widened(X[:])


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """Leave the cores to threads that work on blocks: BLAS's own would spin while they wait for more to do."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


def _divided(rows: int, step: int, threads: int) -> list[Blocks]:
    """Blocks of at most `step` rows, as many for each thread."""
    count = -(-rows // step)
    count = min(rows, -(-count // threads) * threads)
    ends = np.linspace(0, rows, count + 1).astype(int).tolist()
    blocks = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
    return [blocks[i : i + -(-count // threads)] for i in range(0, count, -(-count // threads))]


def _padded(coef: np.ndarray) -> np.ndarray:
    """Coefficients (d, c) beside columns of zeros, up to whole `LANES`."""
    return np.pad(coef, ((0, 0), (0, -coef.shape[1] % LANES)))


def _held(stack: Stack) -> Any:
    """A stack's rows in memory, where every pass would copy them from the file and they are few enough."""
    first = stack.take(np.arange(1)).X
    if isinstance(first, np.memmap) and (np.diff(stack.rows) == 1).all():
        return stack.X
    size = int(np.prod(shape(stack))) * first.dtype.itemsize
    return stack.X[:] if size <= min(HELD_BYTES, free_memory() // 3) else stack
