"""Statistics of a paired comparison: every model answered the same test rows. Pure functions on arrays.

Intervals of shares and of their differences are in `intervals`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from classify.comparison.intervals import Z, apart

ENOUGH = 10  # right answers and wrong ones, to say whether confidence separates them
GRID = 1 << 15  # steps that the sums of a test within classes are rounded to


def mcnemar(a: np.ndarray, b: np.ndarray, of: np.ndarray | None = None) -> float:
    """Exact two-sided p-value that two models err equally often on the same rows; 1 where they never disagree.

    Of the rows that only one of them got right, half should be either's: a binomial test (McNemar, 1947; the exact
    form is Edwards, 1948, without his correction). Where classes' shares are averaged, it is this within each class:
    each row that only one got right is either's by the toss of a coin, and counts for its class's size.

    Args:
        a, b: (n,) bool, whether each was right.
        of: (n,) int64 class of each row, where the models' mean shares over classes are compared.
    """
    from scipy.stats import binom, binomtest

    only_a, only_b, rows = apart(a, b, of)
    sizes, place = np.unique(rows, return_inverse=True)
    tosses = np.bincount(place, only_a + only_b).astype(int)
    sizes, tosses = sizes[tosses > 0], tosses[tosses > 0]
    if not len(tosses):
        return 1.0
    if len(tosses) == 1:
        return float(binomtest(round(only_a[rows == sizes].sum()), tosses[0]).pvalue)
    # The sum of tosses / size on a grid, by the product of its parts' Fourier transforms. What is less than what was
    # seen by no more than the grid's rounding counts as much: p may come out 0.001 too large, and never too small.
    unit = float((tosses / sizes).sum()) / GRID
    transformed = np.ones(GRID + 1, complex)
    for size, count in zip(sizes, tosses, strict=True):
        heads = np.arange(count + 1)
        at = np.rint(heads / size / unit).astype(int)
        transformed *= np.fft.rfft(np.bincount(at, binom.pmf(heads, count, 0.5), 2 * GRID))
    chances = np.fft.irfft(transformed)
    seen = abs(float(((only_a - only_b) / rows).sum()))
    off = np.abs(2 * np.arange(2 * GRID) - GRID) * unit
    return float(min(1.0, chances[off >= seen - len(sizes) * unit].clip(0).sum()))


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
