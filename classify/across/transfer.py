"""Rank feature sets in seconds, before any classifier is fitted: exact leave-one-out ridge regression.

Ridge regression of the classes' indicators on rows is linear in them, so what a model fitted without some rows says of
those follows from the model of all rows (Allen's PRESS, 1974; blocks: Cawley and Talbot, 2004). Inner products are all
it takes.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from classify.classical.products import spread
from classify.fusion import combined, weightings

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # λ over the rows' spread
SAMPLE, PAIR_SAMPLE = 2500, 1000  # rows at most, of a set and of a pair of sets


class Pair(NamedTuple):
    """Two feature sets side by side.

    Attributes:
        names: of the sets.
        weights: of either, the best of those that were tried.
        score: share of rows that are right when left out.
        alone: the same of the better of the two alone, on the same rows.
    """

    names: tuple[str, str]
    weights: tuple[float, ...]
    score: float
    alone: float


def leave_one_out(products: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    """Share of rows that ridge regression gets right without having seen them, under the best of `PENALTIES`.

    Args:
        products: (n, n) float64 inner products of unit rows.
        y: (n,) int64 class indices 0…k−1.
        groups: (n,) equal for rows that are left out together: copies and views of one image, for example.
    """
    return max(float(np.mean(left_out(products, y, groups, share).argmax(axis=1) == y)) for share in PENALTIES)


def left_out(products: np.ndarray, y: np.ndarray, groups: np.ndarray, penalty: float) -> np.ndarray:
    """(n, k) float64 scores of ridge regressions with an intercept that were fitted without the row's group.

    Args:
        penalty: λ over the rows' spread.
        products, y, groups: see `leave_one_out`.
    """
    from scipy.linalg.lapack import dpotrf, dpotri

    n = len(y)
    strength = penalty * (spread(products) or 1.0)
    centred = products - products.mean(axis=0)
    centred -= centred.mean(axis=1)[:, None]
    centred[np.diag_indices(n)] += strength
    factor, _ = dpotrf(centred.T, lower=1, overwrite_a=1)
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    lower = np.tril(inverse, -1)
    smooth = lower + lower.T
    smooth[np.diag_indices(n)] = np.diag(inverse)
    smooth *= strength
    smooth -= 1 / n  # what is left of indicators once the fit is taken off: 1 less the hat matrix
    indicators = np.eye(int(y.max()) + 1)[y]
    residuals = smooth @ indicators
    alone, members = _by_group(groups)
    residuals[alone] /= smooth[alone, alone][:, None]
    for rows in members:
        residuals[rows] = np.linalg.solve(smooth[np.ix_(rows, rows)], residuals[rows])
    return np.asarray(indicators - residuals)


def sampled(rows: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """At most so many of some rows, by index and in order, of every class the same share; y: (n,) of all rows."""
    if len(rows) <= most:
        return rows
    order = np.random.default_rng(0).permutation(len(rows))
    order = order[np.argsort(y[rows[order]], kind="stable")]
    return np.sort(rows[order[np.linspace(0, len(rows) - 1, most).astype(int)]])


def best_pair(products: Mapping[str, np.ndarray], y: np.ndarray, groups: np.ndarray) -> Pair:
    """The pair of feature sets that do best side by side, each row left out in turn.

    Args:
        products: of each of two or more sets, (n, n) of the same rows.
        y, groups: see `leave_one_out`.
    """
    alone = {name: leave_one_out(each, y, groups) for name, each in products.items()}
    pairs = [
        Pair(two, weights, leave_one_out(combined([products[name] for name in two], weights), y, groups), most)
        for two in combinations(products, 2)
        for weights in weightings(2)
        for most in [max(alone[name] for name in two)]
    ]
    return max(pairs, key=lambda pair: pair.score)


def _by_group(groups: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows that are a group of their own, and the rows of each larger group."""
    _, code, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(code, kind="stable")
    together = [rows for rows in np.split(order, np.cumsum(counts)[:-1]) if len(rows) > 1]
    return np.flatnonzero(counts[code] == 1), together
