"""A feature set: the rows of one stack under one pooling, and what all models and splits share of them."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from classify.across.names import names_of
from classify.classical.axes import Axes
from classify.classical.descent import Descent
from classify.classical.passes import Rows
from classify.classical.products import ROUNDING, unit_products
from classify.rows import pooled, row_chunks, shape, unit_rows
from features import Refused, Stack
from features.reader import POOLS, pool_rows
from features.runtime.machine import free_memory

MOST_SHARED = 10_000  # rows: decomposing the inner products of so many takes a minute and a half, of twice as many ten
BYTES_SHARED = 48  # for each pair of rows: the products, their eigenvectors and LAPACK's workspace
NEGLIGIBLE = 1e-9  # an eigenvalue of unit rows' products that is rounding: of copies, for example


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """The rows of one stack under one pooling.

    Attributes:
        name: short, and unlike the others'.
        stack: labelled rows, the same images as the other sets'.
        pool: `flatten`, `avg`, `max` or `cls`; None leaves it to each model.
        y: (n,) int64 class indices 0…k−1.
    """

    name: str
    stack: Stack
    pool: str | None
    y: np.ndarray

    def rows(self, pool: str) -> Any:
        """(n, d) rows as a model that pools so takes them: an array, or the stack itself."""
        return pooled(self.stack, pool)

    def pool_for(self, own: str) -> str:
        """How rows are pooled for a model whose own pooling is `own`."""
        flat = len(self.stack.feature_shape) == 1
        return "flatten" if flat else self.pool or own

    @property
    def shares(self) -> bool:
        """Whether the inner products of all rows are few enough to be taken apart once, for all models and splits."""
        n = len(self.stack)
        return n <= MOST_SHARED and BYTES_SHARED * n**2 < free_memory()

    @cached_property
    def shared(self) -> "SharedRows":
        """Of the rows as the linear and kernel models take them."""
        return SharedRows(self.rows(self.pool_for("flatten")), self.y)

    def release(self) -> None:
        """Give up what is shared; it is computed again where it is asked for."""
        self.__dict__.pop("shared", None)


class SharedRows:
    """Unit rows in as many dimensions as they span, along their principal axes, and their inner products.

    The rotation is exact, so linear models, kernel machines and neighbours see what they see in the rows themselves,
    on any part of the rows. It is found once: for n rows of width d from the eigenvectors of their (n, n) inner
    products, or of the (d, d) products of columns where those are fewer. Along these axes the loss of a linear model is
    nearly round, so that a `Descent` takes few steps.

    Args:
        X: (n, d) array or `Stack`.
        y: (n,) int64 class indices 0…k−1.

    Attributes:
        products: (n, n) float64 `unit_products`.
        rows: (n, r) float32 coordinates.
        descent: fits linear models to them.
    """

    def __init__(self, X: Any, y: np.ndarray) -> None:
        from scipy.linalg import eigh

        self.products = unit_products(X)
        n, width = shape(X)
        if n <= width:
            squares, vectors = eigh(self.products, driver="evd", check_finite=False)
            kept = _kept(squares)
            rows = vectors[:, kept] * np.sqrt(np.maximum(squares[kept], 0))
        else:
            unit = np.concatenate([unit_rows(piece) for piece in row_chunks(X)])
            columns = unit.astype(np.float64)
            squares, vectors = eigh(columns.T @ columns, driver="evd", check_finite=False)
            rows = columns @ vectors[:, _kept(squares)]
        self.rows = np.ascontiguousarray(rows[:, ::-1], np.float32)
        self._y, self._axes = y, Axes.along(self.rows)
        self.descent = self.descent_on(np.arange(n))

    def descent_on(self, which: np.ndarray) -> Descent:
        """Fits linear models to some rows, by index, alone: on few rows a pass takes little."""
        rows = self.rows if len(which) == len(self.rows) else self.rows[which]
        return Descent(Rows(rows, self._y[which], are_unit=True), self._axes)

    def spread(self, which: np.ndarray) -> float:
        """The `scale` of the models of some rows, by index: their mean squared distance to their mean, 1 if it is 0."""
        mean = self.rows[which].mean(axis=0, dtype=np.float64)
        found = float(self.products.diagonal()[which].mean() - mean @ mean)
        return found if found > ROUNDING else 1.0


def _kept(squares: np.ndarray) -> np.ndarray:
    """Which eigenvalues (r,), in rising order, are more than rounding; the largest is kept even if all rows are 0."""
    kept: np.ndarray = squares > NEGLIGIBLE
    kept[-1] = True
    return kept


def feature_sets(stacks: Sequence[Stack], y: np.ndarray, pools: Sequence[str] | None) -> list[FeatureSet]:
    """Every stack under every pooling; a stack that is flat already stands once.

    Raises:
        Refused: there is no such pooling, one is given twice, or a stack cannot be pooled so.
    """
    wanted = list(pools or [])
    if unknown := [pool for pool in wanted if pool not in POOLS]:
        raise Refused(f"no pooling is called {unknown[0]!r}; there are {', '.join(POOLS)}")
    if len(set(wanted)) < len(wanted):
        raise Refused(f"--pool {' '.join(wanted)}: a pooling is given twice")
    sets = []
    for name, stack in zip(names_of(stacks), stacks, strict=True):
        if len(stack.feature_shape) == 1 or not wanted:
            sets.append(FeatureSet(name, stack, None, y))
            continue
        for pool in wanted:
            if pool != "flatten":  # refuses what cannot be pooled so
                pool_rows(np.zeros((1, int(np.prod(stack.feature_shape))), "<f4"), stack.feature_shape, pool)
            pooling = "" if pool == "flatten" or len(wanted) == 1 else f" {pool}"
            sets.append(FeatureSet(name + pooling, stack, pool, y))
    return sets


def common_words(names: Sequence[str]) -> list[str]:
    """The words that all names begin with, parted by hyphens; the last word of a name is none of them."""
    words = [name.split("-") for name in names]
    most = min(map(len, words)) - 1
    count = next((i for i in range(most) if len({each[i] for each in words}) > 1), most)
    return words[0][:count]
