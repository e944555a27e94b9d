"""Statistics of a paired comparison: every model answered the same test rows. Pure functions on arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

ROUNDS = 10_000  # bootstrap rounds: the ends of a 95 % interval then move by less than 0.1 points from seed to seed
Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
DRAWN_AT_ONCE = 4_000_000  # row indices drawn in one piece: 32 MB


def resampled_means(values: np.ndarray, seed: int, rounds: int = ROUNDS) -> np.ndarray:
    """Means of rows drawn with replacement, the same draw for every column (Efron's bootstrap, paired).

    Args:
        values: (n, models) number or bool per test row, such as whether each model was right.
        seed: of the draws.
        rounds: how many times n rows are drawn.

    Returns:
        (rounds, models) float64.
    """
    random, n = np.random.default_rng(seed), len(values)
    values = values.astype(np.float64)
    means = np.empty((rounds, values.shape[1]))
    step = max(1, DRAWN_AT_ONCE // n)
    for start in range(0, rounds, step):
        k = min(step, rounds - start)
        drawn = random.integers(0, n, (k, n)) + n * np.arange(k)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=k * n).reshape(k, n)  # how often each round drew each row
        means[start : start + k] = counts @ values / n
    return means


def share_interval(right: ArrayLike, rows: ArrayLike) -> tuple[float, float]:
    """95 % interval of a share of rows, or of the mean of several independent shares, such as the recalls of classes.

    Wilson's (1927) for one share, and for more of them these put together as Zou and Donner (2008) do. The bootstrap's
    would end in a point where all rows are right: of two test images both right is anything from 34 to 100 %.

    Args:
        right: (shares,) how many rows were right.
        rows: (shares,) of how many, at least 1 each.
    """
    k, n = np.asarray(right, float), np.asarray(rows, float)
    share, centre = k / n, (k + Z**2 / 2) / (n + Z**2)
    half = Z * np.sqrt(k * (n - k) / n + Z**2 / 4) / (n + Z**2)
    below, above = share - (centre - half), centre + half - share
    low, high = share.mean() - np.linalg.norm(below) / len(n), share.mean() + np.linalg.norm(above) / len(n)
    return float(max(low, 0)), float(min(high, 1))


def interval(samples: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of bootstrap samples (rounds,)."""
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


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
