"""The score that leads a comparison, accuracy or balanced accuracy, and its statistics on the same test rows."""

from typing import NamedTuple

import numpy as np

from classify.comparison.intervals import difference_interval, share_interval
from classify.comparison.statistics import mcnemar

IMBALANCE = 3  # the largest class over the smallest beyond which balanced accuracy decides who is best


def leading_score(y: np.ndarray) -> str:
    """`accuracy`, or `balanced_accuracy` where one class of `y` has more than three times the rows of another."""
    sizes = np.unique(y, return_counts=True)[1]
    return "balanced_accuracy" if sizes.max() > IMBALANCE * sizes.min() else "accuracy"


def strata(score: str, y: np.ndarray) -> np.ndarray:
    """(n,) int64, equal for rows that a score counts together: all for accuracy, those of a class for the balanced."""
    return y if score == "balanced_accuracy" else np.zeros_like(y)


def mean_share(of: np.ndarray, counts: np.ndarray) -> float:
    """The mean over strata of the mean of `counts` (n,), which are true or false, or −1 to 1; see `strata`."""
    return float(np.mean(stratum_means(of, counts)[0]))


def stratum_means(of: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k,) float64 each: the mean of `counts` (n,) in each stratum that has rows, and how many."""
    rows = np.bincount(of)
    there = rows > 0
    return np.bincount(of, counts, len(rows))[there] / rows[there], rows[there]


def score_interval(score: str, y: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """95 % interval of a score on one split.

    Args:
        score: `accuracy` or `balanced_accuracy`.
        y: (n,) int64 class of each test row.
        right: (n,) bool.
    """
    shares, rows = stratum_means(strata(score, y), right)
    return share_interval(shares * rows, rows)


class Difference(NamedTuple):
    """How much more a score is for one model than for another, its 95 % interval, and McNemar's exact p-value."""

    difference: float
    interval: tuple[float, float]
    p: float


def difference(score: str, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> Difference:
    """Compare two models on one split by a score.

    Args:
        score, y: see `score_interval`.
        a, b: (n,) bool, whether each was right.
    """
    of = strata(score, y)
    return Difference(mean_share(of, a * 1.0 - b), difference_interval(a, b, of), mcnemar(a, b, of))
