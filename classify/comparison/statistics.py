"""Statistics of a paired comparison: every model answered the same test rows. Pure functions on arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
ENOUGH = 10  # right answers and wrong ones, to say whether confidence separates them


def share_interval(right: ArrayLike, rows: ArrayLike) -> tuple[float, float]:
    """95 % interval of a share of rows, or of the mean of several independent shares, such as the recalls of classes.

    Wilson's (1927) for one share, and for more of them these put together as Zou and Donner (2008) do. The bootstrap's
    would end in a point where all rows are right: of two test images both right is anything from 34 to 100 %.

    Args:
        right: (shares,) how many rows were right.
        rows: (shares,) of how many, at least 1 each.
    """
    shares, below, above = _wilson(right, rows)
    low, high = shares.mean() - np.linalg.norm(below) / len(shares), shares.mean() + np.linalg.norm(above) / len(shares)
    return float(max(low, 0)), float(min(high, 1))


def difference_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """95 % interval of how much more often one model is right than another on the same rows.

    Newcombe's tenth (Statistics in Medicine 17, 2635–2650, 1998): Wilson's intervals of both, put together by how the
    models' errors go together. The bootstrap's would be a point where they never disagree.

    Args:
        a, b: (n,) bool, whether each was right.
    """
    n = len(a)
    shares, below, above = _wilson([a.sum(), b.sum()], [n, n])
    together = float((a & b).sum() * (~a & ~b).sum()) - float((a & ~b).sum() * (~a & b).sum())
    scale = np.sqrt(np.prod([float(side.sum()) for side in (a, ~a, b, ~b)]))
    phi = (max(together - n / 2, 0) if together > 0 else together) / scale if scale else 0.0
    ends = [
        np.sqrt(one**2 - 2 * phi * one * other + other**2)
        for one, other in ((below[0], above[1]), (above[0], below[1]))
    ]
    difference = shares[0] - shares[1]
    return float(difference - ends[0]), float(difference + ends[1])


def _wilson(right: ArrayLike, rows: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(shares,) each: the share, and how far its 95 % interval reaches below and above it."""
    k, n = np.asarray(right, float), np.asarray(rows, float)
    centre = (k + Z**2 / 2) / (n + Z**2)
    half = Z * np.sqrt(k * (n - k) / n + Z**2 / 4) / (n + Z**2)
    return k / n, k / n - (centre - half), centre + half - k / n


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p-value that two models err equally often on the same rows; 1 where they never disagree.

    Of the rows that only one of them got right, half should be either's: a binomial test (McNemar, 1947; the exact
    form is Edwards, 1948, without his correction).

    Args:
        a, b: (n,) bool, whether each was right.
    """
    from scipy.stats import binomtest

    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for having been taken together, in the order given (Holm, 1979: step-down Bonferroni)."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [float(value) for value in adjusted]


def log_loss(y: np.ndarray, proba: np.ndarray) -> float:
    """Mean −ln of the probability given to the true class; zero probabilities count as the float's epsilon.

    Args:
        y: (n,) column of `proba` that is right.
        proba: (n, classes), rows sum to one.
    """
    true = proba[np.arange(len(y)), y]
    return float(-np.log(np.clip(true, np.finfo(np.float64).eps, 1)).mean())


class Reliability(NamedTuple):
    """Bins of confidence that hold at least one row: (bins,) rows, their mean confidence, the share that was right."""

    rows: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(y: np.ndarray, proba: np.ndarray, bins: int = 15) -> Reliability:
    """How often the likeliest class is right, by equal-width bins of its probability (Guo et al., 2017, figure 1).

    Args:
        y: (n,) labels; proba: (n, classes).
        bins: (0, 1] is cut into so many, each open below and closed above.
    """
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y
    inner = np.arange(1, bins) / bins
    bin_of = np.searchsorted(inner, confidence, side="left")
    count = np.bincount(bin_of, minlength=bins)
    held = np.flatnonzero(count)
    mean_confidence, accuracy = (
        np.bincount(bin_of, values, bins)[held] / count[held] for values in (confidence, right)
    )
    return Reliability(count[held], mean_confidence, accuracy)


def calibration_error(bins: Reliability) -> float:
    """Expected calibration error: mean |accuracy − confidence| over bins, weighted by rows (Naeini et al., 2015)."""
    return float(np.average(np.abs(bins.accuracy - bins.confidence), weights=bins.rows))


def separation(right: np.ndarray, confidence: np.ndarray) -> tuple[float, tuple[float, float]] | None:
    """How often a right answer is surer than a wrong one, and the 95 % interval of that (DeLong et al., 1988).

    It is the area under the ROC curve: 1 where every right answer is surer than every wrong one, 0.5 where confidence
    says nothing.

    Args:
        right: (n,) bool; confidence: (n,) the likeliest class's probability.

    Returns:
        None with fewer than `ENOUGH` right or wrong answers: then it cannot be told.
    """
    sides = np.sort(confidence[right]), np.sort(confidence[~right])
    if min(map(len, sides)) < ENOUGH:
        return None
    # Of each answer, the share of the other side's that it is on the proper side of; a tie counts half.
    below = [
        (np.searchsorted(other, own, "left") + np.searchsorted(other, own, "right")) / 2 / len(other)
        for own, other in (sides, sides[::-1])
    ]
    area = float(below[0].mean())
    error = Z * float(np.sqrt(sum(share.var(ddof=1) / len(share) for share in below)))
    return area, (max(0.0, area - error), min(1.0, area + error))


def confused_pairs(confusion: np.ndarray, most: int = 6) -> list[tuple[int, int, int]]:
    """(true, predicted, rows) of the most frequent errors, most frequent first; equals in order of the classes.

    Args:
        confusion: (classes, classes) int, rows true, columns predicted.
        most: how many pairs at most.
    """
    errors = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = [divmod(int(i), len(errors)) for i in order]
    return [(true, predicted, int(errors[true, predicted])) for true, predicted in pairs if errors[true, predicted]]
